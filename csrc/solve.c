/* solve.c: products with, and solves of, packed block-diagonal matrices.
 *
 * A matrix larger than FACTOR_WHOLE is factored in tiles, whatever the threads. Each tile waits for those that it is
 * made from, always in the same order; any free thread makes the next that waits for none.
 */

enum { FACTOR_TILE = 128, FACTOR_WHOLE = 256 };

static void product_agent(real *out, const real *b, const real *v, const int64_t *blocks, int64_t n_blocks)
{
    for (int64_t k = 0; k < n_blocks; k++) {
        int64_t lo = blocks[k], size = blocks[k + 1] - lo;
        matrix_vector(out + lo, b, v + lo, size, size);
        b += size * size;
    }
}

/* out_ib = B_ib v_ib. Shapes: out, v (A, P), b (A, S). Aliasing: none. Agents are parallel. */
static void block_product(
    void *out_, const void *b_, const void *v_, int64_t agents, const int64_t *blocks, int64_t n_blocks, int threads)
{
    int64_t params = blocks[n_blocks], packed = dnn_packed_size(blocks, n_blocks);
    int team = team_size(threads, (double)(agents * packed) * 0.2e-3);
    FOR_EACH(i, agents,
        product_agent(
            (real *)out_ + i * params, (const real *)b_ + i * packed, (const real *)v_ + i * params, blocks, n_blocks))
}

typedef void (*potrf_function)(char *, int *, real *, int *, int *);
typedef void (*potrs_function)(char *, int *, int *, real *, int *, real *, int *, int *);
typedef void (*trsm_function)(char *, char *, char *, char *, int *, int *, real *, real *, int *, real *, int *);

/* A matrix stands as Fortran's lower triangle, the upper one in C order: the tile of rows i .. in columns k .. begins at
 * b + k size + i. Here are its rows, or columns. */
INLINE int64_t tile_size(int64_t start, int64_t size) { return min_index(FACTOR_TILE, size - start); }

/* L_kk <- the Cholesky factor of tile (k, k), with NaN in its corner if it is not positive definite. Serial. */
static void factor_corner(const dnn_blas *blas, real *b, int64_t size, int64_t k)
{
    char lower = 'L';
    int n = (int)tile_size(k, size), ld = (int)size, info = 0;
    real *corner = b + k * size + k;
    ((potrf_function)blas->potrf)(&lower, &n, corner, &ld, &info);
    if (info) corner[0] = (real)NAN;
}

/* L_ik <- B_ik L_kk'^-1, i > k. Serial. */
static void factor_below(const dnn_blas *blas, real *b, int64_t size, int64_t i, int64_t k)
{
    char right = 'R', lower = 'L', turned = 'T', plain = 'N';
    int m = (int)tile_size(i, size), n = (int)tile_size(k, size), ld = (int)size;
    real one = 1, *tile = b + k * size;
    ((trsm_function)blas->trsm)(&right, &lower, &turned, &plain, &m, &n, &one, tile + k, &ld, tile + i, &ld);
}

/* B_ij -= L_ik L_jk', i >= j > k; where i = j the upper half is of no use. Serial. */
static void factor_update(const dnn_blas *blas, real *b, int64_t size, int64_t i, int64_t j, int64_t k)
{
    char plain = 'N', turned = 'T';
    int m = (int)tile_size(i, size), n = (int)tile_size(j, size), d = (int)tile_size(k, size), ld = (int)size;
    real one = 1, minus = -1, *from = b + k * size, *to = b + j * size + i;
    ((gemm_function)blas->gemm)(&plain, &turned, &m, &n, &d, &minus, from + i, &ld, from + j, &ld, &one, to, &ld);
}

/* x_i -= L_ik x_k, or x_k <- L_kk^-1 x_k if i = k. Serial. */
static void solve_forward(const real *b, real *x, int64_t size, int64_t i, int64_t k)
{
    int64_t stop = i + tile_size(i, size);
    for (int64_t j = k; j < k + tile_size(k, size); j++) {
        const real *row = b + j * size;
        int64_t from = i == k ? j + 1 : i;
        if (i == k) x[j] /= row[j];
        for (int64_t p = from; p < stop; p++) x[p] -= x[j] * row[p];
    }
}

/* x_k -= L_ik' x_i, or x_k <- L_kk'^-1 x_k if i = k. Serial. */
static void solve_backward(const real *b, real *x, int64_t size, int64_t i, int64_t k)
{
    int64_t stop = i + tile_size(i, size);
    for (int64_t j = k + tile_size(k, size); j-- > k;) {
        const real *row = b + j * size;
        int64_t from = i == k ? j + 1 : i;
        x[j] -= dot(row + from, x + from, stop - from);
        if (i == k) x[j] /= row[j];
    }
}

