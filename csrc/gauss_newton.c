/* gauss_newton.c: the diagonal blocks of J' S S' J.
 *
 * Two ways, chosen by a model of their cost: from J (a few groups of rows are held at a time, and their products are
 * added to fixed tiles of each block), or from pair features (pairs.c). Small matrices are summed by parts of the rows
 * (parts.c), one thread at each. Of large ones `thread` of `team` takes every team-th tile. All cuts depend on sizes
 * alone: no bit depends on `threads`.
 */

enum { TILE = 160, SMALL_BLOCK = 16, MIRROR_PIECES = 32, PARTS_PAY = 10, ZERO_STRIP = 1 << 15 };
enum { CURVE_LARGEST = 1 << 18, CURVE_NUMBERS = 1 << 22 }; /* numbers of a part's matrix, and of all parts' together */

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

/* Some rows from J, in workspace r; J stands in `jacobian`, one for the team. */
static void curve_from_jacobian(const curvature *c, const workspace *r, real *jacobian, const stretch *some, real *out)
{
    const dnn_mlp *mlp = c->h.mlp;
    const dnn_root *root = c->h.root;
    const real *w = weights_of(mlp, some->agent);
    int64_t held = jacobian_samples(mlp, root), group = jacobian_group(mlp, root), columns = root->columns;
    for (int64_t first = some->first; first < some->stop; first += held) {
        int64_t n = min_index(held, some->stop - first), turn = 0;
        for (int64_t g = 0; g < n; g += group)
            if (turn++ % some->team == some->thread)
                jacobian_rows(
                    r, mlp, root, w, first + g, min_index(group, n - g), jacobian + g * columns * mlp->params);
        wait_for(some->team);
        add_pieces(
            mlp->blas, out, jacobian, n * columns, mlp->params, c->blocks, c->n_blocks, some->thread, some->team);
        wait_for(some->team);
    }
}

/* out (S) = the upper triangles that some rows bring, in workspace r; `common` and `sums` are one for the team. */
static void curve_rows(
    const curvature *c, const workspace *r, const workspace *common, const stretch *some, real *sums, real *out)
{
    const int team = some->team > 1 ? WITHIN : 1;
    if (some->stop > some->first && pairs_pay(c, rows_of(c->h.mlp, some->agent))) {
        curve_from_pairs(c, r, common, some, sums, out);
        return;
    }
    FOR_EACH(k, ceil_div(c->packed, ZERO_STRIP),
        memset(out + k * ZERO_STRIP, 0, (size_t)min_index(ZERO_STRIP, c->packed - k * ZERO_STRIP) * sizeof(real)))
    curve_from_jacobian(c, r, common->jacobian, some, out);
}

/* Parts of an agent's rows whose matrices are made by one thread each: 1 where these would take too much memory, or the
 * part too little time beside the sum of the matrices. */
static int64_t curve_parts(const void *call, int64_t agent)
{
    const curvature *c = call;
    int64_t rows = rows_of(c->h.mlp, agent), parts = rows > 0;
    if (c->packed > CURVE_LARGEST || rows == 0) return parts;
    int pairs = pairs_pay(c, rows);
    double least = PARTS_PAY * (0.3 * (double)c->packed + c->per_chunk[pairs]);
    least = least > PART_NS / 2 ? least : PART_NS / 2;
    while (2 * parts <= min_index(PART_MOST, CURVE_NUMBERS / c->packed)
           && (double)(rows / (2 * parts)) * c->per_sample[pairs] >= least)
        parts *= 2;
    return parts;
}

static void curve_part(const void *call, workspace *r, int64_t agent, int64_t part, real *out, double *value)
{
    const curvature *c = call;
    const int64_t *offsets = c->h.mlp->offsets + agent, parts = curve_parts(c, agent);
    int64_t rows = ceil_div(offsets[1] - offsets[0], parts), first = min_index(offsets[0] + part * rows, offsets[1]);
    stretch some = {agent, first, min_index(offsets[1], first + rows), 0, 1};
    (void)value;
    curve_rows(c, r, r, &some, c->sums + thread_number() * c->n_sums, out);
}

