/* mlp.c: networks of any number of hidden layers: work spaces, and what is done to a chunk of rows, which fits a cache.
 */

enum { CHUNK_NUMBERS = 32768, CHUNK_LEAST = 64, CHUNK_MOST = 512 };

/* Rows of a chunk: inputs and activations together about 256 KB in double. */
static int64_t chunk_rows(const dnn_mlp *mlp)
{
    int64_t width = 0;
    for (int64_t k = 0; k <= mlp->n_layers; k++) width += mlp->layers[k];
    return min_index(CHUNK_MOST, max_index(CHUNK_LEAST, CHUNK_NUMBERS / width / 8 * 8));
}

INLINE int64_t rows_of(const dnn_mlp *mlp, int64_t agent) { return mlp->offsets[agent + 1] - mlp->offsets[agent]; }

INLINE const real *weights_of(const dnn_mlp *mlp, int64_t agent) { return (const real *)mlp->w + agent * mlp->w_step; }

INLINE const real *inputs_of(const dnn_mlp *mlp, int64_t row) { return (const real *)mlp->x + row * mlp->layers[0]; }

INLINE int64_t outputs_of(const dnn_mlp *mlp) { return mlp->layers[mlp->n_layers]; }

static int64_t most_rows(const dnn_mlp *mlp)
{
    int64_t most = 0;
    for (int64_t i = 0; i < mlp->agents; i++) most = max_index(most, rows_of(mlp, i));
    return most;
}

/* A guess of the nanoseconds that the gradient takes per row: 6 P flops at 50 per ns, and 1 ns per unit. */
static double row_work(const dnn_mlp *mlp)
{
    double hidden = 0;
    for (int64_t k = 1; k < mlp->n_layers; k++) hidden += (double)mlp->layers[k];
    return (double)mlp->params * 0.12 + hidden;
}

/* The same for all rows, in microseconds. */
static double guess_work(const dnn_mlp *mlp)
{
    return (double)(mlp->offsets[mlp->agents] - mlp->offsets[0]) * row_work(mlp) * 1e-3;
}

/* Microseconds of the outputs of all rows: 2 P flops at 50 per ns, and 1 ns per unit. */
static double guess_forward(const dnn_mlp *mlp)
{
    double hidden = 0;
    for (int64_t k = 1; k < mlp->n_layers; k++) hidden += (double)mlp->layers[k];
    return (double)(mlp->offsets[mlp->agents] - mlp->offsets[0]) * ((double)mlp->params * 0.04 + hidden) * 1e-3;
}

/* Features of a chunk of pair_samples() samples: see pairs.c. */
typedef struct {
    real *input[DNN_MAX_LAYERS]; /* input[u]: (samples, layers[u] + 1), what layer u takes, then a one */
    real *delta[DNN_MAX_LAYERS]; /* delta[u]: (samples R, layers[u + 1]) */
    int64_t samples;
    real *right; /* (samples, right_size) for every pair of layers, one after another */
    real *left; /* (samples, PANEL_PAIRS) */
} pair_space;

static void cut_pairs(pair_space *space, char **next, const dnn_mlp *mlp, const dnn_root *root, int64_t most);

/* Transposed activations and packed weights of the gradient: see gradient.c. */
typedef struct {
    int64_t ld; /* numbers between rows: samples of a chunk, padded */
    const real *packed, *sent; /* the weights, and the feedback, that stand in tiles: */
    real *left[DNN_MAX_LAYERS], *back[DNN_MAX_LAYERS]; /* W_k' and W_k */
    real *move[DNN_MAX_LAYERS]; /* V_k' of a direction */
    real *hidden; /* (hidden_rows() + root_rows(), ld): a[1 .. L - 1] and z[1 .. L - 1], S' of products */
    real *held; /* where these stand at present */
    real *a[DNN_MAX_LAYERS + 1]; /* a[k]: (layers[k], ld); a[0] holds TILE_DEPTH rows at most */
    real *z[DNN_MAX_LAYERS + 1]; /* z[k]: a[k] before the activation; a[k] itself unless keeps_z() */
    real *delta[2]; /* (widest layer, ld) each */
    real *rows[2]; /* (samples, widest layer, padded) each */
    real *sum[DNN_MAX_LAYERS]; /* what chunks add up to, biases last */
    double *value; /* (samples) */
} tile_space;

