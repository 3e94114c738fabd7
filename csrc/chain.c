/* chain.c: chains of the layers of layers.c: values, derivatives along weights and inputs, gradients with one or two
 * adjoints.
 *
 * Rows are taken in chunks, and panels of a few chunks are what a thread takes; the sums of a panel are added in the
 * order of agents and panels. Both sizes follow from the layers alone: no bit depends on `threads`.
 */

enum { CHAIN_BYTES = 1 << 20, CHAIN_PANEL = 64 }; /* of a chunk with images; rows of a panel, if chunks are short */

typedef struct { /* what follows from the chain, the same for all threads */
    const dnn_chain *chain;
    int64_t groups, outputs, chunk_rows, panel_rows, most, ld, n_panels, flat_rows;
    int whole_input; /* the input is held as a state; else a dense first layer takes it piece by piece */
    field a[DNN_MAX_LAYERS + 1], d[DNN_MAX_LAYERS + 1]; /* values, deltas */
    int64_t start[DNN_MAX_LAYERS + 1]; /* of the weights in the flat row */
    int64_t *places[DNN_MAX_LAYERS], *back_places[DNN_MAX_LAYERS], *back_index[DNN_MAX_LAYERS];
    int64_t *back_ends[DNN_MAX_LAYERS];
    int64_t *first_panel; /* (A + 1) */
} plan;

typedef struct { /* of one thread */
    const real *packed, *packed_move; /* the weights and directions that stand in tiles */
    real *left[DNN_MAX_LAYERS], *move[DNN_MAX_LAYERS], *back[DNN_MAX_LAYERS];
    real *a[DNN_MAX_LAYERS + 1], *d[DNN_MAX_LAYERS + 1], *sum[DNN_MAX_LAYERS];
    real *rows[2]; /* (samples, widest dense input or Q, padded) */
    real *flat; /* (flat_rows, ld): deltas of a state that is kept with a border */
    real *free; /* (samples) */
    real *partial; /* (P) */
    double *value; /* (samples) */
} chain_space;

typedef struct chain_job {
    const plan *p;
    real *out; /* (A, P), or NULL */
    double *value, *term; /* (A), or NULL */
    void (*panel)(
        const struct chain_job *, chain_space *, int64_t agent, int64_t first, int64_t stop, real *out, double sums[2]);
    real *map, *tangent; /* (M, Q), (K, M, Q): what a map writes */
    const real *target, *weight, *u, *t, *beta, *v; /* rows of data; t, beta (K, M, Q); v (A, P) */
    double param, scale, mu;
    int loss;
} chain_job;

static void shape_behind(const dnn_layer *l, int64_t shape[2])
{
    const int64_t before[2] = {l->height, l->width};
    for (int i = 0; i < 2; i++)
        shape[i] = l->kind == DNN_DENSE ? 1
                   : l->kind == DNN_ADD
                       ? before[i]
                       : (before[i] + 2 * l->padding[i] - l->dilation[i] * (l->size[i] - 1) - 1) / l->stride[i] + 1;
}

