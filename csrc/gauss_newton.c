/* gauss_newton.c: the diagonal blocks of J' S S' J, and their products with vectors.
 *
 * Two ways, chosen by a model of their cost: from J (a few groups of rows are held at a time, and their products are
 * added to fixed tiles of each block), or from pair features (pairs.c). Everything is cut into pieces that depend on
 * sizes alone, each made by one thread: no bit depends on `threads`. `thread` of `team` takes every team-th piece.
 */

enum { TILE = 256, SMALL_BLOCK = 16 };

/* One tile of a block: C[a .. , c .. ] += J[:, a ..]' J[:, c ..], the upper triangle if a = c.
 * Shapes: j (rows, P) from the block's first column on, out (size, size). Aliasing: none. Serial. */
static void add_tile(
    const dnn_blas *blas, real *out, const real *j, int64_t rows, int64_t params, int64_t size, int64_t a, int64_t c)
{
    typedef void (*syrk_function)(char *, char *, int *, int *, real *, real *, int *, real *, real *, int *);
    int64_t n_a = min_index(TILE, size - a), n_c = min_index(TILE, size - c);
    if (a != c) {
        gemm(blas, 'N', 'T', n_c, n_a, rows, j + c, params, j + a, params, 1, out + a * size + c, size);
        return;
    }
    char lower = 'L', plain = 'N'; /* Fortran's lower triangle is the upper one of C order */
    int n = (int)n_a, k = (int)rows, lda = (int)params, ldc = (int)size;
    real one = 1;
    ((syrk_function)blas->syrk)(&lower, &plain, &n, &k, &one, (real *)j + a, &lda, &one, out + a * size + a, &ldc);
}

/* Blocks first .. stop - 1, all small: B_b += j_b j_b' row by row. Shapes: j (rows, P), out packed from block `first`.
 * Aliasing: none. Serial. */
static void add_small_blocks(real *restrict out, const real *restrict j, int64_t rows, int64_t params,
    const int64_t *blocks, int64_t first, int64_t stop)
{
    for (int64_t m = 0; m < rows; m++, j += params) {
        real *place = out;
        for (int64_t b = first; b < stop; b++) {
            int64_t size = blocks[b + 1] - blocks[b];
            const real *cut = j + blocks[b];
            if (size == 1) { /* a run of single columns is one loop */
                int64_t run = 1;
                while (b + run < stop && blocks[b + run + 1] - blocks[b + run] == 1) run++;
                for (int64_t p = 0; p < run; p++) place[p] += cut[p] * cut[p];
                place += run;
                b += run - 1;
                continue;
            }
            for (int64_t p = 0; p < size; p++)
                for (int64_t q = 0; q < size; q++) place[p * size + q] += cut[p] * cut[q];
            place += size * size;
        }
    }
}

/* Every team-th piece of the blocks: big blocks tile by tile, runs of small ones together. */
static void add_pieces(const dnn_blas *blas, real *out, const real *j, int64_t rows, int64_t params,
    const int64_t *blocks, int64_t n_blocks, int thread, int team)
{
    int64_t piece = 0, stop;
    for (int64_t b = 0; b < n_blocks; b = stop) {
        int64_t size = blocks[b + 1] - blocks[b], numbers = size * size;
        stop = b + 1;
        if (size > SMALL_BLOCK) {
            for (int64_t a = 0; a < size; a += TILE)
                for (int64_t c = a; c < size; c += TILE)
                    if (piece++ % team == thread) add_tile(blas, out, j + blocks[b], rows, params, size, a, c);
        } else {
            for (; stop < n_blocks && blocks[stop + 1] - blocks[b] <= TILE; stop++) {
                int64_t next = blocks[stop + 1] - blocks[stop];
                if (next > SMALL_BLOCK) break;
                numbers += next * next;
            }
            if (piece++ % team == thread) add_small_blocks(out, j, rows, params, blocks, b, stop);
        }
        out += numbers;
    }
}

