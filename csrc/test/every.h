/* every.h: every kernel of a table once, outputs on exact-size heap arrays of their own, inputs shared and read-only;
 * no mathematics is checked, so the numbers may be anything. One precision: `real`, NAME(x). After cases.h. */

typedef struct {
    NAME(net) * net;
    dnn_root root;
    dnn_penalty penalty;
    dnn_csr csr;
    int64_t cuts[4], whole[2], groups[4], *indptr, *indices;
    real *s, *l1, *l2, *strength, *tau, *weights, *feedback;
    dnn_chain chain; /* every kind of layer, on images of one line */
    dnn_layer layers[7];
    real *chain_w, *chain_v, *direction, *beta;
    int loss;
} NAME(inputs);

/* A chain on the rows of the net, with two directions of every row. */
static void NAME(make_chain)(NAME(inputs) * in)
{
    const NAME(net) *n = in->net;
    int64_t d = n->inputs;
    dnn_layer layers[7] = {{DNN_CONV, DNN_TANH, 1, 1, d, 2, {1, 2}, {1, 1}, {0, 1}, {1, 1}, 0},
        {DNN_MAX, 0, 2, 1, d + 1, 2, {1, 2}, {1, 1}, {0, 0}, {1, 1}, 0},
        {DNN_CONV, DNN_LOGISTIC, 2, 1, d, 2, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 0},
        {DNN_ADD, 0, 2, 1, d, 2, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 2},
        {DNN_CONV, DNN_SOFTPLUS, 2, 1, d, 9, {2, 2}, {1, 2}, {1, 2}, {1, 3}, 0},
        {DNN_AVERAGE, 0, 9, 2, d / 2 + 1, 9, {2, 1}, {1, 1}, {0, 0}, {1, 1}, 0},
        {DNN_DENSE, DNN_IDENTITY, 9 * (d / 2 + 1), 1, 1, n->outputs, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 0}};
    layers[5].width = (d + 4 - 4) / 2 + 1;
    layers[6].channels = 9 * layers[5].width;
    memcpy(in->layers, layers, sizeof layers);
    in->chain = (dnn_chain){n->mlp.agents, 0, d, n->mlp.offsets, in->layers, 7, 0, NULL, n->x, NULL, 2};
    check("layers", (double)dnn_check_layers(in->layers, 7, &in->chain.params), -1, 0);
    int64_t size = n->mlp.agents * in->chain.params;
    in->chain_w = NAME(numbers)(size), in->chain_v = NAME(numbers)(size);
    in->direction = NAME(numbers)(2 * n->rows * d), in->beta = NAME(numbers)(2 * n->rows * n->outputs);
    in->chain.w = in->chain_w, in->chain.w_step = in->chain.params, in->chain.direction = in->direction;
}

/* columns 0: a diagonal root. The graph: every agent receives from all. */
static NAME(inputs) * NAME(make_inputs)(NAME(net) * net, int64_t columns, int loss)
{
    NAME(inputs) *in = calloc(1, sizeof *in);
    int64_t p = net->mlp.params, a = net->mlp.agents;
    in->net = net, in->loss = loss;
    in->s = NAME(numbers)(net->rows * net->outputs * (columns ? columns : 1));
    in->root = (dnn_root){in->s, columns ? columns : net->outputs, columns == 0, 0};
    int64_t cuts[4] = {0, p / 3, p / 3 + 1 < p ? p / 3 + 1 : p, p}, whole[2] = {0, p};
    memcpy(in->cuts, cuts, sizeof cuts), memcpy(in->whole, whole, sizeof whole);
    in->l1 = NAME(numbers)(p), in->l2 = NAME(numbers)(p), in->strength = NAME(numbers)(2), in->tau = NAME(numbers)(a);
    for (int64_t k = 0; k < p; k++) in->l1[k] = (real)fabs((double)in->l1[k]), in->l2[k] = (real)0.1;
    for (int64_t i = 0; i < a; i++) in->tau[i] = (real)(1 + fabs((double)in->tau[i]));
    for (int k = 0; k < 2; k++) in->strength[k] = (real)0.1;
    int64_t groups[4] = {0, cuts[1], cuts[2], p}; /* within the blocks */
    memcpy(in->groups, groups, sizeof groups);
    in->penalty = (dnn_penalty){in->l1, in->l2, in->groups, in->strength, cuts[1] > 0 && cuts[2] < p ? 2 : 0};
    in->indptr = malloc((size_t)(a + 1) * sizeof *in->indptr);
    in->indices = malloc((size_t)(a * a) * sizeof *in->indices);
    in->weights = NAME(numbers)(a * a);
    int64_t units = 0;
    for (int64_t k = 1; k < net->mlp.n_layers; k++) units += net->mlp.layers[k];
    in->feedback = NAME(numbers)(units * net->outputs);
    for (int64_t i = 0; i <= a; i++) in->indptr[i] = i * a;
    for (int64_t k = 0; k < a * a; k++) in->indices[k] = k % a;
    in->csr = (dnn_csr){a, in->indptr, in->indices, NULL, NULL, in->weights};
    NAME(make_chain)(in);
    return in;
}

