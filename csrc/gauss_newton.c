/* gauss_newton.c: J, the diagonal blocks of J' S S' J, and their products with vectors.
 *
 * J is made in groups of samples, a few groups are held at a time, and their products are added to fixed tiles of each
 * block. Groups and tiles depend on the layer and block sizes alone, and each is made by one thread: no bit depends on
 * `threads`. `thread` of `team` takes every team-th group and tile.
 */

enum { HELD_NUMBERS = 1 << 19, HELD_LEAST = 64, HELD_MOST = 1024, TILE = 256, SMALL_BLOCK = 16 };

static int64_t held_target(const dnn_mlp *mlp, const dnn_root *root)
{
    int64_t rows = min_index(HELD_MOST, max_index(HELD_LEAST, HELD_NUMBERS / max_index(1, mlp->params)));
    return max_index(1, rows / max_index(1, root->columns));
}

static int64_t jacobian_group(const dnn_mlp *mlp, const dnn_root *root)
{
    return min_index(chunk_rows(mlp), max_index(1, held_target(mlp, root) / 4));
}

static int64_t jacobian_samples(const dnn_mlp *mlp, const dnn_root *root)
{
    int64_t group = jacobian_group(mlp, root);
    return group * (held_target(mlp, root) / group);
}

/* The columns of S_m' as the output's delta: delta (n R, Q), row (m, r) = S_m[:, r]. Aliasing: none. Serial. */
static void root_columns(real *delta, const dnn_root *root, int64_t first, int64_t n, int64_t outputs)
{
    int64_t columns = root->columns;
    const real *s = (const real *)root->root + first * outputs * (root->diagonal ? 1 : columns);
    if (root->diagonal) memset(delta, 0, (size_t)(n * columns * outputs) * sizeof(real));
    for (int64_t m = 0; m < n; m++)
        for (int64_t r = 0; r < columns; r++) {
            real *row = delta + (m * columns + r) * outputs;
            if (root->diagonal)
                row[r] = s[m * outputs + r];
            else
                for (int64_t q = 0; q < outputs; q++) row[q] = s[(m * outputs + q) * columns + r];
        }
}

/* The columns of one layer: weights a_i delta_j, then biases delta_j, for n samples of R rows each.
 * Shapes: out has row length P; input (n, d), delta (n R, h). Aliasing: none. Serial. */
static void layer_columns(real *restrict out, const real *restrict input, const real *restrict delta, int64_t n,
    int64_t columns, int64_t d, int64_t h, int64_t params)
{
    for (int64_t m = 0; m < n; m++)
        for (int64_t r = 0; r < columns; r++) {
            const real *a = input + m * d, *e = delta + (m * columns + r) * h;
            real *row = out + (m * columns + r) * params;
            if (h == 1)
                for (int64_t i = 0; i < d; i++) row[i] = a[i] * e[0];
            else
                for (int64_t i = 0; i < d; i++)
                    for (int64_t j = 0; j < h; j++) row[i * h + j] = a[i] * e[j];
            memcpy(row + d * h, e, (size_t)h * sizeof(real));
        }
}

/* Rows S_m' J_m of samples first .. first + n - 1 into out (n R, P). Aliasing: none. Serial. */
static void jacobian_rows(
    const room *r, const dnn_mlp *mlp, const dnn_root *root, const real *w, int64_t first, int64_t n, real *out)
{
    const real *x = inputs_of(mlp, first);
    real *slope = r->tangent[0];
    int64_t start = mlp->params, columns = root->columns;
    int side = 0;
    forward_chunk(r, mlp, w, x, n);
    root_columns(r->delta[0], root, first, n, outputs_of(mlp));
    for (int64_t k = mlp->n_layers; k-- > 0;) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        start -= d * h + h;
        layer_columns(out + start, k ? r->a[k] : x, r->delta[side], n, columns, d, h, mlp->params);
        if (k == 0) break;
        real *delta = r->delta[!side];
        product_nt(mlp->blas, delta, r->delta[side], w + start, n * columns, h, d, 0);
        for (int64_t i = 0; i < n * d; i++) slope[i] = 1;
        times_slope(slope, r->a[k], n * d, mlp->activation);
        for (int64_t m = 0; m < n; m++)
            for (int64_t c = 0; c < columns; c++) {
                real *row = delta + (m * columns + c) * d;
                for (int64_t i = 0; i < d; i++) row[i] *= slope[m * d + i];
            }
        side = !side;
    }
}

static void jacobian_of_group(real *out, const house *h, int64_t first, int64_t n, int thread)
{
    room r = room_of(h, thread);
    real *place = out + first * h->root->columns * h->mlp->params;
    jacobian_rows(&r, h->mlp, h->root, weights_of(h->mlp, 0), first, n, place);
}

