/* descent.c: block coordinate descent on a quadratic plus r(u). */

/* Workspace: the gradient of the quadratic and one group's step, for the largest block. */
static size_t descent_work(const int64_t *blocks, int64_t n_blocks, int threads)
{
    return 2 * lines(largest_block(blocks, n_blocks), sizeof(real)) * (size_t)threads;
}

/* One agent's block: arrays from the block's first column on, n columns. */
typedef struct {
    real *v; /* (n) the iterate */
    real *q; /* (n) B (v - w) */
    real *step; /* (n) scratch of one group */
    const real *b; /* (n, n) */
    const real *w, *g, *l1, *l2;
    real tau;
    int64_t n;
} descent;

/* Coordinate p: minimised exactly; returns how far it moved. */
static real descend_coordinate(const descent *d, int64_t p)
{
    real length = d->b[p * d->n + p] + d->tau, old = d->v[p];
    if (!(length > 0)) return 0;
    real u = old - (d->q[p] + d->tau * (old - d->w[p]) + d->g[p]) / length;
    real left = magnitude(u) - d->l1[p] / length;
    real new = with_sign(left < 0 ? 0 : left, u) / (1 + d->l2[p] / length), change = new - old;
    if (change == 0) return 0;
    d->v[p] = new;
    axpy(d->q, change, d->b + p * d->n, d->n);
    return magnitude(change);
}

/* Group a .. c - 1: one proximal step of length 1 / (trace + tau); returns the largest move. */
static real descend_group(const descent *d, int64_t a, int64_t c, real strength)
{
    real length = d->tau, most = 0;
    for (int64_t p = a; p < c; p++) length += d->b[p * d->n + p];
    if (!(length > 0)) return 0;
    for (int64_t p = a; p < c; p++) d->step[p] = d->v[p] - (d->q[p] + d->tau * (d->v[p] - d->w[p]) + d->g[p]) / length;
    soft_threshold(d->step + a, d->l1 + a, 1 / length, c - a);
    shrink_group(d->step + a, strength / length, c - a);
    divide_l2(d->step + a, d->l2 + a, 1 / length, c - a);
    for (int64_t p = a; p < c; p++) {
        real change = d->step[p] - d->v[p];
        if (change == 0) continue;
        d->v[p] = d->step[p];
        axpy(d->q, change, d->b + p * d->n, d->n);
        most = max_real(most, magnitude(change));
    }
    return most;
}

/* Sweeps over one block whose first column is lo; groups first .. stop - 1 lie in it; returns the sweeps taken.
 * Shapes: see `descent`. In place. Serial. */
static int64_t descend_block(
    const descent *d, const dnn_penalty *penalty, int64_t lo, int64_t first, int64_t stop, int64_t n_iter, real tol)
{
    const real *strength = penalty->strength;
    int64_t done = 0;
    for (int64_t p = 0; p < d->n; p++) d->step[p] = d->v[p] - d->w[p];
    matrix_vector(d->q, d->b, d->step, d->n, d->n);
    while (done < n_iter) {
        real moved = 0, size = 1;
        int64_t group = first;
        done++;
        for (int64_t p = 0; p < d->n;) {
            if (group < stop && penalty->groups[2 * group] == lo + p) {
                int64_t end = penalty->groups[2 * group + 1] - lo;
                moved = max_real(moved, descend_group(d, p, end, strength[group++]));
                p = end;
            } else
                moved = max_real(moved, descend_coordinate(d, p++));
        }
        for (int64_t p = 0; p < d->n; p++) size = max_real(size, magnitude(d->v[p]));
        if (moved <= tol * size) break;
    }
    return done;
}

/* One call of descent_solve. */
typedef struct {
    real *v;
    const real *b, *tau, *w, *g;
    const dnn_penalty *penalty;
    const int64_t *blocks;
    int64_t n_blocks, packed, n_iter;
    real tol;
    char *work;
    size_t bytes;
} descents;

/* Blocks first .. stop - 1 of one agent; returns the largest number of sweeps. Serial. */
static int64_t descend_blocks(const descents *c, int64_t agent, int64_t first, int64_t stop, int thread)
{
    const dnn_penalty *penalty = c->penalty;
    char *work = c->work + 2 * c->bytes * (size_t)thread;
    const real *place = c->b + agent * c->packed + dnn_packed_size(c->blocks, first);
    int64_t sweeps = 0, group = 0, next;
    for (int64_t k = first; k < stop; k++) {
        int64_t lo = c->blocks[k], n = c->blocks[k + 1] - lo, at = agent * c->blocks[c->n_blocks] + lo;
        while (group < penalty->n_groups && penalty->groups[2 * group] < lo) group++;
        for (next = group; next < penalty->n_groups && penalty->groups[2 * next] < lo + n;) next++;
        descent d = {c->v + at, (real *)work, (real *)(work + c->bytes), place, c->w + at, c->g + at,
            (const real *)penalty->l1 + lo, (const real *)penalty->l2 + lo, c->tau[agent], n};
        sweeps = max_index(sweeps, descend_block(&d, penalty, lo, group, next, c->n_iter, c->tol));
        place += n * n;
    }
    return sweeps;
}

/* v_i = argmin_u 1/2 (u - w_i)'(B_i + tau_i I)(u - w_i) + g_i'(u - w_i) + r(u), from v_i on; n_done_i: sweeps taken.
 * Shapes: v, w, g (A, P), n_done, tau (A), b (A, S); no group crosses a block and none is empty. Aliasing: none.
 * Agents are parallel, or the blocks of one agent after another. */
static void descent_solve(void *v, int64_t *n_done, const void *b, const void *tau, const void *w, const void *g,
    const dnn_penalty *penalty, int64_t agents, const int64_t *blocks, int64_t n_blocks, int64_t n_iter, double tol,
    int threads, void *work)
{
    descents c = {v, b, tau, w, g, penalty, blocks, n_blocks, dnn_packed_size(blocks, n_blocks), n_iter, (real)tol,
        work, lines(largest_block(blocks, n_blocks), sizeof(real))};
    int team = team_size(threads, (double)(agents * c.packed) * (double)n_iter * 0.1e-3);
    if (team == 1 || agents >= team) {
        FOR_EACH(i, agents, n_done[i] = descend_blocks(&c, i, 0, n_blocks, thread))
        return;
    }
    for (int64_t i = 0; i < agents; i++) {
        int64_t sweeps = 0, parts = min_index(n_blocks, 8 * team);
#pragma omp parallel for schedule(dynamic, 1) num_threads(team) reduction(max : sweeps)
        for (int64_t p = 0; p < parts; p++)
            sweeps = max_index(
                sweeps, descend_blocks(&c, i, p * n_blocks / parts, (p + 1) * n_blocks / parts, thread_number()));
        n_done[i] = sweeps;
    }
}
