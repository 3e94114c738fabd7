/* cases.h: every kernel on exact-size heap arrays, so that a sanitizer sees each step outside; checked as mathematics.
 * One precision: `real`, NAME(x), TOLERANCE, PRECISION. */

static real *NAME(numbers)(int64_t n)
{
    real *a = malloc((size_t)n * sizeof *a + 1); /* one byte more: n may be 0 */
    for (int64_t i = 0; i < n; i++) a[i] = (real)(random_unit() - 0.5);
    return a;
}

static double NAME(product)(const real *a, const real *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

typedef struct {
    dnn_mlp mlp;
    int64_t offsets[5], layers[5], rows, inputs, outputs;
    real *w, *x, *target, *v, *u, *weight;
} NAME(net);

static NAME(net)
    * NAME(make_net)(const int64_t *layers, int n_layers, const int64_t *shares, int agents, int activation)
{
    NAME(net) *n = calloc(1, sizeof *n);
    for (int i = 0; i < agents; i++) n->offsets[i + 1] = n->offsets[i] + shares[i];
    for (int k = 0; k <= n_layers; k++) n->layers[k] = layers[k];
    for (int k = 0; k < n_layers; k++) n->mlp.params += (layers[k] + 1) * layers[k + 1];
    n->rows = n->offsets[agents], n->inputs = layers[0], n->outputs = layers[n_layers];
    n->w = NAME(numbers)(agents * n->mlp.params), n->v = NAME(numbers)(agents * n->mlp.params);
    n->x = NAME(numbers)(n->rows * n->inputs), n->u = NAME(numbers)(n->rows * n->outputs);
    n->target = NAME(numbers)(n->rows * n->outputs), n->weight = NAME(numbers)(n->rows);
    n->mlp.agents = agents, n->mlp.offsets = n->offsets, n->mlp.layers = n->layers, n->mlp.n_layers = n_layers;
    n->mlp.activation = activation, n->mlp.w_step = n->mlp.params, n->mlp.w = n->w, n->mlp.x = n->x;
    n->mlp.blas = &NAME(blas);
    return n;
}

static void NAME(free_net)(NAME(net) * n)
{
    void *all[] = {n->w, n->x, n->target, n->v, n->u, n->weight, n};
    for (int k = 0; k < 7; k++) free(all[k]);
}

/* J v against J'u; J'u against the gradient of a linear loss; the gradient against a central difference. */
static void NAME(test_mlp)(const dnn_table *t, NAME(net) * n, int threads)
{
    int64_t p = n->mlp.params, a = n->mlp.agents;
    real *jv = NAME(numbers)(n->rows * n->outputs), *jtu = NAME(numbers)(a * p), *grad = NAME(numbers)(a * p);
    real *f = NAME(numbers)(n->rows * n->outputs);
    double *value = malloc((size_t)a * sizeof *value), *moved = malloc((size_t)a * sizeof *moved);
    void *work = aligned_alloc(64, t->mlp_work(&n->mlp, NULL, threads) + 64);
    t->mlp_forward(f, &n->mlp, threads, work);
    t->mlp_jv(jv, &n->mlp, n->v, threads, work);
    t->mlp_jtu(jtu, &n->mlp, n->u, threads, work);
    check("J v, J'u", NAME(product)(jv, n->u, n->rows * n->outputs), NAME(product)(jtu, n->v, a * p), TOLERANCE);
    for (int loss = 0; loss < DNN_LOSSES; loss++) {
        if (loss == DNN_SOFTMAX) /* one-hot; the last loss but one, the hinge takes it too */
            for (int64_t k = 0; k < n->rows * n->outputs; k++) n->target[k] = k % n->outputs == 0;
        t->mlp_loss_grad(value, grad, &n->mlp, n->target, n->weight, loss, 0.3, 0.5, threads, work);
        double h = sqrt(TOLERANCE), slope = NAME(product)(grad, n->v, a * p), difference = 0;
        real *w = NAME(numbers)(a * p);
        n->mlp.w = w;
        for (int side = 0; side < 2; side++) {
            for (int64_t k = 0; k < a * p; k++) w[k] = (real)(n->w[k] + (side ? h : -h) * n->v[k]);
            t->mlp_loss_grad(side ? value : moved, NULL, &n->mlp, n->target, n->weight, loss, 0.3, 0.5, threads, work);
        }
        for (int64_t i = 0; i < a; i++) difference += (value[i] - moved[i]) / (2 * h);
        if (n->mlp.activation != DNN_RELU) check("gradient", slope, difference, 30 * sqrt(TOLERANCE));
        n->mlp.w = n->w;
        free(w);
    }
    void *all[] = {jv, jtu, grad, f, value, moved, work};
    for (int k = 0; k < 7; k++) free(all[k]);
}

/* J'SS'J from J, from its blocks, and its product with v, for diagonal and full S. */
static void NAME(test_curvature)(const dnn_table *t, NAME(net) * n, int64_t columns, int threads)
{
    int64_t p = n->mlp.params, a = n->mlp.agents, cuts[4] = {0, p / 3, p / 3 + 1 < p ? p / 3 + 1 : p, p};
    int diagonal = columns == 0;
    real *s = NAME(numbers)(n->rows * n->outputs * (diagonal ? 1 : columns));
    dnn_root root = {s, diagonal ? n->outputs : columns, diagonal, 0};
    int64_t packed = dnn_packed_size(cuts, 3), whole[2] = {0, p}, height = n->offsets[1] * root.columns;
    real *b = NAME(numbers)(a * packed), *bv = NAME(numbers)(a * p), *bv2 = NAME(numbers)(a * p);
    real *full = NAME(numbers)(a * p * p), *j = NAME(numbers)(height * p);
    size_t bytes = t->mlp_work(&n->mlp, &root, threads), whole_bytes, part_bytes;
    part_bytes = t->mlp_curvature_work(&n->mlp, &root, cuts, 3, threads);
    whole_bytes = t->mlp_curvature_work(&n->mlp, &root, whole, 1, threads);
    bytes = bytes > part_bytes ? bytes : part_bytes;
    void *work = aligned_alloc(64, ((bytes > whole_bytes ? bytes : whole_bytes) + 127) / 64 * 64);
    t->mlp_gauss_newton(b, &n->mlp, &root, cuts, 3, threads, work);
    t->mlp_gauss_newton_product(bv, &n->mlp, &root, n->v, cuts, 3, threads, work);
    t->block_product(bv2, b, n->v, a, cuts, 3, threads);
    check("blocks", NAME(product)(bv, n->v, a * p), NAME(product)(bv2, n->v, a * p), TOLERANCE);
    t->mlp_gauss_newton(full, &n->mlp, &root, whole, 1, threads, work);
    t->mlp_gauss_newton_product(bv, &n->mlp, &root, n->v, whole, 1, threads, work);
    t->block_product(bv2, full, n->v, a, whole, 1, threads);
    check("one block", NAME(product)(bv, n->v, a * p), NAME(product)(bv2, n->v, a * p), TOLERANCE);
    dnn_mlp one = n->mlp;
    one.agents = 1;
    t->mlp_jacobian(j, &one, &root, threads, work);
    double along = 0;
    for (int64_t m = 0; m < height; m++) along += pow(NAME(product)(j + m * p, n->v, p), 2);
    check("J", along, NAME(product)(bv2, n->v, p), TOLERANCE);
    real *diag = NAME(numbers)(a * p), *x = NAME(numbers)(a * p), *back = NAME(numbers)(a * p);
    int64_t *status = malloc((size_t)a * sizeof *status);
    for (int64_t k = 0; k < a * p; k++) diag[k] = 1;
    real *worn = NAME(numbers)(a * packed);
    memcpy(worn, b, (size_t)(a * packed) * sizeof(real));
    t->spd_solve(x, status, worn, diag, n->v, a, cuts, 3, &NAME(blas), threads);
    t->block_product(back, b, x, a, cuts, 3, threads);
    for (int64_t k = 0; k < a * p; k++) back[k] += x[k];
    check("solve", NAME(product)(back, back, a * p), NAME(product)(n->v, n->v, a * p), 100 * TOLERANCE);
    void *all[] = {s, b, bv, bv2, full, j, work, diag, x, back, status, worn};
    for (int k = 0; k < 12; k++) free(all[k]);
}

/* The dual solve: (B + D) x gives the right-hand side back, with B x from the kernel's product. */
static void NAME(test_dual)(const dnn_table *t, NAME(net) * n, int64_t columns, int threads)
{
    int64_t p = n->mlp.params, a = n->mlp.agents, cuts[4] = {0, p / 3, p / 3 + 1 < p ? p / 3 + 1 : p, p}, numbers = 0;
    int diagonal = columns == 0;
    real *s = NAME(numbers)(n->rows * n->outputs * (diagonal ? 1 : columns));
    dnn_root root = {s, diagonal ? n->outputs : columns, diagonal, 0};
    for (int64_t i = 0; i < a; i++)
        numbers += (n->offsets[i + 1] - n->offsets[i]) * (n->offsets[i + 1] - n->offsets[i]);
    real *gram = NAME(numbers)(numbers), *tau = NAME(numbers)(a), *l2 = NAME(numbers)(n->mlp.n_layers);
    real *x = NAME(numbers)(a * p), *back = NAME(numbers)(a * p);
    int64_t *status = malloc((size_t)a * sizeof *status);
    for (int64_t i = 0; i < a; i++) tau[i] = 1;
    for (int64_t k = 0; k < n->mlp.n_layers; k++) l2[k] = (real)0.5;
    size_t bytes = t->mlp_dual_work(&n->mlp, &root, threads), other = t->mlp_work(&n->mlp, &root, threads);
    void *work = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64),
         *work2 = aligned_alloc(64, (other + 63) / 64 * 64 + 64);
    t->rows_gram(gram, n->x, n->offsets, a, n->inputs, &NAME(blas));
    for (int kept = 0; kept < 2; kept++) {
        t->mlp_dual_solve(x, status, &n->mlp, &root, kept ? gram : NULL, tau, l2, n->v, cuts, 3, threads, work);
        t->mlp_gauss_newton_product(back, &n->mlp, &root, x, cuts, 3, threads, work2);
        for (int64_t i = 0, k = 0; i < a; i++)
            for (int64_t u = 0; u < n->mlp.n_layers; u++)
                for (int64_t e = 0; e < (n->layers[u] + 1) * n->layers[u + 1]; e++, k++)
                    back[k] += x[k] * (real)(e < n->layers[u] * n->layers[u + 1] ? 1.5 : 1);
        double square = 0;
        for (int64_t k = 0; k < a * p; k++) square += pow((double)(back[k] - n->v[k]), 2);
        check("dual", square, 0, 100 * TOLERANCE);
        for (int64_t i = 0; i < a; i++) check("dual status", (double)status[i], 0, 0);
    }
    void *all[] = {s, gram, tau, l2, x, back, status, work, work2};
    for (int k = 0; k < 9; k++) free(all[k]);
}

