/* chain_sweeps.c: a chunk of samples forwards through the layers of a chain, and both adjoints backwards. */

INLINE const real *group_rows(const plan *p, int64_t group, int64_t row)
{
    int64_t d = p->chain->inputs, rows = p->chain->offsets[p->chain->agents];
    return group ? (const real *)p->chain->direction + ((group - 1) * rows + row) * d
                 : (const real *)p->chain->x + row * d;
}

/* Rows of samples as a state: x (n, stride), f->channels f->height f->width numbers of each, into `columns` columns. */
static void turn_state(const field *f, real *a, int64_t ld, const real *x, int64_t stride, int64_t n, int64_t columns)
{
    if (is_dense(f)) {
        turn(a, ld, x, stride, n, f->rows, columns);
        return;
    }
    for (int64_t i = 0; i < f->channels * f->height; i++)
        turn(a + place_of(f, i / f->height, i % f->height, 0) * ld, ld, x + i * f->width, stride, n, f->width, columns);
}

/* The input of n samples as state 0, groups side by side. */
static void load_input(const plan *p, chain_space *s, int64_t first, int64_t n, int64_t groups)
{
    int64_t width = whole_vectors(n);
    for (int64_t g = 0; g < groups; g++)
        turn_state(&p->a[0], s->a[0] + g * width, p->ld, group_rows(p, g, first), p->chain->inputs, n, width);
}

/* z = W a + bias, or z += W a where bias is NULL, of a dense layer k: columns `from` of the input to columns `to` of the
 * output. */
static void dense_product(const plan *p, chain_space *s, int64_t k, const real *packed, const bias_of *bias,
    int64_t from, int64_t to, int64_t columns)
{
    const dnn_layer *l = p->chain->layers + k;
    real *z = s->a[k + 1] + to;
    int one = bias && bias->wide * LANES == columns; /* all columns have one bias */
    if (bias && !one) fill_bias(z, bias, l->filters, columns, p->ld);
    packed_product(z, one ? bias->values : NULL, !one, packed, s->a[k] + from, l->filters, l->channels, columns, p->ld);
}

/* A dense first layer takes its input TILE_DEPTH columns at a time. Values with `packed`, then the directions with it,
 * or, where `move` is given, the values with `move` in place of directions. */
static void first_product(
    const plan *p, chain_space *s, const real *w, const real *move, int64_t first, int64_t n, int64_t groups)
{
    const dnn_layer *l = p->chain->layers;
    int64_t d = l->channels, h = l->filters, width = whole_vectors(n);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t i = 0; i < d; i += TILE_DEPTH) {
            int64_t depth = min_index(TILE_DEPTH, d - i);
            const real *bias = i ? NULL : g == 0 ? w + d * h : move ? move + d * h : NULL;
            const real *packed = g && move ? s->move[0] : s->left[0];
            turn(s->a[0], p->ld, group_rows(p, move ? 0 : g, first) + i, d, n, depth, width);
            packed_product(s->a[1] + g * width, bias, i > 0, packed + i * h, s->a[0], h, depth, width, p->ld);
        }
}

/* psi of the values, psi' times the tangents, in line j of every channel. */
static void activate_line(const field *f, int64_t j, real *a, int64_t width, int64_t groups, int64_t ld, int activation)
{
    if (activation == DNN_IDENTITY) return;
    real *row = a + place_of(f, 0, j, 0) * ld;
    for (int64_t c = 0; c < f->channels; c++, row += f->plane * ld)
        if (groups == 1 && (width == ld || f->width == 1))
            activate(row, row, f->width * width, activation);
        else
            activate_groups(row, f->width, width, groups, ld, activation);
}

/* z = B(W, a) + b and psi of it, of layer k, line by line; with `move` nabla f dw on top of Df v, or alone if the input is
 * `still`. */
static void affine_layer(
    const plan *p, chain_space *s, int64_t k, const real *w, const real *move, int still, int64_t width, int64_t groups)
{
    const dnn_layer *l = p->chain->layers + k;
    const field *in = &p->a[k], *out = &p->a[k + 1];
    const int64_t biases = p->start[k] + l->filters * terms_of(l), columns = still ? width : width * groups, ld = p->ld;
    const bias_of bias = {w + biases, move ? move + biases : NULL, width / LANES, columns / LANES};
    const bias_of alone = {bias.others, NULL, width / LANES, width / LANES}, *beside = still ? &alone : NULL;
    real *z = s->a[k + 1];
    for (int64_t j = 0; j < out->height; j++) {
        if (l->kind == DNN_DENSE) {
            dense_product(p, s, k, s->left[k], &bias, 0, 0, columns);
            if (move) dense_product(p, s, k, s->move[k], beside, 0, width, width);
        } else {
            const int64_t *places = p->places[k];
            conv_forward(l, in, out, j, z, &bias, 0, s->left[k], places, s->a[k], columns, ld);
            if (move) conv_forward(l, in, out, j, z + width, beside, !still, s->move[k], places, s->a[k], width, ld);
        }
        activate_line(out, j, z, width, groups, ld, (int)l->activation);
    }
}

