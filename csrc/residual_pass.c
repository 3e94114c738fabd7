/* residual_pass.c: outputs, loss and gradient of a whole residual network, opening and output layer included.
 *
 * Rows are taken in panels of TILE_VECTORS vectors. A state of a panel stands transposed as in tile.c, (units,
 * columns), without gaps, so that a register tile reads it from end to end. All panels of a block pass through a layer
 * before the next, which keeps its packed weights in a cache. Of the states only a_k = phi(z_k) is kept; on the way back
 *     u_k-1 = u_k - h a_k,    pushed_k = h phi'(z_k) adjoint_k,    adjoint_k-1 = adjoint_k + W_k pushed_k:
 * u_k-1 is what it was but for rounding, and half as much passes through memory. Where states grew so much that rounding
 * would count, u_k-1 = u_0 + h a_1 + .. + h a_k-1 is added up again, as on the way there. A panel is computed alone and
 * gradients add panels in order: no bit depends on the threads.
 * Layer 0 is the opening, layers 1 .. N are residual, layer N + 1 is the output.
 */

/* pack_tiles and packed_product for panels, PASS_DEPTH terms at a time, so that a panel's rows of them stay in the first
 * cache. Serial. */
static void pack_slices(real *out, const real *w, int64_t rows, int64_t n, int64_t across, int64_t step)
{
    for (int64_t k = 0; k < n; k += PASS_DEPTH)
        pack_tiles(out + k * rows, w + k * step, rows, min_index(PASS_DEPTH, n - k), across, step);
}

static void panel_product(
    real *c, const real *bias, int keep, const real *a, const real *b, int64_t rows, int64_t n, int64_t columns)
{
    for (int64_t k = 0; k < n; k += PASS_DEPTH, bias = NULL, keep = 1)
        packed_product(
            c, bias, keep, a + k * rows, b + k * columns, rows, min_index(PASS_DEPTH, n - k), columns, columns);
}

static void pack_residual_layer(const residual_pass *j, int64_t k)
{
    residual_layer q = residual_layer_at(j, k);
    if (q.w == NULL) return;
    pack_slices(q.left, q.w, q.h, q.d, 1, q.h);
    if (k && j->grad) pack_slices(q.back, q.w, q.d, q.h, q.h, 1);
}

/* Rows and columns of panel p of the block: the last one has as many whole vectors as it needs. */
INLINE int64_t panel_rows(const residual_pass *j, int64_t p)
{
    return min_index(PASS_COLUMNS, j->n - p * PASS_COLUMNS);
}
INLINE int64_t panel_columns(const residual_pass *j, int64_t p) { return whole_vectors(panel_rows(j, p)); }

/* u[0] of panel p: phi(K' x + k 1'), or x and zeros. Serial. */
static void residual_open(const residual_pass *j, const residual_layer *q, int64_t p)
{
    const dnn_residual *net = j->net;
    int64_t columns = panel_columns(j, p), d = net->width;
    const real *rows = (const real *)net->x + (j->first + p * PASS_COLUMNS) * net->inputs;
    real *x = j->x + p * PASS_COLUMNS * net->inputs, *u = j->u + p * PASS_COLUMNS * d;
    turn(x, columns, rows, net->inputs, panel_rows(j, p), net->inputs, columns);
    if (q->w) {
        panel_product(u, q->bias, 0, q->left, x, d, net->inputs, columns);
        residual_activate(u, d, columns, columns, net->activation);
    } else {
        memcpy(u, x, (size_t)(net->inputs * columns) * sizeof(real));
        memset(u + net->inputs * columns, 0, (size_t)((d - net->inputs) * columns) * sizeof(real));
    }
    if (j->grad) memcpy(j->opened + p * PASS_COLUMNS * d, u, (size_t)(d * columns) * sizeof(real));
}

