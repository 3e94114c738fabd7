/* gradient.c: loss and gradient in one pass over chunks of samples, with the tiles of tile.c.
 *
 * A chunk stands transposed, a row for each input or unit and a column for each sample, so that
 *     forward  a_k+1' = phi(W_k' a_k' + b_k 1'),    backward  delta_k-1' = (W_k delta_k') phi'(a_k'),
 * are products with weights that are packed once. A weight gradient is summed over the chunks of a panel in one of two
 * ways: small ones lane by lane (a vector for each weight, added up at the end); larger ones transposed, as delta_k'
 * times the rows of a_k, which for the inputs are those of x itself. Columns that pad a chunk repeat its last sample
 * and have no delta.
 */

enum { GRADIENT_BYTES = 1 << 18, FORWARD_BYTES = 1 << 15, GRADIENT_MOST = 240, LANE_BYTES = 1 << 16 };

/* Samples of a chunk: a few whole tiles, activations and deltas together about GRADIENT_BYTES. */
static int64_t gradient_rows(const dnn_mlp *mlp)
{
    int64_t tile = TILE_VECTORS * LANES, width = min_index(mlp->layers[0], TILE_DEPTH);
    for (int64_t k = 1; k <= mlp->n_layers; k++) width += 2 * mlp->layers[k];
    int64_t rows = GRADIENT_BYTES / (int64_t)sizeof(real) / width / tile * tile;
    return min_index(GRADIENT_MOST / tile * tile, max_index(2 * tile, rows));
}

/* The same where nothing is kept for a way back: hidden units about FORWARD_BYTES, so that the first cache holds them. */
static int64_t forward_rows(const dnn_mlp *mlp)
{
    int64_t tile = TILE_VECTORS * LANES, width = 1;
    for (int64_t k = 1; k < mlp->n_layers; k++) width += mlp->layers[k];
    int64_t rows = FORWARD_BYTES / (int64_t)sizeof(real) / width / tile * tile;
    return min_index(gradient_rows(mlp), max_index(2 * tile, rows));
}

INLINE int64_t whole_vectors(int64_t n) { return ceil_div(n, LANES) * LANES; }

/* Whether the gradient of W_k (d, h) is summed lane by lane: few units, or inputs that fill their vectors badly. */
INLINE int by_lanes(int64_t d, int64_t h)
{
    if (d > TILE_DEPTH || d * h * VECTOR_BYTES > LANE_BYTES) return 0;
    return h < 16 || d * 5 < whole_vectors(d) * 4;
}

INLINE int64_t sum_size(int64_t d, int64_t h) { return by_lanes(d, h) ? d * h * LANES : h * whole_vectors(d); }

/* Numbers from row to row of a chunk of n samples; odd: rows at even distances would share the sets of a cache. */
INLINE int64_t chunk_ld(int64_t n) { return (ceil_div(n, LANES) | 1) * LANES; }

/* Rows of the activations of the hidden layers, before them, too, where these are kept. */
static int64_t hidden_rows(const dnn_mlp *mlp)
{
    int64_t rows = 0;
    for (int64_t k = 1; k < mlp->n_layers; k++) rows += mlp->layers[k];
    return keeps_z(mlp->activation) ? 2 * rows : rows;
}

/* The activations of the hidden layers stand at `place`, in rows of length ld. */
static void place_hidden(tile_space *s, const dnn_mlp *mlp, real *place, int64_t ld)
{
    s->ld = ld, s->held = place;
    for (int64_t k = 1; k < mlp->n_layers; k++) {
        int64_t numbers = mlp->layers[k] * ld;
        s->a[k] = s->z[k] = place, place += numbers;
        if (keeps_z(mlp->activation)) s->z[k] = place, place += numbers;
    }
}

static void cut_tiles(tile_space *space, char **next, const dnn_mlp *mlp, int64_t most, int64_t root_rows)
{
    int64_t rows = min_index(gradient_rows(mlp), most), widest = 1;
    space->packed = space->sent = NULL;
    space->ld = chunk_ld(rows);
    space->hidden = carve(next, (hidden_rows(mlp) + root_rows) * space->ld, sizeof(real));
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        widest = max_index(widest, k ? max_index(d, h) : h);
        space->left[k] = carve(next, d * h, sizeof(real));
        space->move[k] = carve(next, d * h, sizeof(real));
        space->back[k] = carve(next, k ? d * max_index(h, outputs_of(mlp)) : 0, sizeof(real)); /* W_k, or B_k */
        space->sum[k] = carve(next, sum_size(d, h) + h * LANES, sizeof(real));
    }
    place_hidden(space, mlp, space->hidden, space->ld);
    space->a[0] = space->z[0] = carve(next, min_index(mlp->layers[0], TILE_DEPTH) * space->ld, sizeof(real));
    space->a[mlp->n_layers] = space->z[mlp->n_layers] = carve(next, outputs_of(mlp) * space->ld, sizeof(real));
    space->value = carve(next, rows, sizeof(double));
    for (int j = 0; j < 2; j++) {
        space->delta[j] = carve(next, widest * space->ld, sizeof(real));
        int64_t numbers = max_index(whole_vectors(mlp->layers[0]), rows * whole_vectors(widest));
        space->rows[j] = carve(next, numbers, sizeof(real));
    }
}