/* Lower triangles from upper ones in blocks larger than `small`, every team-th strip of 32 rows. In place. */
static void mirror_blocks(real *out, const int64_t *blocks, int64_t n_blocks, int64_t small, int thread, int team)
{
    enum { STRIP = 32 };
    int64_t strip = 0;
    for (int64_t b = 0; b < n_blocks; b++) {
        int64_t size = blocks[b + 1] - blocks[b];
        for (int64_t a = 0; a < size && size > small; a += STRIP) {
            if (strip++ % team != thread) continue;
            for (int64_t c = a; c < size; c += STRIP)
                for (int64_t p = c; p < min_index(c + STRIP, size); p++)
                    for (int64_t q = a; q < min_index(min_index(a + STRIP, size), p); q++)
                        out[p * size + q] = out[q * size + p];
        }
        out += size * size;
    }
}

/* One agent from J, by thread `thread` of `team` in workspace r; J stands in `jacobian`, one for the team. */
static void curve_from_jacobian(
    const curvature *c, const workspace *r, real *jacobian, int64_t agent, real *out, int thread, int team)
{
    const dnn_mlp *mlp = c->h.mlp;
    const dnn_root *root = c->h.root;
    int64_t held = jacobian_samples(mlp, root), group = jacobian_group(mlp, root), columns = root->columns;
    int64_t end = mlp->offsets[agent + 1];
    for (int64_t first = mlp->offsets[agent]; first < end; first += held) {
        int64_t n = min_index(held, end - first), turn = 0;
        for (int64_t g = 0; g < n; g += group)
            if (turn++ % team == thread)
                jacobian_rows(r, mlp, root, weights_of(mlp, agent), first + g, min_index(group, n - g),
                    jacobian + g * columns * mlp->params);
        wait_for(team);
        add_pieces(mlp->blas, out, jacobian, n * columns, mlp->params, c->blocks, c->n_blocks, thread, team);
        wait_for(team);
    }
}

/* One agent by thread `thread` of `team`, in the workspace of that thread; workspace `shared` is common to the team. */
static void curve_agent(const curvature *c, int64_t agent, int thread, int shared, int team)
{
    workspace r = workspace_of(&c->h, thread), common = workspace_of(&c->h, shared);
    real *out = c->out + agent * c->packed;
    int pairs = pairs_pay(c, rows_of(c->h.mlp, agent));
    if (team == 1) thread = 0;
    if (thread == 0) memset(out, 0, (size_t)c->packed * sizeof(real));
    wait_for(team);
    if (pairs)
        curve_from_pairs(c, &r, &common, agent, out, thread, team);
    else
        curve_from_jacobian(c, &r, common.jacobian, agent, out, thread, team);
    mirror_blocks(out, c->blocks, c->n_blocks, pairs ? 1 : SMALL_BLOCK, thread, team);
}

/* out_i = the diagonal blocks of sum_m J_m' S_m S_m' J_m, each full and symmetric.
 * Shapes: out (A, S), blocks (n_blocks + 1). Aliasing: none.
 * Agents are parallel, or the groups and tiles of one agent after another. */
static void mlp_gauss_newton(void *out, const dnn_mlp *mlp, const dnn_root *root, const int64_t *blocks,
    int64_t n_blocks, int threads, void *work)
{
    curvature c = {
        open_workspaces(mlp, root, work), out, blocks, n_blocks, dnn_packed_size(blocks, n_blocks), {0}, {0}};
    model_costs(&c);
    double work_ns = 0;
    for (int64_t i = 0; i < mlp->agents; i++)
        work_ns += agent_cost(&c, rows_of(mlp, i), pairs_pay(&c, rows_of(mlp, i)));
    int team = team_size(threads, work_ns * 1e-3);
    if (team == 1 || by_agents(&c.h, team)) {
        FOR_EACH(i, mlp->agents, curve_agent(&c, i, thread, thread, 1))
        return;
    }
#pragma omp parallel num_threads(team)
    for (int64_t i = 0; i < mlp->agents; i++) curve_agent(&c, i, thread_number(), 0, team_present());
}