/* Fields and sizes; `groups` columns for every sample. */
static void lay_out(plan *p, const dnn_chain *chain, int64_t groups)
{
    const dnn_layer *layers = chain->layers;
    int64_t none[2] = {0, 0}, n = chain->n_layers, numbers = 0, dense_only = 1;
    p->chain = chain, p->groups = groups, p->whole_input = layers[0].kind != DNN_DENSE;
    p->start[0] = p->flat_rows = 0;
    for (int64_t k = 0; k < n; k++) {
        const dnn_layer *l = layers + k;
        int64_t before[2] = {l->height, l->width}, behind[2], low[2] = {0, 0}, high[2] = {0, 0};
        shape_behind(l, behind);
        if (k == 0) p->a[0] = p->d[0] = make_field(l->channels, before, none, none);
        const int64_t shape[2] = {p->a[k].height, p->a[k].width}; /* as the layer before left it */
        p->a[k] = make_field(p->a[k].channels, shape, l->padding, l->padding);
        if (k && l->kind == DNN_CONV) delta_border(l, behind, low, high);
        p->d[k + 1] = make_field(l->filters, behind, low, high);
        p->a[k + 1] = make_field(l->filters, behind, none, none);
        p->start[k + 1] = p->start[k] + (has_weights(l) ? l->filters * (terms_of(l) + 1) : 0);
        if (l->kind == DNN_ADD && l->from == 0) p->whole_input = 1;
        dense_only = dense_only && (l->kind == DNN_DENSE || l->kind == DNN_ADD);
        numbers += p->d[k + 1].rows + (k ? p->a[k].rows : 0);
        if (k && l->kind == DNN_DENSE && !is_dense(&p->d[k])) p->flat_rows = max_index(p->flat_rows, p->d[k].rows);
    }
    p->outputs = layers[n - 1].filters * p->a[n].height * p->a[n].width;
    numbers += p->outputs + (p->whole_input ? p->a[0].rows : min_index(p->a[0].rows, TILE_DEPTH));
    int64_t bytes = numbers * groups * (int64_t)sizeof(real), tile = TILE_VECTORS * LANES;
    if (dense_only) { /* as the multilayer perceptron, see gradient_rows */
        int64_t rows = GRADIENT_BYTES / bytes / tile * tile;
        p->chunk_rows = min_index(GRADIENT_MOST / tile * tile, max_index(2 * tile, rows));
        p->panel_rows = p->chunk_rows * PANEL_CHUNKS;
    } else {
        p->chunk_rows = min_index(GRADIENT_MOST, max_index(LANES, CHAIN_BYTES / bytes / LANES * LANES));
        p->panel_rows = p->chunk_rows * min_index(PANEL_CHUNKS, ceil_div(CHAIN_PANEL, p->chunk_rows));
    }
    p->most = 0;
    for (int64_t i = 0; i < chain->agents; i++) p->most = max_index(p->most, chain->offsets[i + 1] - chain->offsets[i]);
    p->most = min_index(p->most, p->chunk_rows);
    p->ld = ceil_div(p->most, LANES) * groups;
    p->ld = (dense_only ? p->ld | 1 : max_index(p->ld, 1)) * LANES; /* odd, see cut_tiles; images need no gaps */
}

/* Lists of rows for every convolution, and the panels of every agent; only measured where work starts at NULL. */
static void list_rows(plan *p, char **work)
{
    int fill = *work != NULL;
    const dnn_chain *chain = p->chain;
    p->first_panel = carve(work, chain->agents + 1, sizeof(int64_t));
    for (int64_t k = 0; k < chain->n_layers; k++) {
        const dnn_layer *l = chain->layers + k;
        if (l->kind != DNN_CONV) continue;
        int64_t terms = terms_of(l), area = l->size[0] * l->size[1], n = 0, number = 0;
        p->places[k] = carve(work, terms, sizeof(int64_t));
        p->back_places[k] = carve(work, l->filters * area, sizeof(int64_t));
        p->back_index[k] = carve(work, l->filters * area, sizeof(int64_t));
        p->back_ends[k] = carve(work, l->stride[0] * l->stride[1], sizeof(int64_t));
        if (!fill) continue;
        for (int64_t i = 0; i < terms; i++)
            p->places[k][i] = p->ld
                              * (i / area * p->a[k].plane + i % area / l->size[1] * l->dilation[0] * p->a[k].pitch
                                  + i % l->size[1] * l->dilation[1]);
        const field *d = &p->d[k + 1];
        for (int64_t cy = 0; cy < l->stride[0]; cy++)
            for (int64_t cx = 0; cx < l->stride[1]; cx++) {
                for (int64_t i = 0; i < l->filters * area; i++) {
                    int64_t o = i / area, y = i % area / l->size[1], x = i % l->size[1];
                    if (!class_sees(l, 0, cy, y) || !class_sees(l, 1, cx, x)) continue;
                    p->back_index[k][n] = o * terms + i % area;
                    p->back_places[k][n++] =
                        p->ld * (o * d->plane + shift_of(l, 0, cy, y) * d->pitch + shift_of(l, 1, cx, x));
                }
                p->back_ends[k][number++] = n;
            }
    }
    if (!fill) return;
    p->first_panel[0] = 0;
    for (int64_t i = 0; i < chain->agents; i++)
        p->first_panel[i + 1] = p->first_panel[i] + ceil_div(chain->offsets[i + 1] - chain->offsets[i], p->panel_rows);
    p->n_panels = p->first_panel[chain->agents];
}