/* One agent by a team. */
static void curve_together(const curvature *c, int64_t agent, int thread, int team)
{
    workspace r = workspace_of(&c->h, thread), common = workspace_of(&c->h, 0);
    stretch some = {agent, c->h.mlp->offsets[agent], c->h.mlp->offsets[agent + 1], team == 1 ? 0 : thread, team};
    curve_rows(c, &r, &common, &some, c->sums, c->out + agent * c->packed);
    wait_for(team);
}

/* Lower triangles from upper ones: piece number `unit` of MIRROR_PIECES of every agent. */
static void mirror_piece(const curvature *c, int64_t unit)
{
    int64_t agent = unit / MIRROR_PIECES;
    int64_t small = pairs_pay(c, rows_of(c->h.mlp, agent)) ? 1 : SMALL_BLOCK;
    mirror_blocks(
        c->out + agent * c->packed, c->blocks, c->n_blocks, small, (int)(unit % MIRROR_PIECES), MIRROR_PIECES);
}

static curvature open_curvature(const dnn_mlp *mlp, const dnn_root *root, const int64_t *blocks, int64_t n_blocks)
{
    curvature c = {.h = open_workspaces(mlp, root, NULL),
        .blocks = blocks,
        .n_blocks = n_blocks,
        .packed = dnn_packed_size(blocks, n_blocks)};
    model_costs(&c);
    int any = 0;
    for (int64_t i = 0; i < mlp->agents && !any; i++) any = pairs_pay(&c, rows_of(mlp, i));
    c.n_sums = any ? (int64_t)(lines(c.n_sums, sizeof(real)) / sizeof(real)) : 0;
    return c;
}

static int64_t most_curve_parts(const curvature *c)
{
    int64_t most = 0;
    for (int64_t i = 0; i < c->h.mlp->agents; i++) most = max_index(most, curve_parts(c, i));
    return most;
}

static size_t mlp_curvature_work(
    const dnn_mlp *mlp, const dnn_root *root, const int64_t *blocks, int64_t n_blocks, int threads)
{
    curvature c = open_curvature(mlp, root, blocks, n_blocks);
    summing s = {.numbers = c.packed};
    char *next = NULL;
    int64_t most = most_curve_parts(&c);
    cut_places(&s, &next, most, threads);
    carve(&next, c.n_sums * (mlp->agents > 1 || most > 1 ? threads : 1), sizeof(real));
    return c.h.bytes * (size_t)threads + (size_t)(uintptr_t)next;
}

/* A guess of the nanoseconds that all agents take. */
static double curvature_cost(const curvature *c)
{
    double cost = 0;
    for (int64_t i = 0; i < c->h.mlp->agents; i++) {
        int64_t rows = rows_of(c->h.mlp, i);
        cost += agent_cost(c, rows, pairs_pay(c, rows));
    }
    return cost;
}

/* The agents one after another, by all threads of a parallel region. */
static void curve_in_turn(const curvature *c)
{
    for (int64_t i = 0; i < c->h.mlp->agents; i++) curve_together(c, i, thread_number(), team_present());
}

/* out_i = the diagonal blocks of sum_m J_m' S_m S_m' J_m, each full and symmetric.
 * Shapes: out (A, S), blocks (n_blocks + 1). Aliasing: none.
 * Agents are parallel, or parts of their rows, or where these are too few the groups and tiles of one after another. */
static void mlp_gauss_newton(void *out, const dnn_mlp *mlp, const dnn_root *root, const int64_t *blocks,
    int64_t n_blocks, int threads, void *work)
{
    curvature c = open_curvature(mlp, root, blocks, n_blocks);
    c.out = out, c.h.work = work;
    const double microseconds = curvature_cost(&c) * 1e-3;
    const int team = team_size(threads, microseconds), places = threads_of(threads);
    int64_t most = most_curve_parts(&c);
    summing s = {.h = &c.h, .call = &c, .parts = curve_parts, .part = curve_part, .out = out, .numbers = c.packed};
    char *next = c.h.work + c.h.bytes * (size_t)places;
    cut_places(&s, &next, most, places);
    c.sums = (real *)(void *)next;
    if (most > 1 || team == 1 || by_agents(&c.h, threads_of(team))) {
        sum_parts(&s, microseconds, threads);
    } else if (team == WITHIN)
        curve_in_turn(&c);
    else {
#pragma omp parallel num_threads(team)
        curve_in_turn(&c);
    }
    FOR_EACH(u, mlp->agents * MIRROR_PIECES, mirror_piece(&c, u))
}