/* Descent without penalty reaches the solution of the linear system; prox and mixing against their formulas. */
static void NAME(test_rows)(const dnn_table *t, int64_t p, int64_t a, int threads)
{
    int64_t cuts[2] = {0, p}, groups[4] = {0, 2, p / 2, p / 2 + 2}, *done = malloc((size_t)a * sizeof *done);
    real *b = NAME(numbers)(a * p * p), *tau = NAME(numbers)(a), *w = NAME(numbers)(a * p), *g = NAME(numbers)(a * p);
    real *v = NAME(numbers)(a * p), *flat = NAME(numbers)(p), strength[2] = {0, 0};
    for (int64_t k = 0; k < a * p * p; k++) b[k] = (real)(k % (p * p) % (p + 1) == 0 ? 2 : 0.01);
    for (int64_t i = 0; i < a; i++) tau[i] = 1;
    for (int64_t k = 0; k < p; k++) flat[k] = 0;
    dnn_penalty penalty = {flat, flat, groups, strength, p >= 4 ? 2 : 0};
    void *work = aligned_alloc(64, t->descent_work(cuts, 1, threads) + 64);
    t->descent_solve(v, done, b, tau, w, g, &penalty, a, cuts, 1, 500, 1e-16, threads, work);
    real *image = NAME(numbers)(a * p), *step = NAME(numbers)(a * p);
    for (int64_t k = 0; k < a * p; k++) step[k] = v[k] - w[k];
    t->block_product(image, b, step, a, cuts, 1, threads);
    for (int64_t k = 0; k < a * p; k++) image[k] += step[k] + g[k];
    check("descent", NAME(product)(image, image, a * p), 0, 10 * TOLERANCE);
    for (int64_t k = 0; k < p; k++) flat[k] = (real)0.25;
    penalty.n_groups = 0;
    t->penalty_prox(v, w, tau, &penalty, a, p, threads);
    for (int64_t k = 0; k < a * p; k++) {
        double left = fabs((double)w[k]) - 0.25, want = left > 0 ? copysign(left, (double)w[k]) / 1.25 : 0;
        check("prox", (double)v[k], want, TOLERANCE);
    }
    int64_t *indptr = malloc((size_t)(a + 1) * sizeof *indptr), *indices = malloc((size_t)a * sizeof *indices);
    for (int64_t i = 0; i <= a; i++) indptr[i] = i;
    for (int64_t i = 0; i < a; i++) indices[i] = (i + 1) % a;
    dnn_csr csr = {a, indptr, indices, NULL, NULL, tau};
    t->csr_mix(v, w, &csr, g, 2, -0.5, 0.25, p, threads);
    for (int64_t i = 0; i < a; i++)
        for (int64_t k = 0; k < p; k++) {
            double next = (double)w[(i + 1) % a * p + k], want = 2 * next - 0.5 * w[i * p + k] + 0.25 * g[i * p + k];
            check("mix", (double)v[i * p + k], want, TOLERANCE);
        }
    void *all[] = {done, b, tau, w, g, v, flat, work, image, step, indptr, indices};
    for (int k = 0; k < 12; k++) free(all[k]);
}

