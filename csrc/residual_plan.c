/* residual_plan.c: what a pass through a residual network needs, and where it lies; see residual_pass.c. */

enum {
    PASS_COLUMNS = TILE_VECTORS * LANES,
    PASS_NUMBERS = 1 << 23, /* of the states of a block, */
    PASS_NEAR = 1 << 20, /* their bytes on one thread where weights and sums have at most */
    PASS_CACHE = 1 << 21, /* so many: then all stay in a second cache */
    PASS_ROWS = 1024,
    PASS_LEAST = 4,
    PASS_STRIP = 512,
    PASS_DEPTH = 128,
    PASS_GROUP = 4, /* panels whose sums are made together, */
    PASS_WIDE = 64 /* of networks so wide that their sums leave the first cache */
};

typedef struct {
    const dnn_residual *net;
    real *grad; /* (P), or NULL: none is wanted */
    real *out; /* (rows, Q), or NULL: the loss is wanted */
    const real *target, *weight;
    double scale, param;
    int loss;
    int64_t panels, first, n; /* panels of a block; first row and number of rows of this one */
    int64_t state; /* numbers from the state of one layer to that of the next; 0 if none is kept */
    real *x, *u, *a, *f, *adjoint; /* (inputs), (width), (N, width), (Q), (width), by panels */
    real *opened; /* u_0, to the bit: its slope is taken at it */
    real *inputs, *pushed; /* of layers 1 .. N + 1, (width) by panels each; NULL: sums are made on the way */
    real *parts, *scratch; /* packed weights and sums of all layers; of a thread */
    double *value; /* (panels) */
    int64_t *grew; /* (panels): whether its states grew much */
} residual_pass;

typedef struct { /* a layer */
    int64_t d, h; /* inputs, units */
    const real *w, *bias; /* (d, h), (h); w is NULL where the opening is padding, bias where there is none */
    real *left, *back, *sum; /* packed W', packed W, sums over panels */
    real *grad; /* (d h + h), or NULL: not trained */
} residual_layer;

/* Numbers of the packed weights and sums of a layer (d, h). */
INLINE int64_t residual_part(int64_t d, int64_t h) { return place_stride(2 * d * h + sum_size(d, h) + h * LANES); }

INLINE int64_t residual_parts(const dnn_residual *net)
{
    int64_t d = net->width;
    return residual_part(net->inputs, d) + net->n_layers * residual_part(d, d) + residual_part(d, net->outputs);
}

static residual_layer residual_layer_at(const residual_pass *j, int64_t k)
{
    const dnn_residual *net = j->net;
    int64_t d = net->width, opening = net->opening == DNN_TRAINED ? (net->inputs + 1) * d : 0;
    int64_t start = k ? opening + (k - 1) * (d + 1) * d : 0;
    int64_t place = k ? residual_part(net->inputs, d) + (k - 1) * residual_part(d, d) : 0;
    residual_layer q = {.d = k ? d : net->inputs, .h = k > net->n_layers ? net->outputs : d};
    q.w = (const real *)net->w + start, q.bias = q.w + q.d * q.h;
    q.grad = j->grad ? j->grad + start : NULL;
    if (k == 0 && net->opening != DNN_TRAINED)
        q.w = net->opening == DNN_FIXED ? net->fixed : NULL, q.bias = NULL, q.grad = NULL;
    q.left = j->parts + place, q.back = q.left + q.d * q.h, q.sum = q.back + q.d * q.h;
    return q;
}

/* Row length of a panel turned: odd in vectors, for rows at even distances would share the sets of a cache. */
INLINE int64_t odd_vectors(int64_t n) { return (ceil_div(n, LANES) | 1) * LANES; }

INLINE int64_t residual_scratch(const dnn_residual *net)
{
    int64_t widest = max_index(net->width, net->inputs);
    return place_stride(PASS_COLUMNS * (PASS_GROUP * (odd_vectors(widest) + net->width) + 2 * net->outputs));
}

static size_t cut_residual_pass(residual_pass *j, char *work, const dnn_residual *net, int keeps, int threads)
{
    char *next = work;
    int64_t d = net->width, layers = keeps ? net->n_layers : 1, bytes = (int64_t)sizeof(real);
    int is_near = threads == 1 && residual_parts(net) <= PASS_CACHE / bytes;
    int64_t most = (is_near ? PASS_NEAR / bytes : PASS_NUMBERS) / ((2 * layers + 1) * d) / PASS_COLUMNS;
    j->net = net;
    j->panels = min_index(max_index(PASS_LEAST, most), PASS_ROWS / PASS_COLUMNS);
    j->panels = max_index(1, min_index(j->panels, ceil_div(net->rows, PASS_COLUMNS)));
    int64_t columns = j->panels * PASS_COLUMNS;
    j->state = keeps ? d * columns : 0;
    j->x = carve(&next, net->inputs * columns, sizeof(real));
    j->u = carve(&next, d * columns, sizeof(real));
    j->a = carve(&next, d * columns * layers, sizeof(real));
    j->f = carve(&next, net->outputs * columns, sizeof(real));
    j->adjoint = carve(&next, d * columns, sizeof(real));
    j->opened = carve(&next, keeps ? d * columns : 0, sizeof(real));
    j->inputs = keeps && threads > 1 ? carve(&next, d * columns * (layers + 1), sizeof(real)) : NULL;
    j->pushed = keeps && threads > 1 ? carve(&next, d * columns * layers, sizeof(real)) : NULL;
    j->value = carve(&next, j->panels, sizeof(double));
    j->grew = carve(&next, j->panels, sizeof(int64_t));
    j->parts = carve(&next, residual_parts(net), sizeof(real));
    j->scratch = carve(&next, threads * residual_scratch(net), sizeof(real));
    return (size_t)((uintptr_t)next - (uintptr_t)work);
}

static size_t residual_pass_work(const dnn_residual *net, int has_grad, int threads)
{
    residual_pass j;
    return cut_residual_pass(&j, NULL, net, has_grad, threads);
}
