/* prox.c: soft threshold, block soft threshold, shrinkage. */

/* u_p <- sign(u_p) max(|u_p| - t l1_p, 0). Shapes: (n), (n). In place. Serial. NaN stays. */
static void soft_threshold(real *restrict u, const real *restrict l1, real t, int64_t n)
{
    for (int64_t p = 0; p < n; p++) {
        real left = magnitude(u[p]) - t * l1[p];
        u[p] = with_sign(left < 0 ? 0 : left, u[p]);
    }
}

/* u <- max(0, 1 - t / |u|) u for one group; 0 where |u| <= t. Shapes: (n). In place. Serial. */
static void shrink_group(real *u, real t, int64_t n)
{
    double squares = 0;
    for (int64_t p = 0; p < n; p++) squares += (double)u[p] * (double)u[p];
    double norm = sqrt(squares), share = norm > t ? 1 - (double)t / norm : norm <= t ? 0 : norm;
    for (int64_t p = 0; p < n; p++) u[p] *= (real)share;
}

/* u_p <- u_p / (1 + t l2_p). Shapes: (n), (n). In place. Serial. */
static void divide_l2(real *restrict u, const real *restrict l2, real t, int64_t n)
{
    for (int64_t p = 0; p < n; p++) u[p] /= 1 + t * l2[p];
}

/* out_i = argmin_u 1/2 |u - v_i|^2 + s_i r(u): the three steps above in this order, exact when l2 is constant within
 * each group. Shapes: out, v (A, P), s (A). Aliasing: out may be v. Agents are parallel. */
static void penalty_prox(void *out_, const void *v_, const void *s_, const dnn_penalty *penalty, int64_t agents,
    int64_t params, int threads)
{
    const real *l1 = penalty->l1, *l2 = penalty->l2, *strength = penalty->strength, *s = s_;
    int team = team_size(threads, (double)(agents * params) * 0.5e-3);
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
    for (int64_t i = 0; i < agents; i++) {
        real *out = (real *)out_ + i * params;
        const real *v = (const real *)v_ + i * params;
        if (out != v) memcpy(out, v, (size_t)params * sizeof(real));
        soft_threshold(out, l1, s[i], params);
        for (int64_t g = 0; g < penalty->n_groups; g++) {
            int64_t start = penalty->groups[2 * g];
            shrink_group(out + start, s[i] * strength[g], penalty->groups[2 * g + 1] - start);
        }
        divide_l2(out, l2, s[i], params);
    }
}