static void NAME(free_inputs)(NAME(inputs) * in)
{
    void *all[] = {in->s, in->l1, in->l2, in->strength, in->tau, in->weights, in->indptr, in->indices, in->feedback,
        in->chain_w, in->chain_v, in->direction, in->beta};
    for (int k = 0; k < 13; k++) free(all[k]);
    NAME(free_net)(in->net);
    free(in);
}

/* The outputs go into the sum bit by bit; then they are freed. */
static uint64_t NAME(digest)(uint64_t sum, void *bytes, size_t n)
{
    for (size_t k = 0; k < n; k++) sum = (sum ^ ((unsigned char *)bytes)[k]) * 1099511628211u;
    free(bytes);
    return sum;
}

static uint64_t NAME(run_networks)(const dnn_table *t, const NAME(inputs) * in, int threads)
{
    const dnn_mlp *mlp = &in->net->mlp;
    const NAME(net) *n = in->net;
    size_t params = (size_t)(mlp->agents * mlp->params) * sizeof(real), size = (size_t)n->rows * sizeof(real);
    size_t raw = size * (size_t)n->outputs, agents = (size_t)mlp->agents * sizeof(double);
    uint64_t sum = 14695981039346656037u;
    void *work = aligned_alloc(64, t->mlp_work(mlp, NULL, threads) + 64), *out = malloc(raw + 1);
    t->mlp_forward(out, mlp, threads, work);
    double *value = malloc((size_t)n->rows * sizeof *value + 1);
    real *delta = malloc(raw + 1);
    t->loss_value_grad(value, delta, out, n->target, n->rows, n->outputs, in->loss, 0.3);
    sum = NAME(digest)(NAME(digest)(sum, out, raw), delta, raw);
    sum = NAME(digest)(sum, value, (size_t)n->rows * sizeof *value);
    t->mlp_jv(out = malloc(raw + 1), mlp, n->v, threads, work);
    sum = NAME(digest)(sum, out, raw);
    t->mlp_jtu(out = malloc(params + 1), mlp, n->u, threads, work);
    sum = NAME(digest)(sum, out, params);
    value = malloc(agents), out = malloc(params + 1);
    t->mlp_feedback(value, out, mlp, in->feedback, n->target, n->weight, in->loss, 0.3, 0.5, threads, work);
    sum = NAME(digest)(NAME(digest)(sum, out, params), value, agents);
    value = malloc(agents), out = malloc(params + 1);
    t->mlp_loss_grad(value, out, mlp, n->target, n->weight, in->loss, 0.3, 0.5, threads, work);
    free(work);
    return NAME(digest)(NAME(digest)(sum, out, params), value, agents);
}