/* u <- u + h a, a = phi(W' u + b 1') of panel p. Serial. */
static void residual_layer_forward(const residual_pass *j, const residual_layer *q, int64_t k, int64_t p)
{
    int64_t columns = panel_columns(j, p), numbers = q->d * columns, at = p * PASS_COLUMNS * q->d;
    real *restrict u = j->u + at, *restrict a = j->a + (k - 1) * j->state + at, h = (real)j->net->h;
    panel_product(a, q->bias, 0, q->left, u, q->h, q->d, columns);
    for (int64_t i = 0, n; i < numbers; i += n) { /* a strip at a time stays in the first cache */
        n = min_index(PASS_STRIP, numbers - i);
        residual_activate(a + i, 1, n, n, j->net->activation);
        for (int64_t m = i; m < i + n; m++) u[m] += h * a[m];
    }
}

/* Outputs of panel p, and its loss: derivatives, scaled, in the place of the outputs. Serial. */
static void residual_close(const residual_pass *j, const residual_layer *q, int64_t p, real *scratch)
{
    int64_t columns = panel_columns(j, p), n = panel_rows(j, p), outputs = q->h, row = j->first + p * PASS_COLUMNS;
    const real *u = j->u + p * PASS_COLUMNS * q->d;
    const real *weight = j->weight ? j->weight + row : NULL, *target = j->target + row * outputs;
    real *f = j->f + p * PASS_COLUMNS * outputs, *rows = scratch, *slope = scratch + PASS_COLUMNS * outputs;
    panel_product(f, q->bias, 0, q->left, u, outputs, q->d, columns);
    turn(j->out ? j->out + row * outputs : rows, outputs, f, columns, outputs, n, outputs);
    if (j->out) return;
    double value[PASS_COLUMNS];
    if (j->loss < 0) { /* the targets are the derivatives */
        memcpy(slope, target, (size_t)(n * outputs) * sizeof(real));
        memset(value, 0, (size_t)n * sizeof(double));
    } else
        loss_value_grad(value, slope, rows, target, n, outputs, j->loss, j->param);
    j->value[p] = weighted_sum(value, weight, n);
    for (int64_t m = 0; m < n; m++)
        for (int64_t o = 0; o < outputs; o++) slope[m * outputs + o] *= (real)j->scale * (weight ? weight[m] : 1);
    turn(f, columns, slope, outputs, n, outputs, n);
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t m = n; m < columns; m++) f[o * columns + m] = 0;
}

/* pushed = h phi'(z) adjoint, u <- u - h a, a strip at a time. Shapes: (numbers) each. Aliasing: none. Serial. */
static void residual_push(real *restrict pushed, real *restrict u, const real *restrict adjoint, const real *restrict a,
    real h, int64_t numbers, int activation)
{
    for (int64_t i = 0, n; i < numbers; i += n) {
        n = min_index(PASS_STRIP, numbers - i);
        for (int64_t m = i; m < i + n; m++) u[m] -= h * a[m], pushed[m] = h * adjoint[m];
        residual_slope(pushed + i, a + i, 1, n, n, activation);
    }
}

/* c[r, v] += sum_p sum_m pushed_p[r, m] rows_p[m, v] over `count` whole panels. */
INLINE void tile_panels(const int R, const int V, real *c, int64_t ldc, const real *pushed, int64_t step,
    const real *rows, int64_t ld, int64_t count)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) sum[r][v] = load(c + r * ldc + v * LANES);
    for (int64_t p = 0; p < count; p++)
        for (int64_t m = 0; m < PASS_COLUMNS; m++, rows += ld) {
            vector right[TILE_VECTORS];
            UNROLLED for (int v = 0; v < V; v++) right[v] = load(rows + v * LANES);
            UNROLLED for (int r = 0; r < R; r++)
            {
                vector left = splat(pushed[p * step + r * PASS_COLUMNS + m]);
                UNROLLED for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
            }
        }
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) store(c + r * ldc + v * LANES, sum[r][v]);
}

/* sum (h, padded) += pushed a' over `count` whole panels. Shapes: pushed (count, h, PASS_COLUMNS), rows
 * (count PASS_COLUMNS, padded) with row length ld: a transposed. Aliasing: none. Serial. */