static void cut_tiles(tile_space *space, char **next, const dnn_mlp *mlp, int64_t most, int64_t root_rows);

/* The workspace of one thread for one chunk of `rows` rows. */
typedef struct {
    real *a[DNN_MAX_LAYERS + 1]; /* a[k]: output of layer k, (rows, layers[k]); a[0] is x itself */
    real *z[DNN_MAX_LAYERS + 1]; /* z[k]: a[k] before the activation; a[k] itself unless keeps_z() */
    real *delta[2], *tangent[2]; /* (rows, widest layer) each */
    double *value; /* (rows) */
    real *stack
        [DNN_MAX_LAYERS]; /* stack[k]: deltas of layer k for every column of S, (stacked_samples() R, layers[k + 1]) */
    real *jacobian; /* (jacobian_samples() R, P), at least (stacked_samples() R) */
    pair_space pairs;
    tile_space tiles;
} workspace;

/* Samples whose rows of J are held together, of one of the groups in which they are made, and whose deltas are. */
static int64_t jacobian_samples(const dnn_mlp *mlp, const dnn_root *root);
static int64_t jacobian_group(const dnn_mlp *mlp, const dnn_root *root);
static int64_t stacked_samples(const dnn_mlp *mlp, const dnn_root *root);

/* Bytes of one thread's workspace, which is cut from `start` unless that is NULL. Without root no J is kept; root_rows:
 * of the tiles of products, else 0. */
static size_t cut_workspace(
    workspace *r, char *start, const dnn_mlp *mlp, const dnn_root *root, int64_t most, int64_t root_rows)
{
    char *next = start;
    int64_t rows = min_index(chunk_rows(mlp), most), widest = 1, stacked = 0, held = 0;
    if (root) {
        held = min_index(jacobian_samples(mlp, root), most);
        stacked = min_index(stacked_samples(mlp, root), most) * root->columns;
    }
    for (int64_t k = 1; k <= mlp->n_layers; k++) {
        widest = max_index(widest, mlp->layers[k]);
        r->a[k] = r->z[k] = carve(&next, rows * mlp->layers[k], sizeof(real));
        if (keeps_z(mlp->activation) && k < mlp->n_layers) r->z[k] = carve(&next, rows * mlp->layers[k], sizeof(real));
    }
    for (int64_t k = 0; k < mlp->n_layers; k++)
        r->stack[k] = root ? carve(&next, stacked * mlp->layers[k + 1], sizeof(real)) : NULL;
    for (int j = 0; j < 2; j++) {
        r->delta[j] = carve(&next, rows * widest, sizeof(real));
        r->tangent[j] = carve(&next, rows * widest, sizeof(real));
    }
    r->value = carve(&next, rows, sizeof(double));
    r->jacobian = root ? carve(&next, max_index(held * root->columns * mlp->params, stacked), sizeof(real)) : NULL;
    if (root)
        cut_pairs(&r->pairs, &next, mlp, root, most);
    else
        cut_tiles(&r->tiles, &next, mlp, most, root_rows);
    return (size_t)((uintptr_t)next - (uintptr_t)start);
}

/* The workspaces of one call, one for every thread. */
typedef struct {
    const dnn_mlp *mlp;
    const dnn_root *root;
    char *work;
    int64_t most, root_rows;
    size_t bytes; /* of each */
} workspaces;

INLINE workspaces open_workspaces(const dnn_mlp *mlp, const dnn_root *root, void *work)
{
    workspace r;
    int64_t most = most_rows(mlp);
    return (workspaces){mlp, root, work, most, 0, cut_workspace(&r, NULL, mlp, root, most, 0)};
}

enum { ROOT_MOST = 256 }; /* numbers of one S_m that stands in tiles */

/* Rows that S' takes in the tiles of a product: none of a diagonal one, nor of one so large that it is applied as it is. */
INLINE int64_t root_rows(const dnn_mlp *mlp, const dnn_root *root)
{
    int64_t outputs = outputs_of(mlp);
    return root->diagonal || outputs > ROOT_MOST / max_index(1, root->columns) ? 0 : outputs * root->columns;
}

