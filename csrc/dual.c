/* dual.c: (B + D) x = q in the space of rows, for agents with fewer rows than parameters; J is never made.
 *
 * With K = S'J (N = n R rows), B = K'K and D diagonal, tau + l2 on weights and tau on biases (Woodbury),
 *     x = D^-1 q - D^-1 K' (I + K D^-1 K')^-1 K D^-1 q.
 * Row (m, r) of K is, layer by layer, the outer product of (a_m, 1), the inputs of the layer, and delta_mr. So
 *     (K D^-1 K')[(m, r), (m', r')] = sum_layers (a_m'a_m' / (tau + l2) + 1 / tau) (delta_mr'delta_m'r'),
 * N^2 h flops of a layer where rows of J take N^2 d h. A block of parameters cuts a layer into at most three pieces
 * that are outer products again. The matrix is made in square tiles of fixed size, its upper triangle only.
 */

enum { DUAL_TILE = 128, DUAL_GROUP = 64 };

/* What one thread keeps of one agent. */
typedef struct {
    real *input[DNN_MAX_LAYERS]; /* input[u]: (n, layers[u]) what layer u takes, u > 0 */
    real *delta[DNN_MAX_LAYERS]; /* delta[u]: (N, layers[u + 1]) */
    real *along; /* (n, widest layer) */
    real *k, *c, *ones; /* I + K D^-1 K' (N, N), K D^-1 q and what it solves to (N), the diagonal of I (N) */
    real *gram, *tile, *spread; /* (T, T), (T R, T R), (T R) of T samples */
} dual_space;

static int64_t dual_samples(const dnn_root *root) { return max_index(1, DUAL_TILE / max_index(1, root->columns)); }

static size_t cut_dual(dual_space *s, char *start, const dnn_mlp *mlp, const dnn_root *root, int64_t n)
{
    char *next = start;
    int64_t rows = n * root->columns, widest = 1, samples = min_index(n, dual_samples(root));
    for (int64_t u = 0; u < mlp->n_layers; u++) {
        s->input[u] = carve(&next, u ? n * mlp->layers[u] : 0, sizeof(real));
        s->delta[u] = carve(&next, rows * mlp->layers[u + 1], sizeof(real));
        widest = max_index(widest, mlp->layers[u + 1]);
    }
    s->along = carve(&next, n * widest, sizeof(real));
    s->k = carve(&next, rows * rows, sizeof(real));
    s->c = carve(&next, rows, sizeof(real));
    s->ones = carve(&next, rows, sizeof(real));
    s->gram = carve(&next, samples * samples, sizeof(real));
    s->tile = carve(&next, square(samples * root->columns), sizeof(real));
    s->spread = carve(&next, samples * root->columns, sizeof(real));
    return (size_t)((uintptr_t)next - (uintptr_t)start);
}

/* Bytes: places of the agents' grams, then for every thread a workspace of mlp.c and a space. */
static size_t mlp_dual_work(const dnn_mlp *mlp, const dnn_root *root, int threads)
{
    workspace r;
    dual_space s;
    size_t each = cut_workspace(&r, NULL, mlp, NULL, most_rows(mlp), 0) + cut_dual(&s, NULL, mlp, root, most_rows(mlp));
    return lines(mlp->agents, sizeof(int64_t)) + each * (size_t)threads;
}

/* One call of mlp_dual_solve. */
typedef struct {
    workspaces h; /* without root: its workspaces keep no J */
    const dnn_root *root;
    real *out;
    const real *gram, *tau, *l2, *rhs;
    const int64_t *place, *blocks; /* place[i]: where the gram of agent i starts */
    int64_t *status, n_blocks;
    char *spaces;
    size_t space_bytes;
} dual;

/* One agent at work. */
typedef struct {
    const dual *call;
    const dual_space *s, *own; /* of the agent; gram, tile and spread of this thread */
    int team; /* threads that are at this agent */
    const real *x, *gram, *root; /* of the agent's first row; gram may be NULL */
    int64_t n, columns;
    real tau;
    row_factors factors;
    real scale[DNN_MAX_LAYERS + 1]; /* -1 / (tau + l2) of every layer's weights, -1 / tau */
} dual_agent;