/* The tangent kernel of the first agent against the last rows of all, then with itself. */
static uint64_t NAME(run_tangent)(const dnn_table *t, const NAME(inputs) * in, uint64_t sum, int threads)
{
    dnn_mlp first = in->net->mlp;
    int64_t n = first.offsets[1], others = in->net->rows < 20 ? in->net->rows : 20, outputs = in->net->outputs;
    const real *y = in->net->x + (in->net->rows - others) * first.layers[0];
    if (n * outputs > 200) return sum; /* the naive products are slow */
    first.agents = 1;
    for (int same = 0; same < 2; same++) {
        int64_t columns = same ? n : others;
        size_t bytes = (size_t)(n * columns * outputs * outputs) * sizeof(real);
        void *out = malloc(bytes + 1);
        void *work = aligned_alloc(64, (t->mlp_tangent_work(&first, same ? 0 : others, threads) + 127) / 64 * 64);
        t->mlp_tangent_kernel(out, &first, same ? NULL : y, same ? 0 : others, threads, work);
        free(work);
        sum = NAME(digest)(sum, out, bytes);
    }
    return sum;
}

static uint64_t NAME(run_chains)(const dnn_table *t, const NAME(inputs) * in, uint64_t sum, int threads)
{
    const NAME(net) *n = in->net;
    size_t params = (size_t)(in->chain.agents * in->chain.params) * sizeof(real), agents = (size_t)in->chain.agents;
    size_t raw = (size_t)(n->rows * n->outputs) * sizeof(real);
    void *work = aligned_alloc(64, (t->chain_work(&in->chain, threads) + 127) / 64 * 64);
    void *out = malloc(raw + 1), *tangent = malloc(2 * raw + 1);
    t->chain_forward(out, tangent, &in->chain, threads, work);
    sum = NAME(digest)(NAME(digest)(sum, out, raw), tangent, 2 * raw);
    t->chain_jv(out = malloc(raw + 1), &in->chain, in->chain_v, threads, work);
    sum = NAME(digest)(sum, out, raw);
    t->chain_jtu(out = malloc(params + 1), &in->chain, n->u, in->beta, threads, work);
    sum = NAME(digest)(sum, out, params);
    double *value = malloc(agents * sizeof *value + 1), *term = malloc(agents * sizeof *term + 1);
    out = malloc(params + 1);
    t->chain_loss_grad(
        value, term, out, &in->chain, n->target, n->weight, in->beta, in->loss, 0.3, 0.5, 0.7, threads, work);
    free(work);
    sum = NAME(digest)(NAME(digest)(sum, value, agents * sizeof *value), term, agents * sizeof *term);
    return NAME(digest)(sum, out, params);
}