static void panels_product(
    real *sum, const real *pushed, const real *rows, int64_t ld, int64_t count, int64_t h, int64_t padded)
{
    int64_t vectors, number;
    for (int64_t s = 0; s < padded / LANES; s += vectors) {
        vectors = min_index(TILE_VECTORS, padded / LANES - s);
        for (int64_t r = 0; r < h; r += number) {
            number = tile_rows(h - r);
            real *place = sum + r * padded + s * LANES;
            const real *left = pushed + r * PASS_COLUMNS, *right = rows + s * LANES;
            TILE_OF(tile_panels, number, vectors, place, padded, left, h * PASS_COLUMNS, right, ld, count)
        }
    }
}

/* The sums of layer k = (what they were, or 0) + a pushed' of panels p .. p + count - 1. Serial. */
static void residual_layer_sum(const residual_pass *j, const residual_layer *q, int64_t p, int64_t count, const real *a,
    const real *pushed, real *restrict rows)
{
    int64_t d = q->d, h = q->h, padded = whole_vectors(d), ld = odd_vectors(d), whole = 0;
    if (p == 0 && j->first == 0) memset(q->sum, 0, (size_t)(sum_size(d, h) + h * LANES) * sizeof(real));
    for (int64_t i = 0; i < count; i++) {
        int64_t columns = panel_columns(j, p + i);
        const real *own = a + i * PASS_COLUMNS * d, *push = pushed + i * PASS_COLUMNS * h;
        add_rows(q->sum + sum_size(d, h), 1, push, h, columns, columns);
        if (by_lanes(d, h))
            lane_dots(q->sum, 1, own, push, d, h, columns / LANES, columns);
        else
            turn(rows + i * PASS_COLUMNS * ld, ld, own, columns, d, columns, padded);
        whole += columns == PASS_COLUMNS;
    }
    if (by_lanes(d, h)) return;
    panels_product(q->sum, pushed, rows, ld, whole, h, padded);
    if (whole == count) return;
    int64_t columns = panel_columns(j, p + whole), at = whole * PASS_COLUMNS;
    outer_product(q->sum, padded, 1, pushed + at * h, columns, rows + at * ld, ld, h, columns, padded);
}

/* Whether |u_k| of panel p may exceed |u_0| by more than a factor that leaves three digits of a float, or twelve of a
 * double. Between u_0 and u_N entries move one way, but those of tanh, by h at most a layer, and of linear layers. Serial. */
static int residual_grew(const residual_pass *j, int64_t p)
{
    const dnn_residual *net = j->net;
    int64_t numbers = net->width * panel_columns(j, p), at = p * PASS_COLUMNS * net->width;
    double first = (double)dot(j->opened + at, j->opened + at, numbers);
    double most = (double)dot(j->u + at, j->u + at, numbers), way = net->h * (double)net->n_layers;
    if (net->activation == DNN_TANH) most += (double)numbers * way * way;
    return net->activation == DNN_IDENTITY || !(most <= first * (DNN_DOUBLE ? 0x1p24 : 0x1p14));
}

/* u of panel p = u_0 + h a_1 + .. + h a_k-1. Serial. */
static void residual_again(const residual_pass *j, int64_t k, int64_t p)
{
    int64_t numbers = j->net->width * panel_columns(j, p), at = p * PASS_COLUMNS * j->net->width;
    real *restrict u = j->u + at, h = (real)j->net->h;
    for (int64_t i = 0, n; i < numbers; i += n) {
        n = min_index(PASS_STRIP, numbers - i);
        memcpy(u + i, j->opened + at + i, (size_t)n * sizeof(real));
        for (int64_t l = 0; l < k - 1; l++) {
            const real *restrict a = j->a + l * j->state + at;
            for (int64_t m = i; m < i + n; m++) u[m] += h * a[m];
        }
    }
}

/* Panels p .. p + count - 1 back through residual layer k: u is what it takes, adjoint that of it; its sums, or what
 * they are made of. Serial. */