INLINE real weight_share(const dual_agent *g, const piece *p) { return 1 / (g->tau + g->call->l2[p->layer]); }

/* Activations and deltas of one group of an agent's samples. Serial. */
static void fill_dual(const dual_agent *g, int64_t agent, int64_t m, int64_t group, int thread)
{
    const dnn_mlp *mlp = g->call->h.mlp;
    workspace r = workspace_of(&g->call->h, thread);
    int64_t count = min_index(group, g->n - m);
    real *delta[DNN_MAX_LAYERS];
    for (int64_t u = 0; u < mlp->n_layers; u++) delta[u] = g->s->delta[u] + m * g->columns * mlp->layers[u + 1];
    stacked_deltas(&r, mlp, g->call->root, weights_of(mlp, agent), mlp->offsets[agent] + m, count, delta);
    for (int64_t u = 1; u < mlp->n_layers; u++)
        memcpy(g->s->input[u] + m * mlp->layers[u], r.a[u], (size_t)(count * mlp->layers[u]) * sizeof(real));
}

/* k[q, q] += s_mq s_m'q spread_m'q for m and samples c .. c + count - 1: the last layer where S is diagonal. Serial. */
static void add_diagonal(real *restrict k, const real *s_m, const real *s, const real *restrict spread, const piece *p,
    int64_t columns, int64_t count, int64_t ld)
{
    for (int64_t q = p->j0; q < p->j1; q++) {
        real mine = s_m[q], *row = k + q * ld;
        for (int64_t e = q; e < count * columns; e += columns) row[e] += mine * s[e] * spread[e];
    }
}

/* spread[e columns + r] = share gram_e + constant. Shapes: spread (n columns), gram (n). Aliasing: none. Serial. */
static void fill_spread(
    real *restrict spread, const real *restrict gram, real share, real constant, int64_t n, int64_t columns)
{
    if (columns == 1)
        for (int64_t e = 0; e < n; e++) spread[e] = share * gram[e] + constant;
    else
        for (int64_t e = 0; e < n; e++)
            for (int64_t r = 0; r < columns; r++) spread[e * columns + r] = share * gram[e] + constant;
}

/* What piece p brings to samples a .. a + n_a - 1 against c .. c + n_c - 1 of k; `first`: k holds nothing yet.
 * Shapes: k (N, N). Aliasing: none. Serial. */
static void add_dual_piece(
    const dual_agent *g, const piece *p, int64_t a, int64_t n_a, int64_t c, int64_t n_c, int first)
{
    const dual_space *s = g->s;
    const dnn_blas *blas = g->call->h.mlp->blas;
    int64_t columns = g->columns, rows = g->n * columns, width = n_c * columns, high = n_a * columns;
    int64_t lda = p->d, ld_gram = n_c, ld_tile = width;
    int diagonal = g->call->root->diagonal && p->layer == g->call->h.mlp->n_layers - 1;
    const real *input = piece_inputs(&g->factors, p), *gram = g->own->gram, *delta = s->delta[p->layer] + p->j0;
    real *k = s->k + a * columns * rows + c * columns, *tile = g->own->tile, *spread = g->own->spread;
    real share = weight_share(g, p), constant = p->bias ? 1 / g->tau : 0;
    if (p->i0 == p->i1)
        memset(g->own->gram, 0, (size_t)(n_a * n_c) * sizeof(real)), share = 0;
    else if (g->gram && p->layer == 0 && p->i1 - p->i0 == p->d)
        gram = g->gram + a * g->n + c, ld_gram = g->n;
    else
        gemm(blas, 'T', 'N', n_c, n_a, p->i1 - p->i0, input + c * lda, lda, input + a * lda, lda, 0, g->own->gram, n_c);
    if (diagonal && first)
        for (int64_t e = 0; e < high; e++) memset(k + e * rows, 0, (size_t)width * sizeof(real));
    if (first) tile = k, ld_tile = rows;
    if (!diagonal)
        gemm(blas, 'T', 'N', width, high, p->j1 - p->j0, delta + c * columns * p->h, p->h, delta + a * columns * p->h,
            p->h, 0, tile, ld_tile);
    for (int64_t m = 0; m < n_a; m++, gram += ld_gram) {
        fill_spread(spread, gram, share, constant, n_c, columns);
        if (diagonal) {
            const real *roots = g->root;
            add_diagonal(
                k + m * columns * rows, roots + (a + m) * columns, roots + c * columns, spread, p, columns, n_c, rows);
            continue;
        }
        for (int64_t r = 0; r < columns; r++) {
            real *restrict row = k + (m * columns + r) * rows;
            const real *restrict t = tile + (m * columns + r) * ld_tile, *restrict by = spread;
            if (first)
                for (int64_t e = 0; e < width; e++) row[e] *= by[e];
            else
                for (int64_t e = 0; e < width; e++) row[e] += t[e] * by[e];
        }
    }
}

