/* strips.h: shapes so large that few rows are cut among threads, on exact-size heap arrays: on one thread the same bits.
 * One precision: `real`, NAME(x). After cases.h. */

static void NAME(same)(const char *what, const void *one, const void *many, int64_t n)
{
    check(what, memcmp(one, many, (size_t)n * sizeof(real)) != 0, 0, 0);
}

/* Conjugate gradients, steps, penalties and one round of mixing: a agents of p numbers each, more than 4 MiB. */
static void NAME(test_strips)(const dnn_table *t, int64_t a, int64_t p, int threads)
{
    enum { ARRAYS = 9 };
    const int64_t indptr[3] = {0, a, 2 * a}, indices[4] = {0, a - 1, 0, 1};
    const real data[4] = {(real)0.25, (real)0.75, (real)0.5, (real)0.5};
    const double rounds[3] = {1.25, -0.25, 0}, factor[2] = {0.5, -0.25};
    const dnn_rule rule = {3, 2, 2, 1e-4, 1e4};
    const dnn_csr csr = {a, indptr, indices, NULL, NULL, data};
    real *in[4], *out[2][ARRAYS], *flat = NAME(numbers)(p), scale[2] = {(real)0.5, 2};
    double sums[2][10];
    const dnn_penalty penalty = {flat, flat, NULL, NULL, 0};
    for (int64_t k = 0; k < p; k++) flat[k] = (real)0.125;
    for (int k = 0; k < 4; k++) in[k] = NAME(numbers)(a * p);
    memset(sums, 0, sizeof sums);
    for (int many = 0; many < 2; many++) {
        int team = many ? threads : 1;
        real **r = out[many];
        double *s = sums[many], tau[2] = {1, 2};
        void *work = aligned_alloc(64, (t->mix_work(a, p, team) + 127) / 64 * 64);
        for (int k = 0; k < ARRAYS; k++) {
            r[k] = malloc((size_t)(a * p) * sizeof(real));
            memcpy(r[k], in[k % 4], (size_t)(a * p) * sizeof(real));
        }
        t->cg_curve(s, r[0], in[1], in[2], a, p, team);
        t->cg_step(s + 2, r[1], r[2], in[3], r[0], factor, a, p, team);
        t->cg_turn(r[3], r[2], factor, a, p, team);
        t->proximal_step(r[4], r[5], in[0], in[1], tau, 0.7, 3, &penalty, a, p, team);
        t->tracker_update(r[6], s + 4, in[0], in[1], in[3], a, p, team);
        s[6] = s[7] = 1;
        t->secant_rule(s + 6, s + 8, tau, in[0], in[1], r[6], in[2], NULL, &rule, a, p, team);
        t->penalty_prox(r[7], in[2], scale, &penalty, a, p, team);
        t->csr_mix(r[8], in[3], &csr, in[0], 1.25, -0.25, 0.5, p, team);
        double change[2], size[2];
        t->network_mix(r[4], change, size, r[5], &csr, rounds, 1, p, team, work);
        for (int64_t i = 0; i < a; i++) s[i] += 3 * change[i] + 5 * size[i];
        free(work);
    }
    for (int k = 0; k < ARRAYS; k++) NAME(same)("strips", out[0][k], out[1][k], a * p);
    check("sums over strips", memcmp(sums[0], sums[1], sizeof sums[0]) != 0, 0, 0);
    for (int k = 0; k < ARRAYS; k++) free(out[0][k]), free(out[1][k]);
    for (int k = 0; k < 4; k++) free(in[k]);
    free(flat);
}

/* Roots of curvatures in chunks of rows. */
static void NAME(test_roots)(const dnn_table *t, int64_t rows, int64_t outputs, int loss, int threads)
{
    int64_t n = rows * outputs, numbers = loss == DNN_SOFTMAX ? n * outputs : n;
    real *f = NAME(numbers)(n), *target = NAME(numbers)(n), *share = NAME(numbers)(rows);
    real *one = NAME(numbers)(numbers), *many = NAME(numbers)(numbers);
    t->curvature_root(one, f, target, share, rows, outputs, loss, 0.3, 1);
    t->curvature_root(many, f, target, share, rows, outputs, loss, 0.3, threads);
    NAME(same)("roots", one, many, numbers);
    void *all[] = {f, target, share, one, many};
    for (int k = 0; k < 5; k++) free(all[k]);
}