/* b <- its Cholesky factor, x <- b^-1 x, tile by tile; NaN in x if b is not positive definite. Within a parallel region
 * of `team` > 1 threads each tile is a task, and all are done at the region's next barrier.
 * Shapes: b (size, size), x (size). Aliasing: none. */
static void solve_tiles(const dnn_blas *blas, real *b, real *x, int64_t size, int team)
{
    const int64_t tile = FACTOR_TILE, last = (size - 1) / tile * tile;
    (void)team; /* without OpenMP */
    for (int64_t k = 0; k < size; k += tile) {
        real *own = b + k * size + k;
        (void)own;
#pragma omp task if (team > 1) depend(inout : own[0])
        factor_corner(blas, b, size, k);
#pragma omp task if (team > 1) depend(in : own[0]) depend(inout : x[k])
        solve_forward(b, x, size, k, k);
        for (int64_t i = k + tile; i < size; i += tile) {
            real *below = b + k * size + i;
            (void)below;
#pragma omp task if (team > 1) depend(in : own[0]) depend(inout : below[0])
            factor_below(blas, b, size, i, k);
#pragma omp task if (team > 1) depend(in : below[0], x[k]) depend(inout : x[i])
            solve_forward(b, x, size, i, k);
        }
        for (int64_t j = k + tile; j < size; j += tile)
            for (int64_t i = j; i < size; i += tile) {
                real *left = b + k * size + i, *right = b + k * size + j, *to = b + j * size + i;
                (void)left, (void)right, (void)to;
#pragma omp task if (team > 1) depend(in : left[0], right[0]) depend(inout : to[0])
                factor_update(blas, b, size, i, j, k);
            }
    }
    for (int64_t k = last; k >= 0; k -= tile) {
        real *own = b + k * size + k;
        (void)own;
        for (int64_t i = last; i > k; i -= tile) {
            real *below = b + k * size + i;
            (void)below;
#pragma omp task if (team > 1) depend(in : below[0], x[i]) depend(inout : x[k])
            solve_backward(b, x, size, i, k);
        }
#pragma omp task if (team > 1) depend(in : own[0]) depend(inout : x[k])
        solve_backward(b, x, size, k, k);
    }
}

/* The same of a small matrix at once. Serial. */
static void solve_whole(const dnn_blas *blas, real *b, real *x, int64_t size)
{
    char lower = 'L';
    int n = (int)size, one = 1, info = 0;
    if (size == 1) {
        info = !(b[0] > 0);
        x[0] /= b[0];
    } else if (size > 1) {
        ((potrf_function)blas->potrf)(&lower, &n, b, &n, &info);
        if (info == 0) ((potrs_function)blas->potrs)(&lower, &n, &one, b, &n, x, &n, &info);
    }
    if (info) x[0] = (real)NAN;
}

INLINE void add_diagonal_of(real *b, const real *diag, int64_t size)
{
    for (int64_t p = 0; p < size; p++) b[p * size + p] += diag[p];
}

/* Whether the solution is not finite: it is then set to 0. Serial. */
static int solve_failed(real *x, int64_t size)
{
    int failed = 0;
    for (int64_t p = 0; p < size; p++) failed |= !isfinite(x[p]);
    if (failed) memset(x, 0, (size_t)size * sizeof(real));
    return failed;
}

static int64_t largest_block(const int64_t *blocks, int64_t n_blocks)
{
    int64_t most = 0;
    for (int64_t b = 0; b < n_blocks; b++) most = max_index(most, blocks[b + 1] - blocks[b]);
    return most;
}

/* Without the check of the solution. Serial. */
static void solve_unchecked(const dnn_blas *blas, real *b, const real *diag, real *x, int64_t size)
{
    add_diagonal_of(b, diag, size);
    if (size > FACTOR_WHOLE)
        solve_tiles(blas, b, x, size, 1);
    else
        solve_whole(blas, b, x, size);
}

/* One block: b <- Cholesky factor of b + diag, x <- its solution; returns 0, or 1 if b + diag is not positive definite
 * or the solution is not finite (x is then 0). Shapes: b (size, size), diag, x (size). Aliasing: none. Tiles are
 * parallel. */
static int solve_block(const dnn_blas *blas, real *b, const real *diag, real *x, int64_t size, int team)
{
    if (team == 1 || size <= FACTOR_WHOLE) {
        solve_unchecked(blas, b, diag, x, size);
        return solve_failed(x, size);
    }
    add_diagonal_of(b, diag, size);
#pragma omp parallel num_threads(team)
#pragma omp single
    solve_tiles(blas, b, x, size, team);
    return solve_failed(x, size);
}