/* The space of one thread, cut from *work. */
static void cut_chain(chain_space *s, const plan *p, char **work)
{
    const dnn_chain *chain = p->chain;
    int64_t widest = p->outputs;
    s->packed = s->packed_move = NULL;
    for (int64_t k = 0; k <= chain->n_layers; k++) {
        int64_t held = k ? p->a[k].rows : p->whole_input ? p->a[0].rows : min_index(p->a[0].rows, TILE_DEPTH);
        s->a[k] = carve(work, held * p->ld, sizeof(real));
        s->d[k] = carve(work, k ? p->d[k].rows * p->ld : 0, sizeof(real));
        if (k == chain->n_layers) break;
        const dnn_layer *l = chain->layers + k;
        int64_t h = l->filters, terms = terms_of(l), weights = has_weights(l) ? h * terms : 0;
        int64_t sums = l->kind == DNN_DENSE ? sum_size(terms, h) : weights * LANES;
        if (l->kind == DNN_DENSE) widest = max_index(widest, whole_vectors(terms));
        s->left[k] = carve(work, weights, sizeof(real));
        s->move[k] = carve(work, weights, sizeof(real));
        s->back[k] = carve(work, k ? weights : 0, sizeof(real));
        s->sum[k] = carve(work, has_weights(l) ? sums + h * LANES : 0, sizeof(real));
    }
    for (int j = 0; j < 2; j++) s->rows[j] = carve(work, max_index(p->most, 1) * whole_vectors(widest), sizeof(real));
    s->flat = carve(work, p->flat_rows * p->ld, sizeof(real));
    s->free = carve(work, whole_vectors(p->most), sizeof(real));
    s->partial = carve(work, chain->params, sizeof(real));
    s->value = carve(work, p->most, sizeof(double));
}

static size_t space_bytes(const plan *p)
{
    chain_space s;
    char *next = NULL;
    cut_chain(&s, p, &next);
    return (size_t)(uintptr_t)next;
}

static size_t chain_work(const dnn_chain *chain, int threads)
{
    plan p;
    char *next = NULL;
    int64_t most = 0, groups[3] = {1, 2, 1 + chain->n_directions}; /* values; those of chain_jv; with all directions */
    for (int i = 0; i < 3; i++) { /* fewer groups, longer chunks: any of them may need the most */
        lay_out(&p, chain, groups[i]);
        most = max_index(most, (int64_t)space_bytes(&p));
    }
    list_rows(&p, &next);
    return (size_t)(uintptr_t)next + (size_t)most * (size_t)threads + 64;
}

/* The weights of one agent in tiles, for one direction of the sweep; w may be a direction of the weights. */
static void pack_forward(const plan *p, real *const *left, const real *w)
{
    for (int64_t k = 0; k < p->chain->n_layers; k++) {
        const dnn_layer *l = p->chain->layers + k;
        const real *own = w + p->start[k];
        if (l->kind == DNN_DENSE) pack_tiles(left[k], own, l->filters, l->channels, 1, l->filters);
        if (l->kind == DNN_CONV) pack_tiles(left[k], own, l->filters, terms_of(l), terms_of(l), 1);
    }
}

static void pack_backward(const plan *p, real *const *back, const real *w)
{
    for (int64_t k = 1; k < p->chain->n_layers; k++) {
        const dnn_layer *l = p->chain->layers + k;
        const real *own = w + p->start[k];
        if (l->kind == DNN_DENSE) pack_tiles(back[k], own, l->channels, l->filters, l->filters, 1);
        if (l->kind != DNN_CONV) continue;
        for (int64_t number = 0, start = 0; number < l->stride[0] * l->stride[1]; number++) {
            int64_t stop = p->back_ends[k][number];
            pack_listed(back[k] + start * l->channels, own, l->channels, stop - start, l->size[0] * l->size[1],
                p->back_index[k] + start);
            start = stop;
        }
    }
}

/* Zeros in the border of a state, which nothing else writes. */
static void clear_border(const field *f, real *a, int64_t ld)
{
    if (is_dense(f)) return;
    for (int64_t c = 0; c < f->channels; c++)
        for (int64_t i = 0; i < f->plane; i++) {
            int64_t y = i / f->pitch - f->low[0], x = i % f->pitch - f->low[1];
            if (y < 0 || y >= f->height || x < 0 || x >= f->width)
                memset(a + (c * f->plane + i) * ld, 0, (size_t)ld * sizeof(real));
        }
}