static uint64_t NAME(run_curvature)(const dnn_table *t, const NAME(inputs) * in, uint64_t sum, int threads)
{
    const dnn_mlp *mlp = &in->net->mlp;
    int64_t a = mlp->agents, p = mlp->params, packed = dnn_packed_size(in->cuts, 3);
    size_t params = (size_t)(a * p) * sizeof(real), blocks = (size_t)(a * packed) * sizeof(real);
    dnn_mlp first = *mlp;
    first.agents = 1;
    size_t held = (size_t)(mlp->offsets[1] * in->root.columns * p) * sizeof(real);
    void *work = aligned_alloc(64, t->mlp_work(mlp, &in->root, threads) + 64), *out = malloc(held + 1);
    t->mlp_jacobian(out, &first, &in->root, threads, work);
    sum = NAME(digest)(sum, out, held);
    t->mlp_gauss_newton_product(out = malloc(params + 1), mlp, &in->root, in->net->v, in->cuts, 3, threads, work);
    sum = NAME(digest)(sum, out, params);
    real *b = malloc(blocks + 1), *diag = malloc(params + 1);
    free(work);
    for (int64_t k = 0; k < a * p; k++) diag[k] = in->tau[k / p];
    int64_t *steps = calloc((size_t)a, sizeof *steps);
    work = aligned_alloc(64, (t->mlp_cg_work(mlp, &in->root, threads) + 127) / 64 * 64), out = malloc(params + 1);
    t->mlp_cg_solve(out, steps, mlp, &in->root, diag, in->net->v, 3, 1e-6, threads, work);
    sum = NAME(digest)(NAME(digest)(sum, out, params), steps, (size_t)a * sizeof *steps);
    free(work);
    work = aligned_alloc(64, (t->mlp_curvature_work(mlp, &in->root, in->cuts, 3, threads) + 127) / 64 * 64);
    t->mlp_gauss_newton(b, mlp, &in->root, in->cuts, 3, threads, work);
    t->block_product(out = malloc(params + 1), b, in->net->v, a, in->cuts, 3, threads);
    sum = NAME(digest)(sum, out, params);
    free(work);
    int64_t *done = calloc((size_t)a, sizeof *done);
    out = calloc(params + 1, 1), work = aligned_alloc(64, t->descent_work(in->cuts, 3, threads) + 64);
    t->descent_solve(out, done, b, in->tau, in->net->w, in->net->v, &in->penalty, a, in->cuts, 3, 9, 0, threads, work);
    free(work);
    sum = NAME(digest)(NAME(digest)(sum, out, params), done, (size_t)a * sizeof *done);
    for (int64_t k = 0; k < a * p; k++) diag[k] = in->tau[k / p];
    done = calloc((size_t)a, sizeof *done), out = malloc(params + 1);
    t->spd_solve(out, done, b, diag, in->net->v, a, in->cuts, 3, &NAME(blas), threads);
    int sound = 1; /* what is left of a matrix that is not positive is not compared */
    for (int64_t i = 0; i < a; i++) sound = sound && done[i] == 0;
    sum = NAME(digest)(sum, done, (size_t)a * sizeof *done);
    sum = NAME(digest)(sum, out, sound ? params : 0);
    free(b), free(diag);
    return sum;
}

/* Roots at raw outputs that may be anything, and two steps of conjugate gradients. */
static uint64_t NAME(run_conjugate)(const dnn_table *t, const NAME(inputs) * in, uint64_t sum, int threads)
{
    const NAME(net) *n = in->net;
    int64_t a = n->mlp.agents, p = n->mlp.params, q = n->outputs, wide = in->loss == DNN_SOFTMAX ? q : 1;
    size_t roots = (size_t)(n->rows * q * wide) * sizeof(real), params = (size_t)(a * p) * sizeof(real);
    size_t agents = (size_t)a * sizeof(double);
    void *out = malloc(roots + 1);
    t->curvature_root(out, n->u, n->target, in->s, n->rows, q, in->loss, 0.3, threads);
    sum = NAME(digest)(sum, out, roots);
    real *rows[4];
    double *sums = calloc((size_t)(2 * a) + 1, sizeof *sums);
    for (int k = 0; k < 4; k++) rows[k] = calloc((size_t)(a * p) + 1, sizeof(real)); /* image step residual direction */
    memcpy(rows[2], n->v, params), memcpy(rows[3], n->v, params);
    for (int64_t i = 0; i < a; i++) sums[a + i] = 0.25;
    for (int k = 0; k < 2; k++) {
        t->cg_curve(sums, rows[0], n->v, rows[3], a, p, threads);
        t->cg_step(sums, rows[1], rows[2], rows[3], rows[0], sums + a, a, p, threads);
        t->cg_turn(rows[3], rows[2], sums + a, a, p, threads);
    }
    for (int k = 0; k < 4; k++) sum = NAME(digest)(sum, rows[k], params);
    return NAME(digest)(sum, sums, agents);
}