/* delta <- delta phi'(z), row by row, or as one row where no gap is between them. Serial. */
static void slope_rows(
    real *delta, const real *z, const real *a, int64_t rows, int64_t columns, int64_t ld, int activation)
{
    if (columns == ld) columns *= rows, rows = 1;
    for (int64_t j = 0; j < rows; j++) times_slope(delta + j * ld, z + j * ld, a + j * ld, columns, activation);
}

/* z (h, ld) = W' x' + b 1' of n samples, W' (h, d) packed; x' is left in a[0] if it has no more than TILE_DEPTH rows.
 * Shapes: x (n, d). Serial. */
static void input_product(
    const tile_space *s, const dnn_mlp *mlp, real *z, const real *packed, const real *bias, const real *x, int64_t n)
{
    int64_t d = mlp->layers[0], h = mlp->layers[1], columns = whole_vectors(n);
    for (int64_t i = 0; i < d; i += TILE_DEPTH) {
        int64_t depth = min_index(TILE_DEPTH, d - i);
        turn(s->a[0], s->ld, x + i, d, n, depth, columns);
        packed_product(z, i ? NULL : bias, i > 0, packed + i * h, s->a[0], h, depth, columns, s->ld);
    }
}

/* a'[1 .. layers] of n samples, and a'[0] if it has no more than TILE_DEPTH rows. Shapes: w (P), x (n, d). Serial. */
static void forward_tiles(
    const tile_space *s, const dnn_mlp *mlp, const real *w, const real *x, int64_t n, int64_t layers)
{
    int64_t columns = whole_vectors(n);
    for (int64_t k = 0; k < layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        const real *bias = w + d * h;
        real *z = s->z[k + 1];
        if (k == 0)
            input_product(s, mlp, z, s->left[0], bias, x, n);
        else
            packed_product(z, bias, 0, s->left[k], s->a[k], h, d, columns, s->ld);
        if (k + 1 < mlp->n_layers) activate_rows(s->a[k + 1], z, h, columns, s->ld, mlp->activation);
        w = bias + h;
    }
}

/* sum_m c_m value_m, in four partial sums. */
static double weighted_sum(const double *value, const real *weight, int64_t n)
{
    double sum[4] = {0};
    int64_t m = 0;
    for (; m + 4 <= n; m += 4)
        for (int l = 0; l < 4; l++) sum[l] += weight ? weight[m + l] * value[m + l] : value[m + l];
    for (; m < n; m++) sum[0] += weight ? weight[m] * value[m] : value[m];
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/* Loss of n samples, weighted, into *value; its derivative, scaled and transposed, into delta (Q, ld). Serial. */
static void loss_tiles(const job *j, const tile_space *s, int64_t first, int64_t n, real *delta, double *value)
{
    int64_t outputs = outputs_of(j->mlp), last = j->mlp->n_layers, columns = whole_vectors(n);
    real *f = s->a[last], *slope = delta;
    if (outputs > 1) {
        turn(s->rows[0], outputs, s->a[last], s->ld, outputs, n, outputs);
        f = s->rows[0], slope = s->rows[1];
    }
    if (j->loss < 0) { /* the targets are the derivatives */
        memcpy(slope, j->target + first * outputs, (size_t)(n * outputs) * sizeof(real));
        memset(s->value, 0, (size_t)n * sizeof(double));
    } else
        loss_value_grad(s->value, slope, f, j->target + first * outputs, n, outputs, j->loss, j->param);
    const real *weight = j->weight ? j->weight + first : NULL, scale = (real)j->scale;
    *value += weighted_sum(s->value, weight, n);
    if (weight)
        for (int64_t m = 0; m < n; m++)
            for (int64_t q = 0; q < outputs; q++) slope[m * outputs + q] *= scale * weight[m];
    else
        for (int64_t m = 0; m < n * outputs; m++) slope[m] *= scale;
    if (outputs > 1) turn(delta, s->ld, slope, outputs, n, outputs, n);
    for (int64_t q = 0; q < outputs; q++)
        for (int64_t m = n; m < columns; m++) delta[q * s->ld + m] = 0;
}

/* sum (h, LANES) = (sum or 0) + the rows of delta, lane by lane. */
static void add_rows(real *sum, int keep, const real *delta, int64_t h, int64_t columns, int64_t ld)
{
    for (int64_t j = 0; j < h; j++, sum += LANES, delta += ld) {
        vector even = keep ? load(sum) : (vector){0}, odd = {0};
        int64_t m = 0;
        for (; m + 2 * LANES <= columns; m += 2 * LANES) even += load(delta + m), odd += load(delta + m + LANES);
        if (m < columns) even += load(delta + m);
        store(sum, even + odd);
    }
}

/* The sums of layer k = (what they were, or 0) + what n samples bring. Shapes: delta (h, ld), x (n, d) for layer 0. */
static void add_layer(
    const tile_space *s, const dnn_mlp *mlp, int64_t k, int keep, const real *delta, const real *x, int64_t n)
{
    int64_t d = mlp->layers[k], h = mlp->layers[k + 1], columns = whole_vectors(n), padded = whole_vectors(d);
    add_rows(s->sum[k] + sum_size(d, h), keep, delta, h, columns, s->ld);
    if (by_lanes(d, h)) {
        lane_dots(s->sum[k], keep, s->a[k], delta, d, h, columns / LANES, s->ld);
        return;
    }
    int turned = k > 0 || 2 * d < padded; /* in x a vector at the last row but one would reach beyond the last */
    int64_t stride = turned ? padded : d;
    if (turned) turn(s->rows[0], padded, s->a[k], s->ld, d, n, padded);
    const real *rows = turned ? s->rows[0] : x;
    real *last = s->rows[1]; /* a whole vector at the end of x would reach beyond it */
    memcpy(last, rows + (n - 1) * stride, (size_t)d * sizeof(real));
    memset(last + d, 0, (size_t)(padded - d) * sizeof(real));
    outer_product(s->sum[k], padded, keep, delta + n - 1, s->ld, last, padded, h, 1, padded);
    outer_product(s->sum[k], padded, 1, delta, s->ld, rows, stride, h, n - 1, padded);
}

/* After forward_tiles, delta of the last layer in s->delta[0]. Serial. */
static void backward_tiles(const tile_space *s, const dnn_mlp *mlp, int keep, const real *x, int64_t n)
{
    int64_t columns = whole_vectors(n);
    int side = 0;
    for (int64_t k = mlp->n_layers; k-- > 0; side = !side) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        real *before = s->delta[!side];
        add_layer(s, mlp, k, keep, s->delta[side], x, n);
        if (k == 0) break;
        packed_product(before, NULL, 0, s->back[k], s->delta[side], d, h, columns, s->ld);
        slope_rows(before, s->z[k], s->a[k], d, columns, s->ld, mlp->activation);
    }
}