static void begin_panel(const plan *p, chain_space *s, const real *w, int backward)
{
    for (int64_t k = p->whole_input ? 0 : 1; k <= p->chain->n_layers; k++) {
        clear_border(&p->a[k], s->a[k], p->ld);
        if (k && backward) clear_border(&p->d[k], s->d[k], p->ld);
    }
    if (s->packed == w) return;
    s->packed = w;
    pack_forward(p, s->left, w);
    if (backward) pack_backward(p, s->back, w);
}

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

/* z (or z +) = W a + b of layer k: columns `from` of the input to columns `to` of the output. */
static void layer_product(const plan *p, chain_space *s, int64_t k, const real *packed, const real *bias, int keep,
    int64_t from, int64_t to, int64_t columns)
{
    const dnn_layer *l = p->chain->layers + k;
    if (l->kind == DNN_DENSE)
        packed_product(s->a[k + 1] + to, bias, keep, packed, s->a[k] + from, l->filters, l->channels, columns, p->ld);
    else
        conv_forward(l, &p->a[k], &p->a[k + 1], s->a[k + 1] + to, bias, keep, packed, p->places[k], s->a[k] + from,
            columns, p->ld);
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

/* psi of the values, psi' times the tangents. */
static void activate_state(const field *f, real *a, int64_t width, int64_t groups, int64_t ld, int activation)
{
    if (activation == DNN_IDENTITY) return;
    if (groups == 1 && is_dense(f)) {
        activate_rows(a, a, f->rows, width, ld, activation);
        return;
    }
    for (int64_t i = 0; i < f->channels * f->height; i++) {
        real *row = a + place_of(f, i / f->height, i % f->height, 0) * ld;
        if (groups == 1 && width == ld) {
            activate(row, row, f->width * ld, activation);
            continue;
        }
        for (int64_t x = 0; x < f->width; x++, row += ld) {
            activate(row, row, width, activation);
            for (int64_t g = 1; g < groups; g++) times_slope(row + g * width, row, row, width, activation);
        }
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
        if (k == 0 && !p->whole_input)
            first_product(p, s, w, move, first, n, groups);
        else if (has_weights(l)) {
            const int64_t biases = p->start[k] + l->filters * terms_of(l);
            layer_product(p, s, k, s->left[k], w + biases, 0, 0, 0, width);
            if (move) layer_product(p, s, k, s->move[k], move + biases, 0, 0, width, width);
            if (groups > 1 && !still)
                layer_product(p, s, k, s->left[k], NULL, move != NULL, width, width, columns - width);
        } else if (l->kind == DNN_AVERAGE)
            average_forward(l, in, out, s->a[k + 1], s->a[k], columns, ld);
        else if (l->kind == DNN_MAX)
            max_forward(l, in, out, s->a[k + 1], s->a[k], width, groups, ld);
        else {
            add_state(out, in, s->a[k + 1], s->a[k], 0, columns, ld);
            add_state(out, &p->a[l->from], s->a[k + 1], s->a[l->from], 1, l->from || !move ? columns : width, ld);
        }
        if (has_weights(l)) activate_state(out, s->a[k + 1], width, groups, ld, (int)l->activation);
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

/* h and t of layer k from those behind it, of the activation first. */
static void slope_state(const plan *p, chain_space *s, int64_t k, int64_t width, int64_t groups)
{
    const field *a = &p->a[k + 1], *d = &p->d[k + 1];
    int activation = (int)p->chain->layers[k].activation;
    if (activation == DNN_IDENTITY) return;
    if (groups == 1 && is_dense(a) && is_dense(d)) {
        slope_rows(s->d[k + 1], s->a[k + 1], s->a[k + 1], a->rows, width, p->ld, activation);
        return;
    }
    for (int64_t i = 0; i < a->channels * a->height; i++) {
        real *delta = s->d[k + 1] + place_of(d, i / a->height, i % a->height, 0) * p->ld;
        const real *row = s->a[k + 1] + place_of(a, i / a->height, i % a->height, 0) * p->ld;
        if (groups == 1 && width == p->ld) {
            times_slope(delta, row, row, a->width * width, activation);
            continue;
        }
        for (int64_t x = 0; x < a->width; x++, row += p->ld, delta += p->ld)
            both_slopes(delta, row, width, groups, activation);
    }
}

/* Both adjoints backwards, after forward_chain and with the seeds in the deltas of the last state. Serial. */
static void backward_chain(const plan *p, chain_space *s, int keep, int64_t first, int64_t n, int64_t groups)
{
    int64_t width = whole_vectors(n), columns = width * groups, ld = p->ld;
    for (int64_t k = p->chain->n_layers; k-- > 0;) {
        const dnn_layer *l = p->chain->layers + k;
        const field *in = &p->a[k], *h = &p->d[k], *behind = &p->d[k + 1];
        if (has_weights(l)) slope_state(p, s, k, width, groups);
        if (l->kind == DNN_DENSE) add_dense(p, s, k, keep, first, n, groups);
        if (l->kind == DNN_CONV) {
            real *biases = s->sum[k] + l->filters * terms_of(l) * LANES;
            add_pixels(biases, keep, s->d[k + 1], behind, width, ld);
            conv_weight_adjoint(l, in, behind, s->sum[k], keep, s->d[k + 1], s->a[k], p->places[k], columns, ld);
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

/* Row m of the output of one group. Shapes: out (n, Q). */
static void write_outputs(const plan *p, const chain_space *s, int64_t group, int64_t n, real *out)
{
    const real *last = s->a[p->chain->n_layers] + group * whole_vectors(n);
    turn(out, p->outputs, last, p->ld, p->outputs, n, p->outputs);
}

/* The loss of n samples, weighted, into *value, and its derivative, scaled, in delta. */
static void loss_seed(const chain_job *j, const chain_space *s, int64_t first, int64_t n, real *delta, double *value)
{
    const plan *p = j->p;
    int64_t outputs = p->outputs, last = p->chain->n_layers;
    real *f = s->rows[0], *slope = s->rows[1], scale = (real)j->scale;
    write_outputs(p, s, 0, n, f);
    loss_value_grad(s->value, slope, f, j->target + first * outputs, n, outputs, j->loss, j->param);
    const real *weight = j->weight ? j->weight + first : NULL;
    *value += weighted_sum(s->value, weight, n);
    for (int64_t m = 0; m < n; m++)
        for (int64_t q = 0; q < outputs; q++) slope[m * outputs + q] *= weight ? scale * weight[m] : scale;
    turn_state(&p->d[last], delta, p->ld, slope, outputs, n, n);
}

/* c_m |v - beta_m|^2 of n samples of one group into *term, and its derivative, scaled by mu, in delta. */
static void tangent_seed(
    const chain_job *j, const chain_space *s, int64_t group, int64_t first, int64_t n, real *delta, double *term)
{
    const plan *p = j->p;
    int64_t outputs = p->outputs, last = p->chain->n_layers, rows = p->chain->offsets[p->chain->agents];
    real *v = s->rows[0], scale = (real)(j->scale * j->mu);
    const real *beta = j->beta ? j->beta + ((group - 1) * rows + first) * outputs : NULL;
    const real *weight = j->weight ? j->weight + first : NULL;
    write_outputs(p, s, group, n, v);
    for (int64_t m = 0; m < n; m++) {
        double sum = 0, c = weight ? (double)weight[m] : 1;
        for (int64_t q = 0; q < outputs; q++) {
            real r = beta ? v[m * outputs + q] - beta[m * outputs + q] : v[m * outputs + q];
            sum += (double)r * (double)r;
            v[m * outputs + q] = (weight ? scale * weight[m] : scale) * r;
        }
        *term += c * sum;
    }
    turn_state(&p->d[last], delta, p->ld, v, outputs, n, n);
}

/* The deltas behind the last layer, groups side by side; columns that pad a group are zero. */
static void seed_chunk(
    const chain_job *j, const chain_space *s, int64_t first, int64_t n, int64_t groups, double sums[2])
{
    const plan *p = j->p;
    int64_t width = whole_vectors(n), outputs = p->outputs, last = p->chain->n_layers, ld = p->ld;
    int64_t rows = p->chain->offsets[p->chain->agents];
    for (int64_t g = 0; g < groups; g++) {
        real *delta = s->d[last] + g * width;
        if (g == 0 && j->u)
            turn_state(&p->d[last], delta, ld, j->u + first * outputs, outputs, n, n);
        else if (g == 0)
            loss_seed(j, s, first, n, delta, &sums[0]);
        else if (j->u)
            turn_state(&p->d[last], delta, ld, j->t + ((g - 1) * rows + first) * outputs, outputs, n, n);
        else
            tangent_seed(j, s, g, first, n, delta, &sums[1]);
        for (int64_t r = 0; r < p->d[last].rows; r++)
            for (int64_t m = n; m < width; m++) delta[r * ld + m] = 0;
    }
}

/* The sums in the flat layout. Shapes: out (P). Serial. */
static void unpack_chain(const plan *p, const chain_space *s, real *out)
{
    for (int64_t k = 0; k < p->chain->n_layers; k++) {
        const dnn_layer *l = p->chain->layers + k;
        int64_t d = terms_of(l), h = l->filters;
        real *own = out + p->start[k];
        if (!has_weights(l)) continue;
        if (l->kind == DNN_CONV || by_lanes(d, h))
            sum_of_lanes(own, s->sum[k], (d + 1) * h);
        else {
            turn(own, h, s->sum[k], whole_vectors(d), h, d, h);
            sum_of_lanes(own + d * h, s->sum[k] + sum_size(d, h), h);
        }
    }
}

INLINE const real *chain_weights(const dnn_chain *c, int64_t agent) { return (const real *)c->w + agent * c->w_step; }

static void chain_gradient_panel(
    const chain_job *j, chain_space *s, int64_t agent, int64_t first, int64_t stop, real *out, double sums[2])
{
    const plan *p = j->p;
    const real *w = chain_weights(p->chain, agent);
    begin_panel(p, s, w, out != NULL);
    for (int keep = 0; first < stop; first += p->chunk_rows, keep = 1) {
        int64_t n = min_index(stop - first, p->chunk_rows);
        forward_chain(p, s, w, NULL, first, n, p->groups);
        seed_chunk(j, s, first, n, p->groups, sums);
        if (out) backward_chain(p, s, keep, first, n, p->groups);
    }
    if (out) unpack_chain(p, s, out);
}

/* Values and derivatives of a panel into map and tangent. */
static void chain_map_panel(
    const chain_job *j, chain_space *s, int64_t agent, int64_t first, int64_t stop, real *out, double sums[2])
{
    const plan *p = j->p;
    const real *w = chain_weights(p->chain, agent), *move = j->v ? j->v + agent * p->chain->params : NULL;
    int64_t outputs = p->outputs, rows = p->chain->offsets[p->chain->agents];
    (void)out, (void)sums;
    begin_panel(p, s, w, 0);
    if (move && s->packed_move != move) pack_forward(p, s->move, move);
    s->packed_move = move;
    for (; first < stop; first += p->chunk_rows) {
        int64_t n = min_index(stop - first, p->chunk_rows);
        forward_chain(p, s, w, move, first, n, p->groups);
        if (j->map) write_outputs(p, s, 0, n, j->map + first * outputs);
        for (int64_t g = 1; j->tangent && g < p->groups; g++)
            write_outputs(p, s, g, n, j->tangent + ((g - 1) * rows + first) * outputs);
    }
}

/* Panel number t of all agents; what it adds up to goes to *value, *term and `out`, or to s->partial if it is not the
 * first of its agent. Returns the agent. */
static int64_t run_panel(const chain_job *j, chain_space *s, int64_t t, double sums[2])
{
    const plan *p = j->p;
    int64_t agent = 0, stop = p->chain->agents;
    while (stop - agent > 1) { /* the last agent whose first panel is t or before */
        int64_t middle = (agent + stop) / 2;
        if (p->first_panel[middle] <= t)
            agent = middle;
        else
            stop = middle;
    }
    int64_t panel = t - p->first_panel[agent], first = p->chain->offsets[agent] + panel * p->panel_rows;
    real *out = j->out ? panel ? s->partial : j->out + agent * p->chain->params : NULL;
    sums[0] = sums[1] = 0;
    j->panel(j, s, agent, first, min_index(p->chain->offsets[agent + 1], first + p->panel_rows), out, sums);
    return agent;
}

/* Called in the order of t. */
static void add_chain_panel(const chain_job *j, const chain_space *s, int64_t t, int64_t agent, const double sums[2])
{
    const plan *p = j->p;
    if (j->value) j->value[agent] += j->scale * sums[0];
    if (j->term) j->term[agent] += 0.5 * j->scale * j->mu * sums[1];
    if (j->out && t > p->first_panel[agent]) axpy(j->out + agent * p->chain->params, 1, s->partial, p->chain->params);
}

/* A guess of the microseconds of one forward sweep, at 30 flops per ns. */
static double guess_chain(const plan *p)
{
    double flops = 0, rows = (double)(p->chain->offsets[p->chain->agents]);
    for (int64_t k = 0; k < p->chain->n_layers; k++)
        flops += 2.0 * (double)((terms_of(p->chain->layers + k) + 10) * p->d[k + 1].channels)
                 * (double)(p->a[k + 1].height * p->a[k + 1].width);
    return rows * (double)p->groups * flops / 30e3;
}

/* All panels of all agents. Panels are parallel, their sums are added in order. */
static void run_chain(const dnn_chain *chain, chain_job *j, int64_t groups, double sweeps, int threads, void *work)
{
    plan p;
    char *next = work;
    lay_out(&p, chain, groups);
    list_rows(&p, &next);
    j->p = &p;
    size_t bytes = space_bytes(&p);
    for (int64_t i = 0; i < chain->agents; i++) {
        if (j->value) j->value[i] = 0;
        if (j->term) j->term[i] = 0;
        if (j->out && chain->offsets[i + 1] == chain->offsets[i])
            memset(j->out + i * chain->params, 0, (size_t)chain->params * sizeof(real));
    }
    int team = (int)min_index(team_size(threads, sweeps * guess_chain(&p)), p.n_panels);
    if (team <= 1) {
        chain_space s;
        cut_chain(&s, &p, &next);
        for (int64_t t = 0; t < p.n_panels; t++) {
            double sums[2];
            int64_t agent = run_panel(j, &s, t, sums);
            add_chain_panel(j, &s, t, agent, sums);
        }
        return;
    }
#pragma omp parallel num_threads(team)
    {
        chain_space s;
        char *mine = next + bytes * (size_t)thread_number();
        cut_chain(&s, &p, &mine);
#pragma omp for ordered schedule(dynamic, 1)
        for (int64_t t = 0; t < p.n_panels; t++) {
            double sums[2];
            int64_t agent = run_panel(j, &s, t, sums);
#pragma omp ordered
            add_chain_panel(j, &s, t, agent, sums);
        }
    }
}

/* out_m = F(w_i; x_m), tangent_km = DF(x_m) v_km. Shapes: out (M, Q), tangent (K, M, Q) or NULL. Aliasing: none.
 * Panels are parallel. */
static void chain_forward(void *out, void *tangent, const dnn_chain *chain, int threads, void *work)
{
    chain_job j = {.panel = chain_map_panel, .map = out, .tangent = tangent};
    run_chain(chain, &j, tangent ? 1 + chain->n_directions : 1, 1, threads, work);
}

/* out_m = nabla F(w_i; x_m) v_i. Shapes: out (M, Q), v (A, P). Aliasing: none. Panels are parallel. */
static void chain_jv(void *out, const dnn_chain *chain, const void *v, int threads, void *work)
{
    chain_job j = {.panel = chain_map_panel, .tangent = out, .v = v};
    run_chain(chain, &j, 2, 1.5, threads, work);
}

/* out_i = the gradient of sum_m <u_m, F(w_i; x_m)> + sum_km <t_km, DF(x_m) v_km> in w_i. Shapes: out (A, P), u (M, Q),
 * t (K, M, Q) or NULL for the first sum alone. Aliasing: none. Panels are parallel, their sums are added in order. */
static void chain_jtu(void *out, const dnn_chain *chain, const void *u, const void *t, int threads, void *work)
{
    chain_job j = {.panel = chain_gradient_panel, .out = out, .u = u, .t = t};
    run_chain(chain, &j, t ? 1 + chain->n_directions : 1, 3, threads, work);
}

/* value_i = scale sum_m c_m loss(d_m, F(w_i; x_m)), term_i = scale mu / 2 sum_km c_m |DF(x_m) v_km - beta_km|^2, and
 * grad_i = the gradient of their sum. Shapes: value, term (A), grad (A, P) or NULL, target (M, Q), weight (M) or NULL,
 * beta (K, M, Q) or NULL for zeros. Aliasing: none. Panels are parallel, their sums are added in order. */
static void chain_loss_grad(double *value, double *term, void *grad, const dnn_chain *chain, const void *target,
    const void *weight, const void *beta, int loss, double param, double scale, double mu, int threads, void *work)
{
    chain_job j = {.panel = chain_gradient_panel,
        .out = grad,
        .value = value,
        .term = term,
        .target = target,
        .weight = weight,
        .beta = beta,
        .param = param,
        .scale = scale,
        .mu = mu,
        .loss = loss};
    run_chain(chain, &j, 1 + chain->n_directions, grad ? 3 : 1, threads, work);
}