/* One iteration in one call against its parts, bit by bit; strips of columns against single rounds. */
static void NAME(test_steps)(const dnn_table *t, NAME(net) * n, int threads)
{
    int64_t p = n->mlp.params, a = n->mlp.agents, groups[4] = {0, p > 3 ? 2 : 1, p > 3 ? 2 : p, p > 3 ? 3 : p};
    int64_t *indptr = malloc((size_t)(a + 1) * sizeof *indptr), *indices = malloc((size_t)(2 * a) * sizeof *indices);
    for (int64_t i = 0; i <= a; i++) indptr[i] = 2 * i;
    for (int64_t i = 0; i < a; i++) indices[2 * i] = i, indices[2 * i + 1] = (i + 1) % a;
    real *flat = NAME(numbers)(p), *weight = NAME(numbers)(2 * a), strength[2] = {(real)0.1, (real)0.2};
    real *rows[12];
    double *sums[12], rounds[9] = {1.5, -0.5, 0, 2, -0.5, -0.5, 1.8, -0.5, -0.3};
    for (int k = 0; k < 12; k++) rows[k] = NAME(numbers)(a * p), sums[k] = malloc((size_t)a * sizeof(double) + 1);
    for (int64_t k = 0; k < p; k++) flat[k] = (real)0.01;
    for (int64_t i = 0; i < a; i++) sums[0][i] = sums[2][i] = 2, sums[1][i] = sums[3][i] = 0.5;
    dnn_penalty penalty = {flat, flat, groups, strength, p > 3 ? 2 : 0};
    dnn_csr csr = {a, indptr, indices, NULL, NULL, weight};
    dnn_rule rule = {3, 3, 1.2, 1e-3, 1e3};
    dnn_iteration it = {{n->mlp, n->target, n->weight, DNN_SQUARED_ERROR, 0, 0.5, penalty}, {csr, rounds, 3},
        {rows[0], rows[1], rows[2], rows[3], sums[4], sums[5], sums[6], sums[7], sums[8], sums[0], sums[1], n->w, n->v,
            rows[4]},
        {0.7, 3, &rule, NULL}};
    it.problem.mlp.w = rows[5];
    void *work = aligned_alloc(64, (t->step_work(&it, threads) + 63) / 64 * 64 + 64);
    t->next_step(&it, threads, work);
    t->proximal_step(rows[6], rows[7], n->w, n->v, sums[2], 0.7, 3, &penalty, a, p, threads);
    t->network_mix(rows[8], sums[9], sums[10], rows[6], &csr, rounds, 3, p, threads, work);
    t->network_mix(rows[9], NULL, NULL, n->v, &csr, rounds, 3, p, threads, work);
    check("z", (double)memcmp(rows[1], rows[6], (size_t)(a * p) * sizeof(real)), 0, 0);
    check("w_hat", (double)memcmp(rows[0], rows[7], (size_t)(a * p) * sizeof(real)), 0, 0);
    check("w", (double)memcmp(rows[5], rows[8], (size_t)(a * p) * sizeof(real)), 0, 0);
    check("disagreement", (double)memcmp(sums[6], sums[9], (size_t)a * sizeof(double)), 0, 0);
    t->tracker_update(rows[9], sums[11], rows[3], rows[4], rows[8], a, p, threads);
    check("y", (double)memcmp(rows[2], rows[9], (size_t)(a * p) * sizeof(real)), 0, 0);
    check("squares", (double)memcmp(sums[5], sums[11], (size_t)a * sizeof(double)), 0, 0);
    t->secant_rule(sums[2], sums[3], sums[8], rows[8], n->w, rows[9], n->v, NULL, &rule, a, p, threads);
    check("tau", (double)memcmp(sums[0], sums[2], (size_t)a * sizeof(double)), 0, 0);
    check("beta", (double)memcmp(sums[1], sums[3], (size_t)a * sizeof(double)), 0, 0);
    t->csr_mix(rows[7], rows[6], &csr, NULL, 1.5, -0.5, 0, p, threads);
    t->row_change(sums[9], sums[10], rows[6], rows[7], 1 / 1.5, a, p, threads);
    check("first round", (double)memcmp(sums[6], sums[9], (size_t)a * sizeof(double)), 0, 0);
    check("size", (double)memcmp(sums[7], sums[10], (size_t)a * sizeof(double)), 0, 0);
    t->neighbour_max(rows[9], rows[7], &csr, p);
    for (int64_t i = 0; i < a; i++) check("received", rows[9][i * p], rows[7][(i + 1) % a * p], a > 1 ? 0 : INFINITY);
    for (int k = 0; k < 12; k++) free(rows[k]), free(sums[k]);
    void *all[] = {indptr, indices, flat, weight, work};
    for (int k = 0; k < 5; k++) free(all[k]);
}