/* Products with one block, and conjugate gradients, where S_m S_m' = diag(q_m) - q_m q_m' / sum(q_m). */
static uint64_t NAME(run_centred)(const dnn_table *t, const NAME(inputs) * in, uint64_t sum, int threads)
{
    const NAME(net) *n = in->net;
    int64_t a = n->mlp.agents, numbers = n->rows * n->outputs, *steps = calloc((size_t)a, sizeof *steps);
    size_t params = (size_t)(a * n->mlp.params) * sizeof(real);
    real *q = malloc((size_t)numbers * sizeof(real) + 1), *ones = malloc(params + 1), *out = malloc(params + 1);
    for (int64_t k = 0; k < numbers; k++) q[k] = n->u[k] * n->u[k];
    for (int64_t k = 0; k < a * n->mlp.params; k++) ones[k] = 1;
    const dnn_root root = {q, 1, 0, 1};
    void *work = aligned_alloc(64, (t->mlp_work(&n->mlp, &root, threads) + 63) / 64 * 64);
    t->mlp_gauss_newton_product(out, &n->mlp, &root, n->v, in->whole, 1, threads, work);
    sum = NAME(digest)(sum, out, params);
    free(work);
    work = aligned_alloc(64, (t->mlp_cg_work(&n->mlp, &root, threads) + 63) / 64 * 64), out = malloc(params + 1);
    t->mlp_cg_solve(out, steps, &n->mlp, &root, ones, n->v, 3, 1e-6, threads, work);
    free(work), free(q), free(ones);
    return NAME(digest)(NAME(digest)(sum, steps, (size_t)a * sizeof *steps), out, params);
}

static uint64_t NAME(run_dual)(const dnn_table *t, const NAME(inputs) * in, uint64_t sum, int threads)
{
    const dnn_mlp *mlp = &in->net->mlp;
    int64_t a = mlp->agents, numbers = 0;
    for (int64_t i = 0; i < a; i++) {
        int64_t rows = mlp->offsets[i + 1] - mlp->offsets[i];
        if (rows * in->root.columns > 200) return sum; /* the naive Cholesky is slow */
        numbers += rows * rows;
    }
    size_t params = (size_t)(a * mlp->params) * sizeof(real), grams = (size_t)numbers * sizeof(real);
    real *gram = malloc(grams + 1), *out = malloc(params + 1), l2[DNN_MAX_LAYERS];
    int64_t *status = calloc((size_t)a, sizeof *status);
    for (int64_t k = 0; k < mlp->n_layers; k++) l2[k] = (real)0.5;
    void *work = aligned_alloc(64, (t->mlp_dual_work(mlp, &in->root, threads) + 127) / 64 * 64);
    t->rows_gram(gram, mlp->x, mlp->offsets, a, mlp->layers[0], &NAME(blas));
    t->mlp_dual_solve(out, status, mlp, &in->root, gram, in->tau, l2, in->net->v, in->cuts, 3, threads, work);
    free(work);
    sum = NAME(digest)(NAME(digest)(sum, out, params), status, (size_t)a * sizeof *status);
    return NAME(digest)(sum, gram, grams);
}

/* One iteration by its parts, as one call, and as one call with a model, by Cholesky and by conjugate gradients, with a
 * root that is given or made. `compare`: the numbers are finite, so the bits of the first two must be the same. */