/* All states of n samples. Groups beside the values: the directions of the inputs, or one along `move` in the weights.
 * Shapes: w, move (P). Serial. */
static void forward_chain(
    const plan *p, chain_space *s, const real *w, const real *move, int64_t first, int64_t n, int64_t groups)
{
    int64_t width = whole_vectors(n), columns = width * groups, ld = p->ld;
    if (p->whole_input) load_input(p, s, first, n, move ? 1 : groups);
    for (int64_t k = 0; k < p->chain->n_layers; k++) {
        const dnn_layer *l = p->chain->layers + k;
        const field *in = &p->a[k], *out = &p->a[k + 1];
        int still = k == 0 && move != NULL; /* the input does not move with the weights */
        if (still && !has_weights(l))
            for (int64_t r = 0; r < in->rows; r++) memset(s->a[0] + r * ld + width, 0, (size_t)width * sizeof(real));
        if (k == 0 && !p->whole_input) {
            first_product(p, s, w, move, first, n, groups);
            activate_line(out, 0, s->a[1], width, groups, ld, (int)l->activation);
        } else if (has_weights(l)) {
            affine_layer(p, s, k, w, move, still, width, groups);
        } else if (l->kind == DNN_AVERAGE)
            average_forward(l, in, out, s->a[k + 1], s->a[k], columns, ld);
        else if (l->kind == DNN_MAX)
            max_forward(l, in, out, s->a[k + 1], s->a[k], width, groups, ld);
        else {
            add_state(out, in, s->a[k + 1], s->a[k], 0, columns, ld);
            add_state(out, &p->a[l->from], s->a[k + 1], s->a[l->from], 1, l->from || !move ? columns : width, ld);
        }
    }
}

/* The sums of a dense layer: what they were, or 0, + dz x' + sum_g du_g v_g'. */
static void add_dense(const plan *p, chain_space *s, int64_t k, int keep, int64_t first, int64_t n, int64_t groups)
{
    const dnn_layer *l = p->chain->layers + k;
    int64_t d = l->channels, h = l->filters, width = whole_vectors(n), padded = whole_vectors(d), ld = p->ld;
    int held = k > 0 || p->whole_input;
    add_rows(s->sum[k] + sum_size(d, h), keep, s->d[k + 1], h, width, ld);
    if (by_lanes(d, h) && (held || groups == 1)) {
        lane_dots(s->sum[k], keep, s->a[k], s->d[k + 1], d, h, width * groups / LANES, ld);
        return;
    }
    for (int64_t g = 0; g < groups; g++, keep = 1) {
        const real *delta = s->d[k + 1] + g * width, *x = group_rows(p, g, first);
        if (by_lanes(d, h)) { /* the input is not held: one group after another */
            turn(s->a[k], ld, x, d, n, d, width);
            lane_dots(s->sum[k], keep, s->a[k], delta, d, h, width / LANES, ld);
            continue;
        }
        real *rows = s->rows[0], *last = s->rows[1];
        if (held || 2 * d < padded) { /* in x a vector at the last row but one would reach beyond the last */
            if (held)
                turn(rows, padded, s->a[k] + g * width, ld, d, n, padded);
            else
                for (int64_t m = 0; m < n; m++) {
                    memcpy(rows + m * padded, x + m * d, (size_t)d * sizeof(real));
                    memset(rows + m * padded + d, 0, (size_t)(padded - d) * sizeof(real));
                }
            outer_product(s->sum[k], padded, keep, delta, ld, rows, padded, h, n, padded);
            continue;
        }
        memcpy(
            last, x + (n - 1) * d, (size_t)d * sizeof(real)); /* a whole vector at the end of x would reach beyond it */
        memset(last + d, 0, (size_t)(padded - d) * sizeof(real));
        outer_product(s->sum[k], padded, keep, delta + n - 1, ld, last, padded, h, 1, padded);
        outer_product(s->sum[k], padded, 1, delta, ld, x, d, h, n - 1, padded);
    }
}