static void residual_layer_backward(
    const residual_pass *j, const residual_layer *q, int64_t k, int64_t p, int64_t count, real *pushed, real *rows)
{
    int64_t d = q->d, at = p * PASS_COLUMNS * d, kept = (k - 1) * j->state + at, numbers = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t columns = panel_columns(j, p + i), from = i * PASS_COLUMNS * d;
        real *adjoint = j->adjoint + at + from, *push = pushed + from;
        residual_push(
            push, j->u + at + from, adjoint, j->a + kept + from, (real)j->net->h, d * columns, j->net->activation);
        if (j->grew[p + i]) residual_again(j, k, p + i);
        panel_product(adjoint, NULL, 1, q->back, push, d, d, columns);
        numbers = from + d * columns;
    }
    if (j->pushed == NULL) {
        residual_layer_sum(j, q, p, count, j->u + at, pushed, rows);
        return;
    }
    memcpy(j->inputs + kept, j->u + at, (size_t)numbers * sizeof(real));
    memcpy(j->pushed + kept, pushed, (size_t)numbers * sizeof(real));
}

/* The sums of layer k over the block, where they were not made on the way. Serial. */
static void residual_sum(const residual_pass *j, int64_t k, real *rows)
{
    residual_layer q = residual_layer_at(j, k);
    int64_t before = (k - 1) * j->state;
    const real *a = k ? j->inputs + before : j->x;
    const real *pushed = k == 0 ? j->adjoint : k > j->net->n_layers ? j->f : j->pushed + before;
    for (int64_t p = 0, panels = ceil_div(j->n, PASS_COLUMNS), count; p < panels && q.grad; p += count) {
        count = min_index(PASS_GROUP, panels - p);
        residual_layer_sum(j, &q, p, count, a + p * PASS_COLUMNS * q.d, pushed + p * PASS_COLUMNS * q.h, rows);
    }
}

/* Adjoints of u_N of panel p, and the sums of the output layer, or what they are made of. Serial. */
static void residual_output_backward(const residual_pass *j, const residual_layer *q, int64_t p, real *rows)
{
    int64_t columns = panel_columns(j, p), at = p * PASS_COLUMNS * q->d;
    const real *u = j->u + at, *f = j->f + p * PASS_COLUMNS * q->h;
    panel_product(j->adjoint + at, NULL, 0, q->back, f, q->d, q->h, columns);
    if (j->pushed)
        memcpy(j->inputs + j->net->n_layers * j->state + at, u, (size_t)(q->d * columns) * sizeof(real));
    else
        residual_layer_sum(j, q, p, 1, u, f, rows);
}

/* pushed_0 of panel p in the place of its adjoint, and the sums of the opening. Serial. */
static void residual_opening_backward(const residual_pass *j, const residual_layer *q, int64_t p, real *rows)
{
    int64_t numbers = q->h * panel_columns(j, p), at = p * PASS_COLUMNS * q->h;
    residual_slope(j->adjoint + at, j->opened + at, 1, numbers, numbers, j->net->activation); /* u_0 = phi(z) */
    if (j->pushed == NULL) residual_layer_sum(j, q, p, 1, j->x + p * PASS_COLUMNS * q->d, j->adjoint + at, rows);
}

/* Panels start .. stop - 1 of the block there and, with a gradient, back. Serial. */
static void residual_panels(const residual_pass *j, int64_t start, int64_t stop, real *scratch)
{
    int64_t last = j->net->n_layers + 1;
    real *rows = scratch + PASS_GROUP * PASS_COLUMNS * j->net->width;
    residual_layer q = residual_layer_at(j, 0);
    for (int64_t p = start; p < stop; p++) residual_open(j, &q, p);
    for (int64_t k = 1; k < last; k++) {
        q = residual_layer_at(j, k);
        for (int64_t p = start; p < stop; p++) residual_layer_forward(j, &q, k, p);
    }
    q = residual_layer_at(j, last);
    for (int64_t p = start; p < stop; p++) {
        residual_close(j, &q, p, rows);
        if (j->grad) {
            j->grew[p] = residual_grew(j, p);
            residual_output_backward(j, &q, p, rows);
        }
    }
    int64_t group = j->net->width < PASS_WIDE ? 1 : PASS_GROUP;
    for (int64_t k = last - 1; k > 0 && j->grad; k--) {
        q = residual_layer_at(j, k);
        for (int64_t p = start; p < stop; p += group)
            residual_layer_backward(j, &q, k, p, min_index(group, stop - p), scratch, rows);
    }
    q = residual_layer_at(j, 0);
    for (int64_t p = start; p < stop && q.grad; p++) residual_opening_backward(j, &q, p, rows);
}