static uint64_t NAME(run_iteration)(const dnn_table *t, const NAME(inputs) * in, uint64_t sum, int threads, int compare)
{
    static const double rounds[9] = {1.2, -0.2, 0, 1.1, 0.3, -0.4, 0.9, 0.2, -0.1};
    static const dnn_rule rule = {3, 2, 2, 1e-4, 1e4};
    const dnn_mlp *mlp = &in->net->mlp;
    const NAME(net) *n = in->net;
    int64_t a = mlp->agents, p = mlp->params, size = a * p;
    enum { WAYS = 6 };
    real *parts[WAYS];
    double *scalars[WAYS];
    dnn_model model = {.group = a > 1 ? a - 1 : 1, .status = calloc((size_t)a + 1, sizeof(int64_t)), .tol = 1e-6};
    for (int whole = 0; whole < WAYS;
        whole++) { /* w_hat z w y grad; value squares disagreement size received tau beta */
        real *r = parts[whole] = calloc((size_t)(5 * size), sizeof(real));
        double *d = scalars[whole] = calloc((size_t)(7 * a), sizeof(double));
        for (int64_t i = 0; i < a; i++) d[5 * a + i] = (double)in->tau[i], d[6 * a + i] = 0.5 + (double)i;
        dnn_mlp moved = *mlp;
        moved.w = r + 2 * size;
        dnn_iteration it = {{moved, n->target, n->weight, in->loss, 0.3, 0.5, in->penalty}, {in->csr, rounds, 3},
            {r, r + size, r + 3 * size, r + 4 * size, d, d + a, d + 2 * a, d + 3 * a, d + 4 * a, d + 5 * a, d + 6 * a,
                n->w, n->v, n->v},
            {0.7, 3, &rule, whole > 1 ? &model : NULL}};
        const dnn_root unmade = {NULL, n->outputs, in->loss != DNN_SOFTMAX, 0};
        model.root = whole > 3 ? unmade : in->root, model.share = whole > 3 ? n->weight : NULL;
        model.steps = whole % 2 ? 3 : 0;
        model.blocks = whole == 4 ? in->cuts : in->whole, model.n_blocks = whole == 4 ? 3 : 1;
        size_t bytes = t->step_work(&it, threads), other = t->mix_work(a, p, threads);
        void *work = aligned_alloc(64, ((bytes > other ? bytes : other) + 127) / 64 * 64);
        if (whole) {
            t->next_step(&it, threads, work);
        } else {
            real *sent = malloc((size_t)a * sizeof *sent), *received = malloc((size_t)a * sizeof *received);
            for (int64_t i = 0; i < a; i++) sent[i] = (real)d[6 * a + i];
            t->proximal_step(r + size, r, n->w, n->v, d + 5 * a, 0.7, 3, &in->penalty, a, p, threads);
            t->network_mix(r + 2 * size, d + 2 * a, d + 3 * a, r + size, &in->csr, rounds, 3, p, threads, work);
            t->network_mix(r + 3 * size, NULL, NULL, n->v, &in->csr, rounds, 3, p, threads, work);
            t->neighbour_max(received, sent, &in->csr, 1);
            for (int64_t i = 0; i < a; i++) d[4 * a + i] = (double)received[i];
            t->mlp_loss_grad(d, r + 4 * size, &moved, n->target, n->weight, in->loss, 0.3, 0.5, threads, work);
            t->tracker_update(r + 3 * size, d + a, r + 4 * size, n->v, moved.w, a, p, threads);
            t->secant_rule(
                d + 5 * a, d + 6 * a, d + 4 * a, moved.w, n->w, r + 3 * size, n->v, NULL, &rule, a, p, threads);
            double *change = calloc((size_t)(2 * a), sizeof *change);
            t->row_change(change, change + a, n->w, n->v, 0.7, a, p, threads);
            sum = NAME(digest)(sum, change, (size_t)(2 * a) * sizeof *change);
            free(sent), free(received);
        }
        free(work);
    }
    if (compare) {
        check("next_step: rows", memcmp(parts[0], parts[1], (size_t)(5 * size) * sizeof(real)) != 0, 0, 0);
        check("next_step: scalars", memcmp(scalars[0], scalars[1], (size_t)(7 * a) * sizeof(double)) != 0, 0, 0);
    }
    sum = NAME(digest)(sum, model.status, (size_t)a * sizeof(int64_t));
    for (int whole = 0; whole < WAYS; whole++) {
        sum = NAME(digest)(sum, parts[whole], (size_t)(5 * size) * sizeof(real));
        sum = NAME(digest)(sum, scalars[whole], (size_t)(7 * a) * sizeof(double));
    }
    return sum;
}