/* A residual network in panels of rows: outputs, loss and gradient; h 0: 1 / 4. */
static void NAME(test_pass)(const dnn_table *t, dnn_residual net, int loss, int threads)
{
    int64_t d = net.width, params = net.n_layers * d * (d + 1) + (d + 1) * net.outputs, n = net.rows * net.outputs;
    if (net.opening == DNN_TRAINED) params += (net.inputs + 1) * d;
    real *w = NAME(numbers)(params), *fixed = NAME(numbers)(net.inputs * d), *x = NAME(numbers)(net.rows * net.inputs);
    real *target = NAME(numbers)(n), *weight = NAME(numbers)(net.rows), *grad[2], *out[2];
    double value[3];
    net.w = w, net.fixed = net.opening == DNN_FIXED ? fixed : NULL, net.x = x;
    if (net.h == 0) net.h = 0.25;
    for (int many = 0; many < 2; many++) {
        int team = many ? threads : 1;
        grad[many] = malloc((size_t)params * sizeof(real)), out[many] = malloc((size_t)n * sizeof(real) + 1);
        for (int slope = 0; slope < 2; slope++) {
            void *work = aligned_alloc(64, (t->residual_pass_work(&net, slope, team) + 127) / 64 * 64);
            if (slope == 0) t->residual_outputs(out[many], &net, team, work);
            t->residual_loss_grad(
                &value[slope ? many : 2], slope ? grad[many] : NULL, &net, target, weight, loss, 0.3, 0.5, team, work);
            free(work);
        }
        check("value without gradient", value[2], value[many], 0);
    }
    NAME(same)("outputs of a pass", out[0], out[1], n);
    NAME(same)("gradient of a pass", grad[0], grad[1], params);
    check("value of a pass", value[0], value[1], 0);
    void *all[] = {w, fixed, x, target, weight, grad[0], grad[1], out[0], out[1]};
    for (int k = 0; k < 9; k++) free(all[k]);
}

static void NAME(test_wide)(const dnn_table *t, int threads)
{
    const int64_t numbers = ((int64_t)1 << 22) / (int64_t)sizeof(real) + 4096 + 3;
    NAME(test_strips)(t, 1, numbers, threads);
    NAME(test_strips)(t, 2, numbers / 2 + 1, threads);
    NAME(test_roots)(t, 5001, 23, DNN_SOFTMAX, threads);
    NAME(test_roots)(t, 3, 300, DNN_SOFTMAX, threads);
    NAME(test_roots)(t, 40001, 3, DNN_LOG_LOSS, threads);
    for (int opening = 0; opening < DNN_OPENINGS; opening++) { /* rows inputs width layers outputs */
        NAME(test_pass)(t, (dnn_residual){0, 3, 5, 2, 2, opening, DNN_TANH, 0, 0, 0, 0}, DNN_HUBER, threads);
        NAME(test_pass)(t, (dnn_residual){1, 1, 1, 1, 1, opening, DNN_TANH, 0, 0, 0, 0}, -1, threads);
        NAME(test_pass)(t, (dnn_residual){1103, 3, 19, 7, 2, opening, DNN_TANH, 0, 0, 0, 0}, DNN_SOFTMAX, threads);
    }
    for (int activation = DNN_TANH; activation <= DNN_RELU; activation++) { /* states that grow: added up again */
        double h = activation == DNN_RELU ? 1 : 1e5;
        NAME(test_pass)(t, (dnn_residual){211, 3, 67, 12, 2, DNN_TRAINED, activation, h, 0, 0, 0}, DNN_HUBER, threads);
    }
    NAME(test_pass)(t, (dnn_residual){221, 141, 141, 2, 17, DNN_TRAINED, DNN_RELU, 0, 0, 0, 0}, DNN_HUBER, threads);
}