/* v <- D^-1 v over the pieces; returns whether all is finite. Shapes: v (P). Serial. */
static int divide_damping(const dual_agent *g, const piece *p, int count, real *v)
{
    int sound = 1;
    for (; count-- > 0; p++) {
        real by = g->tau + g->call->l2[p->layer];
        for (int64_t i = p->i0; i < p->i1 + p->bias; i++)
            for (int64_t j = p->j0; j < p->j1; j++) {
                real *place = v + p->start + i * p->h + j;
                *place /= i < p->d ? by : g->tau;
                sound &= isfinite(*place) != 0;
            }
    }
    return sound;
}

/* All pieces of one tile, in the scratch of that thread. Serial. */
static void dual_tile(const dual_agent *g, const piece *p, int count, int64_t a, int64_t c, int64_t step, int thread)
{
    dual_space own;
    dual_agent mine = *g;
    if (g->team > 1) {
        const dual *d = g->call;
        cut_dual(&own, d->spaces + d->space_bytes * (size_t)thread, d->h.mlp, d->root, d->h.most);
        mine.own = &own;
    }
    for (int k = 0; k < count; k++)
        add_dual_piece(&mine, p + k, a, min_index(step, g->n - a), c, min_index(step, g->n - c), k == 0);
}

/* Block b of one agent in v (P), which holds q; returns 0, or 1 and v_b = 0 if there is no finite solution. Tiles are
 * parallel. */
static int dual_block(const dual_agent *g, int64_t lo, int64_t hi, real *v)
{
    piece pieces[MOST_PIECES];
    int count = cut_pieces(pieces, g->call->h.mlp, lo, hi);
    int64_t step = dual_samples(g->call->root);
    int failed = !divide_damping(g, pieces, count, v);
    if (g->n > 0 && count > 0 && !failed) {
        const int64_t side = ceil_div(g->n, step);
        const int team = g->team;
        FOR_EACH(t, side * side,
            if (t / side <= t % side) dual_tile(g, pieces, count, t / side * step, t % side * step, step, thread))
        rows_times(&g->factors, pieces, count, v, g->s->c);
        failed = solve_block(g->call->h.mlp->blas, g->s->k, g->s->ones, g->s->c, g->n * g->columns, team);
        if (!failed) rows_adjoint(&g->factors, pieces, count, g->s->c, g->scale, g->call->h.mlp->n_layers, v);
    }
    for (int64_t p = lo; p < hi && !failed; p++) failed = !isfinite(v[p]);
    if (failed) memset(v + lo, 0, (size_t)(hi - lo) * sizeof(real));
    return failed;
}

