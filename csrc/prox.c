/* prox.c: soft threshold, block soft threshold, shrinkage. */

enum { PROX_STRIP = 1 << 14 };

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

/* One row: out = argmin_u 1/2 |u - v|^2 + s r(u). Shapes: out, v (P). Aliasing: out may be v. Serial. */
static void prox_row(real *out, const real *v, real s, const dnn_penalty *penalty, int64_t params)
{
    const real *strength = penalty->strength;
    if (out != v) memcpy(out, v, (size_t)params * sizeof(real));
    soft_threshold(out, penalty->l1, s, params);
    for (int64_t g = 0; g < penalty->n_groups; g++) {
        int64_t start = penalty->groups[2 * g];
        shrink_group(out + start, s * strength[g], penalty->groups[2 * g + 1] - start);
    }
    divide_l2(out, penalty->l2, s, params);
}

/* out_i = argmin_u 1/2 |u - v_i|^2 + s_i r(u): the three steps above in this order, exact when l2 is constant within
 * each group. Shapes: out, v (A, P), s (A). Aliasing: out may be v. Agents are parallel, and strips of their rows where
 * there are no groups. */
static void penalty_prox(
    void *out, const void *v, const void *s, const dnn_penalty *penalty, int64_t agents, int64_t params, int threads)
{
    int team = team_size(threads, (double)(agents * params) * 0.5e-3);
    const int64_t strip = penalty->n_groups ? max_index(1, params) : PROX_STRIP, strips = ceil_div(params, strip);
    FOR_EACH(k, agents * strips, {
        int64_t i = k / strips, start = k % strips * strip;
        dnn_penalty part = *penalty;
        part.l1 = (const real *)penalty->l1 + start, part.l2 = (const real *)penalty->l2 + start;
        prox_row((real *)out + i * params + start, (const real *)v + i * params + start, ((const real *)s)[i], &part,
            min_index(strip, params - start));
    })
}