/* Two chains of two residual layers, then a whole network of them. */
static uint64_t NAME(run_residual)(const dnn_table *t, const NAME(inputs) * in, uint64_t sum, int threads)
{
    enum { WIDTH = 3, COLUMNS = 32, ROWS = 6, LAYERS = 2, SIZE = WIDTH * (WIDTH + 1) };
    const int64_t layer[4] = {0, 1, 1, 0}, state[4] = {0, 2, 5, 1};
    const double size[4] = {0.5, 0.25, 0, 1};
    int64_t n = 3 * ROWS * WIDTH * COLUMNS + 2 * LAYERS * SIZE;
    real *all = malloc((size_t)n * sizeof *all);
    for (int64_t i = 0; i < n; i++) all[i] = (real)((double)(i * 7919 % 101) / 101 - 0.5); /* alike in every run */
    real *layers = all, *direction = layers + LAYERS * SIZE, *u = direction + LAYERS * SIZE;
    real *other = u + ROWS * WIDTH * COLUMNS, *g = other + ROWS * WIDTH * COLUMNS;
    dnn_chains c = {2, 2, WIDTH, COLUMNS, 3, layers, layer, size, state, DNN_TANH + in->loss % 3};
    if (in->loss == 4) c.activation = DNN_SMOOTH_RELU;
    void *work = aligned_alloc(64, (t->residual_work(&c, threads) + 127) / 64 * 64);
    size_t states = ROWS * WIDTH * COLUMNS * sizeof(real), bytes = 4 * WIDTH * COLUMNS * sizeof(real);
    real *pushed = malloc(bytes), *grad = malloc(4 * SIZE * sizeof(real)), *kept = malloc(states);
    t->residual_forward(u, NULL, &c, g, threads, work);
    t->residual_tangent(u, other, &c, direction, threads, work);
    t->residual_backward(g, pushed, &c, u, NULL, other, threads, work);
    t->residual_gradient(grad, &c, u, pushed, &NAME(blas), threads);
    memcpy(kept, u, states);
    sum = NAME(digest)(NAME(digest)(sum, kept, states), pushed, bytes);
    free(work);
    dnn_residual net = {
        ROWS * WIDTH, COLUMNS / 4, WIDTH, LAYERS, 1, DNN_TRAINED + in->loss % 2, c.activation, 0.5, all, u, u};
    int64_t params = LAYERS * SIZE + WIDTH + 1 + (net.opening == DNN_TRAINED ? (net.inputs + 1) * WIDTH : 0);
    work = aligned_alloc(64, (t->residual_pass_work(&net, 1, threads) + 127) / 64 * 64);
    double value = 0;
    real *slope = malloc((size_t)params * sizeof *slope);
    t->residual_loss_grad(&value, slope, &net, g, NULL, -1, 0, 1, threads, work);
    sum = NAME(digest)(sum, slope, (size_t)params * sizeof *slope);
    t->residual_outputs(slope = malloc(ROWS * WIDTH * sizeof *slope), &net, threads, work);
    sum = NAME(digest)(sum, slope, ROWS * WIDTH * sizeof *slope);
    free(work), free(all);
    return NAME(digest)(sum, grad, 4 * SIZE * sizeof(real));
}

/* All of it; equal inputs must give an equal number. */
static uint64_t NAME(run_every)(const dnn_table *t, const NAME(inputs) * in, int threads, int compare)
{
    int64_t a = in->net->mlp.agents, p = in->net->mlp.params;
    size_t params = (size_t)(a * p) * sizeof(real);
    uint64_t sum = NAME(run_curvature)(t, in, NAME(run_networks)(t, in, threads), threads);
    sum = NAME(run_dual)(t, in, NAME(run_tangent)(t, in, sum, threads), threads);
    sum = NAME(run_residual)(t, in, NAME(run_conjugate)(t, in, sum, threads), threads);
    sum = NAME(run_centred)(t, in, sum, threads);
    sum = NAME(run_iteration)(t, in, sum, threads, compare);
    sum = NAME(run_chains)(t, in, sum, threads);
    void *out = malloc(params + 1);
    t->penalty_prox(out, in->net->w, in->tau, &in->penalty, a, p, threads);
    sum = NAME(digest)(sum, out, params);
    t->csr_mix(out = malloc(params + 1), in->net->w, &in->csr, in->net->v, 2, -0.5, 0.25, p, threads);
    return NAME(digest)(sum, out, params);
}