/* The same for products with one block, in tiles. */
INLINE workspaces open_products(const dnn_mlp *mlp, const dnn_root *root, void *work)
{
    workspace r;
    int64_t most = most_rows(mlp), rows = root_rows(mlp, root);
    return (workspaces){mlp, NULL, work, most, rows, cut_workspace(&r, NULL, mlp, NULL, most, rows)};
}

static workspace workspace_of(const workspaces *h, int thread)
{
    workspace r;
    cut_workspace(&r, h->work + h->bytes * (size_t)thread, h->mlp, h->root, h->most, h->root_rows);
    return r;
}

/* Whether threads take whole agents: enough of them, and none holds much more than one thread's share of the rows. */
static int by_agents(const workspaces *h, int team)
{
    int64_t rows = h->mlp->offsets[h->mlp->agents] - h->mlp->offsets[0];
    return h->mlp->agents >= team && h->most * 2 * team <= 3 * rows;
}

/* a_k = phi(a_k-1 W_k + 1 b_k'), last layer linear; the raw output is left in r->a[L].
 * Shapes: x (n, d). Aliasing: none. Serial. */
static void forward_chunk(const workspace *r, const dnn_mlp *mlp, const real *w, const real *x, int64_t n)
{
    const real *input = x;
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        const real *bias = w + d * h;
        real *z = r->z[k + 1];
        for (int64_t m = 0; m < n; m++) memcpy(z + m * h, bias, (size_t)h * sizeof(real));
        product_nn(mlp->blas, z, input, w, n, d, h, 1);
        if (k + 1 < mlp->n_layers) activate(r->a[k + 1], z, n * h, mlp->activation);
        input = r->a[k + 1];
        w = bias + h;
    }
}

/* out <- keep out + sum_m J_m' u_m: dW_k = a_k-1' delta_k, db_k = delta_k' 1, delta_k-1 = (delta_k W_k') phi'(z_k-1).
 * Shapes: w, out (P); x (n, d); u (n, Q) lies in r->delta[0]. Aliasing: none. After forward_chunk. Serial. */
static void backward_chunk(
    const workspace *r, const dnn_mlp *mlp, const real *w, const real *x, int64_t n, real keep, real *out)
{
    int64_t start = mlp->params;
    int side = 0;
    for (int64_t k = mlp->n_layers; k-- > 0;) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        const real *input = k ? r->a[k] : x, *delta = r->delta[side];
        start -= d * h + h;
        real *bias = out + start + d * h;
        product_tn(mlp->blas, out + start, input, delta, n, d, h, keep);
        if (keep == 0) memset(bias, 0, (size_t)h * sizeof(real));
        for (int64_t m = 0; m < n; m++) axpy(bias, 1, delta + m * h, h);
        if (k == 0) break;
        side = !side;
        product_nt(mlp->blas, r->delta[side], delta, w + start, n, h, d, 0);
        times_slope(r->delta[side], r->z[k], r->a[k], n * d, mlp->activation);
    }
}

/* t_k = (t_k-1 W_k + a_k-1 V_k + 1 v_k') phi'(z_k), t_0 = 0: J v in the direction (V, v); returns t_L.
 * Shapes: w, v (P); x (n, d); result (n, Q). Aliasing: none. After forward_chunk. Serial. */
static const real *tangent_chunk(
    const workspace *r, const dnn_mlp *mlp, const real *w, const real *v, const real *x, int64_t n)
{
    int64_t start = 0;
    int side = 0;
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        real *tangent = r->tangent[side];
        const real *bias = v + start + d * h;
        for (int64_t m = 0; m < n; m++) memcpy(tangent + m * h, bias, (size_t)h * sizeof(real));
        product_nn(mlp->blas, tangent, k ? r->a[k] : x, v + start, n, d, h, 1);
        if (k) product_nn(mlp->blas, tangent, r->tangent[!side], w + start, n, d, h, 1);
        if (k + 1 < mlp->n_layers) times_slope(tangent, r->z[k + 1], r->a[k + 1], n * h, mlp->activation);
        start += d * h + h;
        side = !side;
    }
    return r->tangent[!side];
}