/* psi' of the layer on line j of the deltas behind it: h and t. */
static void slope_line(const plan *p, chain_space *s, int64_t k, int64_t j, int64_t width, int64_t groups)
{
    const field *a = &p->a[k + 1], *d = &p->d[k + 1];
    int activation = (int)p->chain->layers[k].activation;
    if (activation == DNN_IDENTITY) return;
    real *delta = s->d[k + 1] + place_of(d, 0, j, 0) * p->ld;
    const real *row = s->a[k + 1] + place_of(a, 0, j, 0) * p->ld;
    for (int64_t c = 0; c < a->channels; c++, row += a->plane * p->ld, delta += d->plane * p->ld)
        if (groups == 1 && (width == p->ld || a->width == 1))
            times_slope(delta, row, row, a->width * width, activation);
        else
            both_slopes(delta, row, a->width, width, groups, p->ld, activation);
}

/* sum (O, LANES) = (sum or 0) + the pixels of line j of every channel, lane by lane. */
static void add_pixels(real *sum, int keep, const real *delta, const field *f, int64_t j, int64_t columns, int64_t ld)
{
    for (int64_t o = 0; o < f->channels; o++, sum += LANES) {
        vector even = keep ? load(sum) : (vector){0}, odd = {0};
        const real *row = delta + place_of(f, o, j, 0) * ld;
        for (int64_t x = 0; x < f->width; x++, row += ld) {
            int64_t m = 0;
            for (; m + 2 * LANES <= columns; m += 2 * LANES) even += load(row + m), odd += load(row + m + LANES);
            if (m < columns) even += load(row + m);
        }
        store(sum, even + odd);
    }
}

/* The sums of a convolution, line by line. */
static void add_conv(const plan *p, chain_space *s, int64_t k, int keep, int64_t width, int64_t groups)
{
    const dnn_layer *l = p->chain->layers + k;
    const field *in = &p->a[k], *d = &p->d[k + 1];
    real *biases = s->sum[k] + l->filters * terms_of(l) * LANES;
    for (int64_t j = 0; j < d->height; j++, keep = 1) {
        slope_line(p, s, k, j, width, groups);
        add_pixels(biases, keep, s->d[k + 1], d, j, width, p->ld);
        conv_weight_adjoint(l, in, d, j, s->sum[k], keep, s->d[k + 1], s->a[k], p->places[k], width * groups, p->ld);
    }
}

/* Both adjoints backwards, after forward_chain and with the seeds in the deltas of the last state. Serial. */
static void backward_chain(const plan *p, chain_space *s, int keep, int64_t first, int64_t n, int64_t groups)
{
    int64_t width = whole_vectors(n), columns = width * groups, ld = p->ld;
    for (int64_t k = p->chain->n_layers; k-- > 0;) {
        const dnn_layer *l = p->chain->layers + k;
        const field *in = &p->a[k], *h = &p->d[k], *behind = &p->d[k + 1];
        if (l->kind == DNN_CONV) add_conv(p, s, k, keep, width, groups);
        if (l->kind == DNN_DENSE) {
            slope_line(p, s, k, 0, width, groups);
            add_dense(p, s, k, keep, first, n, groups);
        }
        if (k == 0) break;
        if (l->kind == DNN_AVERAGE || l->kind == DNN_MAX)
            for (int64_t c = 0; c < h->channels * h->height; c++)
                memset(s->d[k] + place_of(h, c / h->height, c % h->height, 0) * ld, 0,
                    (size_t)(h->width * ld) * sizeof(real));
        if (l->kind == DNN_DENSE) {
            real *flat = is_dense(h) ? s->d[k] : s->flat;
            packed_product(flat, NULL, 0, s->back[k], s->d[k + 1], l->channels, l->filters, columns, ld);
            if (flat != s->d[k]) add_state(h, in, s->d[k], flat, 0, columns, ld);
        } else if (l->kind == DNN_CONV)
            conv_state_adjoint(
                l, h, behind, s->d[k], s->back[k], p->back_places[k], p->back_ends[k], s->d[k + 1], columns, ld);
        else if (l->kind == DNN_AVERAGE)
            average_adjoint(l, h, behind, s->d[k], s->d[k + 1], columns, ld);
        else if (l->kind == DNN_MAX)
            max_adjoint(
                l, in, &p->a[k + 1], h, behind, s->d[k], s->d[k + 1], s->a[k + 1], s->a[k], s->free, width, groups, ld);
        else
            add_state(h, behind, s->d[k], s->d[k + 1], 0, columns, ld);
        for (int64_t j = k; j < p->chain->n_layers; j++)
            if (p->chain->layers[j].kind == DNN_ADD && p->chain->layers[j].from == k)
                add_state(h, &p->d[j + 1], s->d[k], s->d[j + 1], 1, columns, ld);
    }
}
