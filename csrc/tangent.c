/* tangent.c: the neural tangent kernel J(X) J(Y)' of one network; J is never made.
 *
 * Row (m, q) of J is, layer by layer, the outer product of (a_m, 1), the inputs of the layer, and delta_mq, the
 * derivative of output q in its raw outputs. So
 *     (J J')[(m, q), (m', r)] = sum_layers (a_m' a_m' + 1) (delta_mq' delta_m'r),
 * which takes n m Q^2 h flops of a layer where rows of J take n m Q^2 d h. The last layer's delta is the identity. The
 * kernel is made in square tiles of fixed size, where X is Y its upper triangle only.
 */

enum { TANGENT_TILE = 192, TANGENT_GROUP = 64 };

/* What is kept of all rows of X or of Y. */
typedef struct {
    const real *x;
    int64_t n;
    real *input[DNN_MAX_LAYERS]; /* input[k]: (n, layers[k]) what layer k takes, k > 0 */
    real *delta[DNN_MAX_LAYERS]; /* delta[k]: (n Q, layers[k + 1]), k < L - 1 */
} tangent_rows;

typedef struct {
    workspaces h;
    tangent_rows rows[2]; /* X, and Y unless it is X */
    real *out;
    char *tiles; /* for every thread a gram (T, T) and a tile (T Q, T Q) */
    int64_t samples; /* T */
    int symmetric;
} tangent;

static int64_t tangent_samples(const dnn_mlp *mlp) { return max_index(1, TANGENT_TILE / outputs_of(mlp)); }

static void cut_tangent_rows(tangent_rows *t, char **next, const dnn_mlp *mlp, const real *x, int64_t n)
{
    t->x = x, t->n = n;
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        t->input[k] = carve(next, k ? n * mlp->layers[k] : 0, sizeof(real));
        t->delta[k] = carve(next, k + 1 < mlp->n_layers ? n * outputs_of(mlp) * mlp->layers[k + 1] : 0, sizeof(real));
    }
}

/* Bytes of one thread's gram and tile. */
static size_t tangent_tile_bytes(const dnn_mlp *mlp)
{
    int64_t t = tangent_samples(mlp);
    return lines(t * t, sizeof(real)) + lines(square(t * outputs_of(mlp)), sizeof(real));
}

/* Rows of a chunk of forward_chunk, which the workspaces of mlp.c hold whatever the agent has. */
static size_t mlp_tangent_work(const dnn_mlp *mlp, int64_t n_y, int threads)
{
    workspace r;
    tangent_rows t;
    char *next = NULL;
    cut_tangent_rows(&t, &next, mlp, NULL, rows_of(mlp, 0));
    cut_tangent_rows(&t, &next, mlp, NULL, n_y);
    size_t each = cut_workspace(&r, NULL, mlp, NULL, TANGENT_GROUP, 0) + tangent_tile_bytes(mlp);
    return (size_t)(uintptr_t)next + each * (size_t)threads;
}

/* delta_mq of n samples from their activations, last hidden layer first. Shapes: w (P), delta[k] (n Q, layers[k + 1]).
 * Uses r->tangent. Aliasing: none. Serial. */
static void unit_deltas(const workspace *r, const dnn_mlp *mlp, const real *w, int64_t n, real *const *delta)
{
    real *slope = r->tangent[0];
    int64_t start = mlp->params, outputs = outputs_of(mlp);
    for (int64_t k = mlp->n_layers - 1; k > 0; k--) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        start -= d * h + h;
        if (k < mlp->n_layers - 1) product_nt(mlp->blas, delta[k - 1], delta[k], w + start, n * outputs, h, d, 0);
        for (int64_t i = 0; i < n * d; i++) slope[i] = 1;
        times_slope(slope, r->z[k], r->a[k], n * d, mlp->activation);
        for (int64_t m = 0; m < n; m++)
            for (int64_t q = 0; q < outputs; q++) {
                real *restrict row = delta[k - 1] + (m * outputs + q) * d;
                const real *restrict factor = slope + m * d, *column = w + start + q;
                if (k < mlp->n_layers - 1)
                    for (int64_t i = 0; i < d; i++) row[i] *= factor[i];
                else
                    for (int64_t i = 0; i < d; i++) row[i] = column[i * outputs] * factor[i];
            }
    }
}

/* Activations and deltas of one group of rows. Serial. */
static void fill_tangent(const tangent *t, const tangent_rows *rows, int64_t group, int thread)
{
    const dnn_mlp *mlp = t->h.mlp;
    workspace r = workspace_of(&t->h, thread);
    int64_t first = group * TANGENT_GROUP, n = min_index(TANGENT_GROUP, rows->n - first);
    real *delta[DNN_MAX_LAYERS];
    const real *w = weights_of(mlp, 0);
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        if (k) r.a[k] = rows->input[k] + first * mlp->layers[k];
        if (k && !keeps_z(mlp->activation)) r.z[k] = r.a[k];
        delta[k] = rows->delta[k] + first * outputs_of(mlp) * mlp->layers[k + 1];
    }
    forward_chunk(&r, mlp, w, rows->x + first * mlp->layers[0], n);
    unit_deltas(&r, mlp, w, n, delta);
}