/* One call of spd_solve. */
typedef struct {
    real *out, *b;
    const real *diag;
    int64_t *status;
    const int64_t *blocks;
    int64_t n_blocks, packed;
    const dnn_blas *blas;
} solve;

/* Blocks first .. stop - 1 of one agent, whose matrices begin at `place`. Serial. */
static void solve_blocks(const solve *s, int64_t agent, int64_t first, int64_t stop, real *place)
{
    int64_t start = agent * s->blocks[s->n_blocks];
    for (int64_t k = first; k < stop; k++) {
        int64_t size = s->blocks[k + 1] - s->blocks[k], lo = start + s->blocks[k];
        solve_unchecked(s->blas, place, s->diag + lo, s->out + lo, size);
        place += size * size;
    }
}

/* status_i, and zeros in the blocks without a solution. Serial. */
static void check_agent(const solve *s, int64_t agent)
{
    s->status[agent] = 0;
    for (int64_t k = s->n_blocks; k-- > 0;) {
        real *x = s->out + agent * s->blocks[s->n_blocks] + s->blocks[k];
        if (solve_failed(x, s->blocks[k + 1] - s->blocks[k])) s->status[agent] = k + 1;
    }
}

static void solve_agent(const solve *s, int64_t agent)
{
    solve_blocks(s, agent, 0, s->n_blocks, s->b + agent * s->packed);
    check_agent(s, agent);
}

/* The tasks of one agent, within a parallel region of a team: large blocks in tiles, small ones some together. */
static void begin_agent(const solve *s, int64_t agent, int team)
{
    const int64_t *blocks = s->blocks;
    real *place = s->b + agent * s->packed;
    for (int64_t k = 0, stop; k < s->n_blocks; k = stop) {
        int64_t size = blocks[k + 1] - blocks[k], lo = agent * blocks[s->n_blocks] + blocks[k], numbers = size * size;
        stop = k + 1;
        if (size > FACTOR_WHOLE) {
            add_diagonal_of(place, s->diag + lo, size);
            solve_tiles(s->blas, place, s->out + lo, size, team);
        } else {
            for (; stop < s->n_blocks && blocks[stop + 1] - blocks[k] <= FACTOR_WHOLE; stop++)
                numbers += square(blocks[stop + 1] - blocks[stop]);
#pragma omp task
            solve_blocks(s, agent, k, stop, place);
        }
        place += numbers;
    }
}

/* A guess of the nanoseconds that one agent takes. */
static double solve_cost(const int64_t *blocks, int64_t n_blocks)
{
    double cubes = 0;
    for (int64_t k = 0; k < n_blocks; k++) {
        double size = (double)(blocks[k + 1] - blocks[k]);
        cubes += size * (size * size / 90 + size / 2 + 100);
    }
    return cubes;
}

/* All agents within a parallel region: one thread states the tasks, all do them. */
static void solve_together(const solve *s, int64_t agents)
{
    const int team = WITHIN, present = team_present();
    (void)present; /* without OpenMP */
#pragma omp single
    for (int64_t i = 0; i < agents; i++) begin_agent(s, i, present);
    FOR_EACH(i, agents, check_agent(s, i))
}

/* (B_ib + diag(diag_ib)) out_ib = rhs_ib by Cholesky; b is overwritten. status_i: 0, or 1 + the first failed block.
 * Shapes: out, diag, rhs (A, P), status (A), b (A, S). Aliasing: out may be rhs, and within a parallel region it is.
 * Agents are parallel; where they are few or blocks large, blocks and tiles of all agents. */
static void spd_solve(void *out, int64_t *status, void *b, const void *diag, const void *rhs, int64_t agents,
    const int64_t *blocks, int64_t n_blocks, const dnn_blas *blas, int threads)
{
    solve s = {out, b, diag, status, blocks, n_blocks, dnn_packed_size(blocks, n_blocks), blas};
    int team = team_size(threads, solve_cost(blocks, n_blocks) * (double)agents * 1e-3);
    if (out != rhs) memcpy(out, rhs, (size_t)(agents * blocks[n_blocks]) * sizeof(real));
    if (team == 1 || (agents >= threads_of(team) && largest_block(blocks, n_blocks) <= FACTOR_WHOLE)) {
        FOR_EACH(i, agents, solve_agent(&s, i))
    } else if (team == WITHIN)
        solve_together(&s, agents);
    else {
#pragma omp parallel num_threads(team)
        solve_together(&s, agents);
    }
}