/* The sums of layer k in the flat layout. Serial. */
static void unpack_residual(const residual_pass *j, int64_t k)
{
    residual_layer q = residual_layer_at(j, k);
    int64_t d = q.d, h = q.h;
    if (q.grad == NULL) return;
    if (by_lanes(d, h))
        sum_of_lanes(q.grad, q.sum, (d + 1) * h);
    else {
        turn(q.grad, h, q.sum, whole_vectors(d), h, d, h);
        sum_of_lanes(q.grad + d * h, q.sum + sum_size(d, h), h);
    }
}

/* All blocks; returns the weighted losses, added in order. */
static double residual_blocks(residual_pass *j, int threads, void *work)
{
    const dnn_residual *net = j->net;
    cut_residual_pass(j, work, net, j->grad != NULL, threads);
    double d = (double)net->width, total = 0, each = (double)net->n_layers * d * (0.04 * d + 1.5) * (j->grad ? 3 : 1);
    const int64_t layers = net->n_layers + 2;
    int team = team_size(threads, each * (double)net->rows * 1e-3);
    if (team == 1) j->pushed = NULL;
    FOR_EACH(k, layers, pack_residual_layer(j, k))
    for (j->first = 0; j->first < net->rows; j->first += j->panels * PASS_COLUMNS) {
        j->n = min_index(net->rows - j->first, j->panels * PASS_COLUMNS);
        const int64_t panels = ceil_div(j->n, PASS_COLUMNS), size = residual_scratch(net),
                      share = ceil_div(panels, team);
        FOR_EACH(s, ceil_div(panels, share),
            residual_panels(j, s * share, min_index(panels, (s + 1) * share), j->scratch + thread * size))
        for (int64_t p = 0; p < panels && !j->out; p++) total += j->value[p];
        if (j->pushed) {
            FOR_EACH(k, layers, residual_sum(j, k, j->scratch + thread * size))
        }
    }
    if (j->grad && net->rows) {
        FOR_EACH(k, layers, unpack_residual(j, k))
    }
    return total;
}

/* out = f(w; x_m). Shapes: out (rows, Q). Aliasing: none. Panels are parallel. */
static void residual_outputs(void *out, const dnn_residual *net, int threads, void *work)
{
    residual_pass j = {.net = net, .out = out};
    residual_blocks(&j, threads, work);
}

/* value = scale sum_m c_m loss(d_m, f(w; x_m)), grad = its gradient; loss -1: sum_m J_m' d_m, scaled and weighted.
 * Shapes: value (1), grad (P) or NULL, target (rows, Q), weight (rows) or NULL. Aliasing: none. Panels are parallel,
 * then layers. */
static void residual_loss_grad(double *value, void *grad, const dnn_residual *net, const void *target,
    const void *weight, int loss, double param, double scale, int threads, void *work)
{
    residual_pass j = {
        .net = net, .grad = grad, .target = target, .weight = weight, .loss = loss, .param = param, .scale = scale};
    if (grad && net->rows == 0) {
        residual_layer last = residual_layer_at(&j, net->n_layers + 1);
        memset(grad, 0, (size_t)(last.grad + (last.d + 1) * last.h - (real *)grad) * sizeof(real));
    }
    *value = scale * residual_blocks(&j, threads, work);
}