/* out (M R, P) = rows S_m' J_m of the only agent. Shapes: w (1, P), x (M, d). Aliasing: none. Groups are parallel. */
static void mlp_jacobian(void *out, const dnn_mlp *mlp, const dnn_root *root, int threads, void *work)
{
    house h = open_house(mlp, root, work);
    int64_t group = jacobian_group(mlp, root), rows = rows_of(mlp, 0), groups = ceil_div(rows, group);
    double numbers = (double)(rows * root->columns) * (double)mlp->params;
    int team = team_size(threads, guess_work(mlp) * 0.4 + numbers * 1e-3);
    FOR_EACH(g, groups, jacobian_of_group(out, &h, g * group, min_index(group, rows - g * group), thread))
}

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

/* Lower triangles from upper ones, every team-th strip of 32 rows. In place. */
static void mirror_blocks(real *out, const int64_t *blocks, int64_t n_blocks, int thread, int team)
{
    enum { STRIP = 32 };
    int64_t strip = 0;
    for (int64_t b = 0; b < n_blocks; b++) {
        int64_t size = blocks[b + 1] - blocks[b];
        for (int64_t a = 0; a < size && size > SMALL_BLOCK; a += STRIP) {
            if (strip++ % team != thread) continue;
            for (int64_t c = a; c < size; c += STRIP)
                for (int64_t p = c; p < min_index(c + STRIP, size); p++)
                    for (int64_t q = a; q < min_index(min_index(a + STRIP, size), p); q++)
                        out[p * size + q] = out[q * size + p];
        }
        out += size * size;
    }
}

/* One call of mlp_gauss_newton. */
typedef struct {
    house h;
    real *out;
    const int64_t *blocks;
    int64_t n_blocks, packed;
} curvature;

INLINE void wait_for(int team)
{
    if (team > 1) {
#pragma omp barrier
    }
}

/* One agent by thread `thread` of `team`, in the room of that number; J stands in room `shared`, one for the team. */
static void curve_agent(const curvature *c, int64_t agent, int thread, int shared, int team)
{
    const dnn_mlp *mlp = c->h.mlp;
    room r = room_of(&c->h, thread);
    real *jacobian = room_of(&c->h, shared).jacobian;
    const dnn_root *root = c->h.root;
    int64_t held = jacobian_samples(mlp, root), group = jacobian_group(mlp, root), columns = root->columns;
    int64_t end = mlp->offsets[agent + 1];
    real *out = c->out + agent * c->packed;
    if (team == 1) thread = 0;
    if (thread == 0) memset(out, 0, (size_t)c->packed * sizeof(real));
    wait_for(team); /* an agent without rows has no other barrier */
    for (int64_t first = mlp->offsets[agent]; first < end; first += held) {
        int64_t n = min_index(held, end - first), turn = 0;
        for (int64_t g = 0; g < n; g += group)
            if (turn++ % team == thread)
                jacobian_rows(&r, mlp, root, weights_of(mlp, agent), first + g, min_index(group, n - g),
                    jacobian + g * columns * mlp->params);
        wait_for(team);
        add_pieces(mlp->blas, out, jacobian, n * columns, mlp->params, c->blocks, c->n_blocks, thread, team);
        wait_for(team);
    }
    mirror_blocks(out, c->blocks, c->n_blocks, thread, team);
}

/* out_i = the diagonal blocks of sum_m J_m' S_m S_m' J_m, each full and symmetric.
 * Shapes: out (A, S), blocks (n_blocks + 1). Aliasing: none.
 * Agents are parallel, or the groups and tiles of one agent after another. */
static void mlp_gauss_newton(void *out, const dnn_mlp *mlp, const dnn_root *root, const int64_t *blocks,
    int64_t n_blocks, int threads, void *work)
{
    curvature c = {open_house(mlp, root, work), out, blocks, n_blocks, dnn_packed_size(blocks, n_blocks)};
    double rows = (double)(mlp->offsets[mlp->agents] * root->columns);
    int team = team_size(threads, rows * ((double)c.packed / 15 + (double)mlp->params) * 1e-3);
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
    const job *j, const room *r, int64_t agent, int64_t first, int64_t stop, real keep, real *out, double *value)
{
    (void)value;
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
    const job *j, const room *r, int64_t agent, int64_t first, int64_t stop, real keep, real *out, double *value)
{
    (void)value;
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
        .chunk = n_blocks == 1 ? product_chunk : block_product_chunk};
    sum_agents(&j, guess_work(mlp) * (n_blocks == 1 ? 1.5 : 1 + (double)root->columns), threads, work);
}