/* The weights of one agent in tiles, unless they stand there already; those of the way back only if `back`. Serial. */
static void pack_weights(tile_space *s, const dnn_mlp *mlp, const real *w, int back)
{
    if (s->packed == w) return;
    s->packed = w;
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        pack_tiles(s->left[k], w, h, d, 1, h);
        if (k && back) pack_tiles(s->back[k], w, d, h, h, 1);
        w += (d + 1) * h;
    }
}

/* The sums in the flat layout. Shapes: out (P). Serial. */
static void unpack_sums(const tile_space *s, const dnn_mlp *mlp, real *out)
{
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        if (by_lanes(d, h))
            sum_of_lanes(out, s->sum[k], (d + 1) * h);
        else {
            turn(out, h, s->sum[k], whole_vectors(d), h, d, h);
            sum_of_lanes(out + d * h, s->sum[k] + sum_size(d, h), h);
        }
        out += (d + 1) * h;
    }
}

static void gradient_panel(
    const job *j, workspace *r, int64_t agent, int64_t first, int64_t stop, real *out, double *value)
{
    const dnn_mlp *mlp = j->mlp;
    tile_space *s = &r->tiles;
    const real *w = weights_of(mlp, agent);
    pack_weights(s, mlp, w, j->out != NULL);
    for (int keep = 0; first < stop; first += j->chunk_rows, keep = 1) {
        int64_t n = min_index(stop - first, j->chunk_rows);
        const real *x = inputs_of(mlp, first);
        forward_tiles(s, mlp, w, x, n, mlp->n_layers);
        loss_tiles(j, s, first, n, s->delta[0], value);
        if (j->out) backward_tiles(s, mlp, keep, x, n);
    }
    if (j->out) unpack_sums(s, mlp, out);
}

static job gradient_job(double *value, void *grad, const dnn_mlp *mlp, const void *target, const void *weight, int loss,
    double param, double scale)
{
    return (job){.mlp = mlp,
        .out = grad,
        .value = value,
        .chunk_rows = gradient_rows(mlp),
        .panel = gradient_panel,
        .target = target,
        .weight = weight,
        .loss = loss,
        .param = param,
        .scale = scale};
}

/* value_i = scale sum_m c_m loss(d_m, f(w_i; x_m)), grad_i = its gradient.
 * Shapes: value (A), grad (A, P) or NULL, target (M, Q), weight (M) or NULL. Aliasing: none.
 * Agents are parallel, or parts of them. */
static void mlp_loss_grad(double *value, void *grad, const dnn_mlp *mlp, const void *target, const void *weight,
    int loss, double param, double scale, int threads, void *work)
{
    job j = gradient_job(value, grad, mlp, target, weight, loss, param, scale);
    sum_job(&j, guess_work(mlp) * (grad ? 1 : 0.4), threads, work);
}