/* The larger of two agents has fewer parts (26, not 32): their places must do for both. On one thread the same bits. */
static void NAME(test_places)(const dnn_table *t, int threads)
{
    const int64_t layers[3] = {1, 900, 1}, shares[2] = {1985, 2049};
    NAME(net) *n = NAME(make_net)(layers, 2, shares, 2, DNN_TANH);
    real *grad = NAME(numbers)(2 * n->mlp.params), *same = NAME(numbers)(2 * n->mlp.params);
    double value[2];
    void *work = aligned_alloc(64, (t->mlp_work(&n->mlp, NULL, threads) + 63) / 64 * 64);
    t->mlp_loss_grad(value, grad, &n->mlp, n->target, n->weight, DNN_SQUARED_ERROR, 0, 0.5, threads, work);
    t->mlp_loss_grad(value, same, &n->mlp, n->target, n->weight, DNN_SQUARED_ERROR, 0, 0.5, 1, work);
    check("places", (double)memcmp(grad, same, (size_t)(2 * n->mlp.params) * sizeof(real)), 0, 0);
    free(grad), free(same), free(work);
    NAME(free_net)(n);
}

static void NAME(test_level)(const dnn_table *t, int threads)
{
    const int64_t layers[4][5] = {{3, 2}, {5, 7, 1}, {17, 19, 4, 3}, {1, 1, 1, 1, 1}};
    const int64_t shares[3][3] = {{40, 0, 1}, {700, 3, 70}, {0, 0, 0}};
    for (int shape = 0; shape < 4; shape++)
        for (int share = 0; share < 3; share++)
            for (int activation = 0; activation < DNN_ACTIVATIONS; activation++) {
                NAME(net) *n = NAME(make_net)(layers[shape], shape + 1, shares[share], 3, activation);
                NAME(test_mlp)(t, n, threads);
                if (activation == DNN_TANH) NAME(test_steps)(t, n, threads);
                if (n->rows < 100)
                    for (int64_t columns = 0; columns < 3; columns++) NAME(test_dual)(t, n, columns, threads);
                if (n->rows < 100 || activation == DNN_TANH)
                    for (int64_t columns = 0; columns < 3; columns++) NAME(test_curvature)(t, n, columns, threads);
                NAME(free_net)(n);
            }
    const int64_t many[3] = {20000, 0, 9}; /* enough for several threads, in panels of one agent */
    NAME(net) *n = NAME(make_net)(layers[1], 2, many, 3, DNN_TANH);
    NAME(test_mlp)(t, n, threads);
    NAME(free_net)(n);
    NAME(test_places)(t, threads);
    for (int64_t p = 1; p < 150; p += p < 40 ? 1 : 23) NAME(test_rows)(t, p, 1 + p % 4, threads);
}