/* One agent in the space of that thread, by a team. */
static void dual_solve_agent(const dual *d, int64_t agent, int thread, const int team)
{
    const dnn_mlp *mlp = d->h.mlp;
    dual_space s;
    int64_t n = rows_of(mlp, agent), first = mlp->offsets[agent], outputs = outputs_of(mlp);
    cut_dual(&s, d->spaces + d->space_bytes * (size_t)thread, mlp, d->root, d->h.most);
    dual_agent g = {d, &s, &s, team, inputs_of(mlp, first), d->gram ? d->gram + d->place[agent] : NULL,
        (const real *)d->root->root + first * outputs * (d->root->diagonal ? 1 : d->root->columns), n, d->root->columns,
        d->tau[agent], {.blas = mlp->blas, .columns = d->root->columns, .along = s.along}, {0}};
    if (g.columns == 0) g.n = 0;
    g.factors.n = g.n;
    for (int64_t u = 0; u < mlp->n_layers; u++) {
        g.factors.input[u] = u ? s.input[u] : g.x, g.factors.delta[u] = s.delta[u];
        g.scale[u] = -1 / (g.tau + d->l2[u]);
    }
    g.scale[mlp->n_layers] = -1 / g.tau;
    for (int64_t e = 0; e < n * g.columns; e++) s.ones[e] = 1;
    const int64_t group = min_index(chunk_rows(mlp), DUAL_GROUP), groups = ceil_div(g.n, group);
    const int first_thread = thread;
    FOR_EACH(m, groups, fill_dual(&g, agent, m * group, group, team > 1 ? thread : first_thread))
    d->status[agent] = 0;
    for (int64_t b = 0; b < d->n_blocks; b++)
        if (dual_block(&g, d->blocks[b], d->blocks[b + 1], d->out + agent * mlp->params) && d->status[agent] == 0)
            d->status[agent] = b + 1;
}

/* (B_ib + D_ib) out_ib = rhs_ib, B_i = sum_m J_m' S_m S_m' J_m, D_i = tau_i + l2_k on the weights of layer k and tau_i
 * on its biases. status_i: 0, or 1 + the first block without a finite solution, which is then 0.
 * Shapes: out, rhs (A, P), status, tau (A), l2 (n_layers), gram X_i X_i' one after another or NULL, blocks
 * (n_blocks + 1). Aliasing: out may be rhs. Agents are parallel, or, where
 * they are few, groups, tiles and the Cholesky factor of one after another. */
static void mlp_dual_solve(void *out, int64_t *status, const dnn_mlp *mlp, const dnn_root *root, const void *gram,
    const void *tau, const void *l2, const void *rhs, const int64_t *blocks, int64_t n_blocks, int threads, void *work)
{
    char *next = work;
    int64_t *place = carve(&next, mlp->agents, sizeof(int64_t)), at = 0;
    dual d = {
        open_workspaces(mlp, NULL, next), root, out, gram, tau, l2, rhs, place, blocks, status, n_blocks, NULL, 0};
    workspace r;
    dual_space s;
    double work_ns = 0;
    for (int64_t i = 0; i < mlp->agents; i++) {
        double n = (double)rows_of(mlp, i), rows = n * (double)root->columns;
        place[i] = at;
        at += square(rows_of(mlp, i));
        work_ns += (rows * rows * (rows / 3 + (double)mlp->layers[1] + 10) / 30 + n * (double)mlp->params / 5);
    }
    d.spaces = next + cut_workspace(&r, NULL, mlp, NULL, d.h.most, 0) * (size_t)threads;
    d.space_bytes = cut_dual(&s, NULL, mlp, root, d.h.most);
    if (out != rhs) memcpy(out, rhs, (size_t)(mlp->agents * mlp->params) * sizeof(real));
    int team = team_size(threads, work_ns * (double)max_index(1, n_blocks) * 1e-3);
    if (team == 1 || mlp->agents >= team) {
        FOR_EACH(i, mlp->agents, dual_solve_agent(&d, i, thread, 1))
        return;
    }
    for (int64_t i = 0; i < mlp->agents; i++) dual_solve_agent(&d, i, 0, team);
}

/* out = X_i X_i' of every agent, one after another. Shapes: out (sum_i n_i^2), x (M, inputs), offsets (A + 1).
 * Aliasing: none. Serial: once per fit. */
static void rows_gram(
    void *out, const void *x, const int64_t *offsets, int64_t agents, int64_t inputs, const dnn_blas *blas)
{
    real *place = out;
    for (int64_t i = 0; i < agents; i++) {
        const real *rows = (const real *)x + offsets[i] * inputs;
        int64_t n = offsets[i + 1] - offsets[i];
        if (n > 0) product_nt(blas, place, rows, rows, n, inputs, n, 0);
        place += n * n;
    }
}