/* u_m = S_m S_m' t_m. Shapes: t, u (n, Q). Aliasing: none. Serial. */
static void times_root(
    real *restrict u, const real *restrict t, const dnn_root *root, int64_t first, int64_t n, int64_t outputs)
{
    int64_t columns = root->columns;
    const real *s = (const real *)root->root + first * outputs * (root->diagonal ? 1 : columns);
    if (root->diagonal) {
        for (int64_t k = 0; k < n * outputs; k++) u[k] = s[k] * s[k] * t[k];
        return;
    }
    memset(u, 0, (size_t)(n * outputs) * sizeof(real));
    for (int64_t m = 0; m < n; m++, s += outputs * columns, t += outputs, u += outputs)
        for (int64_t r = 0; r < columns; r++) {
            real along = 0;
            for (int64_t q = 0; q < outputs; q++) along += s[q * columns + r] * t[q];
            for (int64_t q = 0; q < outputs; q++) u[q] += s[q * columns + r] * along;
        }
}

/* One block: J is never made. */
static void product_chunk(
    const job *j, const workspace *r, int64_t agent, int64_t first, int64_t stop, real keep, real *out)
{
    const dnn_mlp *mlp = j->mlp;
    int64_t n = stop - first;
    const real *w = weights_of(mlp, agent), *x = inputs_of(mlp, first);
    forward_chunk(r, mlp, w, x, n);
    const real *t = tangent_chunk(r, mlp, w, j->direction + agent * mlp->params, x, n);
    times_root(r->delta[0], t, j->root, first, n, outputs_of(mlp));
    backward_chunk(r, mlp, w, x, n, keep, out);
}

/* out_b += j_b (j_b' v_b) for one row j of J. Shapes: (P) each. Aliasing: none. Serial. */
static void add_row_product(
    real *restrict out, const real *restrict j, const real *restrict v, const int64_t *blocks, int64_t n_blocks)
{
    for (int64_t b = 0; b < n_blocks; b++) {
        int64_t lo = blocks[b], size = blocks[b + 1] - lo;
        if (size == 1)
            out[lo] += j[lo] * (j[lo] * v[lo]);
        else
            axpy(out + lo, dot(j + lo, v + lo, size), j + lo, size);
    }
}

/* Several blocks: row by row of J, made group by group. */
static void block_product_chunk(
    const job *j, const workspace *r, int64_t agent, int64_t first, int64_t stop, real keep, real *out)
{
    const dnn_mlp *mlp = j->mlp;
    int64_t params = mlp->params, group = jacobian_group(mlp, j->root), columns = j->root->columns;
    if (keep == 0) memset(out, 0, (size_t)params * sizeof(real));
    for (; first < stop; first += group) {
        int64_t n = min_index(group, stop - first);
        jacobian_rows(r, mlp, j->root, weights_of(mlp, agent), first, n, r->jacobian);
        for (int64_t m = 0; m < n * columns; m++)
            add_row_product(out, r->jacobian + m * params, j->direction + agent * params, j->blocks, j->n_blocks);
    }
}

/* Block b of out_i = (J_b' S S' J_b) v_ib. Shapes: out, v (A, P), blocks (n_blocks + 1). Aliasing: none.
 * Agents are parallel, or the panels of one agent after another. */
static void mlp_gauss_newton_product(void *out, const dnn_mlp *mlp, const dnn_root *root, const void *v,
    const int64_t *blocks, int64_t n_blocks, int threads, void *work)
{
    job j = {.mlp = mlp,
        .root = root,
        .out = out,
        .direction = v,
        .blocks = blocks,
        .n_blocks = n_blocks,
        .chunk_rows = chunk_rows(mlp),
        .panel = sum_chunks,
        .chunk = n_blocks == 1 ? product_chunk : block_product_chunk};
    sum_agents(&j, guess_work(mlp) * (n_blocks == 1 ? 1.5 : 1 + (double)root->columns), threads, work);
}