/* k (rows, columns; row length ld) = or += t (rows, columns; row length ld_t), samples times (gram + 1). Serial. */
static void spread_gram(real *restrict k, int64_t ld, int keep, const real *restrict t, int64_t ld_t,
    const real *restrict gram, int64_t n_a, int64_t n_c, int64_t outputs)
{
    for (int64_t m = 0; m < n_a; m++, gram += n_c)
        for (int64_t q = 0; q < outputs; q++, k += ld, t += ld_t)
            if (outputs == 1 && keep)
                for (int64_t e = 0; e < n_c; e++) k[e] += t[e] * (gram[e] + 1);
            else if (outputs == 1)
                for (int64_t e = 0; e < n_c; e++) k[e] = t[e] * (gram[e] + 1);
            else
                for (int64_t e = 0; e < n_c; e++) {
                    real factor = gram[e] + 1;
                    for (int64_t r = e * outputs; r < (e + 1) * outputs; r++) k[r] = (keep ? k[r] : 0) + t[r] * factor;
                }
}

/* What the last layer brings, whose delta is the identity: k[(m, q), (e, q)] = or += gram[m, e] + 1. Serial. */
static void spread_last(real *k, int64_t ld, int keep, const real *gram, int64_t n_a, int64_t n_c, int64_t outputs)
{
    for (int64_t m = 0; m < n_a; m++, gram += n_c)
        for (int64_t q = 0; q < outputs; q++, k += ld) {
            if (!keep) memset(k, 0, (size_t)(n_c * outputs) * sizeof(real));
            for (int64_t e = 0; e < n_c; e++) k[e * outputs + q] += gram[e] + 1;
        }
}

/* The tile of samples a .. of X against samples c .. of Y, and its mirror image where X is Y. Serial. */
static void tangent_tile(const tangent *t, int64_t a, int64_t c, int thread)
{
    const dnn_mlp *mlp = t->h.mlp;
    const tangent_rows *x = &t->rows[0], *y = &t->rows[!t->symmetric];
    int64_t outputs = outputs_of(mlp), n_a = min_index(t->samples, x->n - a), n_c = min_index(t->samples, y->n - c);
    int64_t high = n_a * outputs, width = n_c * outputs, ld = y->n * outputs;
    char *next = t->tiles + tangent_tile_bytes(mlp) * (size_t)thread;
    real *gram = carve(&next, square(t->samples), sizeof(real)), *tile = (real *)next;
    real *k = t->out + a * outputs * ld + c * outputs;
    for (int64_t u = 0; u < mlp->n_layers; u++) {
        int64_t d = mlp->layers[u], h = mlp->layers[u + 1];
        const real *left = (u ? x->input[u] : x->x) + a * d, *right = (u ? y->input[u] : y->x) + c * d;
        gemm(mlp->blas, 'T', 'N', n_c, n_a, d, right, d, left, d, 0, gram, n_c);
        if (u == mlp->n_layers - 1) {
            spread_last(k, ld, u > 0, gram, n_a, n_c, outputs);
            break;
        }
        const real *one = x->delta[u] + a * outputs * h, *other = y->delta[u] + c * outputs * h;
        gemm(mlp->blas, 'T', 'N', width, high, h, other, h, one, h, 0, tile, width);
        spread_gram(k, ld, u > 0, tile, width, gram, n_a, n_c, outputs);
    }
    if (t->symmetric)
        for (int64_t i = 0; i < high; i++)
            for (int64_t e = a == c ? i + 1 : 0; e < width; e++)
                t->out[(c * outputs + e) * ld + a * outputs + i] = k[i * ld + e];
}

/* out[(m, q), (m', r)] = <gradient of f_q(w; x_m), gradient of f_r(w; y_m')>.
 * Shapes: out (n Q, n_y Q), x of mlp (n, d) of one agent, y (n_y, d), or NULL for X itself: out is (n Q, n Q) and
 * symmetric. Aliasing: none. Groups of rows are parallel, then tiles. */
static void mlp_tangent_kernel(void *out, const dnn_mlp *mlp, const void *y, int64_t n_y, int threads, void *work)
{
    char *next = work;
    int64_t n = rows_of(mlp, 0), columns = y ? n_y : n;
    tangent t = {
        .h = {mlp, NULL, NULL, TANGENT_GROUP, 0, 0}, .out = out, .samples = tangent_samples(mlp), .symmetric = !y};
    cut_tangent_rows(&t.rows[0], &next, mlp, mlp->x, n);
    cut_tangent_rows(&t.rows[1], &next, mlp, y, y ? n_y : 0);
    workspace r;
    t.h.work = next;
    t.h.bytes = cut_workspace(&r, NULL, mlp, NULL, TANGENT_GROUP, 0);
    t.tiles = next + t.h.bytes * (size_t)threads;
    int64_t side = ceil_div(n, t.samples), across = ceil_div(columns, t.samples);
    double numbers = (double)(n * columns) * (double)square(outputs_of(mlp)), widths = 0;
    for (int64_t k = 0; k < mlp->n_layers; k++) widths += (double)mlp->layers[k] / (double)outputs_of(mlp) + 8;
    int team = team_size(threads, numbers * widths * 1e-4);
    for (int s = 0; s < 2; s++) {
        int64_t groups = ceil_div(t.rows[s].n, TANGENT_GROUP);
        FOR_EACH(g, groups, fill_tangent(&t, &t.rows[s], g, thread))
    }
    FOR_EACH(p, side * across,
        if (y || p / across <= p % across) tangent_tile(&t, p / across * t.samples, p % across * t.samples, thread))
}
