/* solve.c: products with, and solves of, packed block-diagonal matrices. */

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

/* One block: b <- Cholesky factor of b + diag, x <- its solution; returns 0, or 1 if b + diag is not positive definite
 * or the solution is not finite (x is then 0). Shapes: b (size, size), diag, x (size). Aliasing: none. Serial. */
static int solve_block(const dnn_blas *blas, real *b, const real *diag, real *x, int64_t size)
{
    typedef void (*potrf_function)(char *, int *, real *, int *, int *);
    typedef void (*potrs_function)(char *, int *, int *, real *, int *, real *, int *, int *);
    char lower = 'L';
    int n = (int)size, one = 1, info = 0;
    for (int64_t p = 0; p < size; p++) b[p * size + p] += diag[p];
    if (size == 1) {
        info = !(b[0] > 0);
        x[0] /= b[0];
    } else if (size > 1) {
        ((potrf_function)blas->potrf)(&lower, &n, b, &n, &info);
        if (info == 0) ((potrs_function)blas->potrs)(&lower, &n, &one, b, &n, x, &n, &info);
    }
    for (int64_t p = 0; p < size && info == 0; p++) info = !isfinite(x[p]);
    if (info) memset(x, 0, (size_t)size * sizeof(real));
    return info != 0;
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

/* Blocks first .. stop - 1 of one agent; `place`: the packed matrix of block `first`; returns the first that failed, or
 * n_blocks. Serial. */
static int64_t solve_blocks(const solve *s, int64_t agent, int64_t first, int64_t stop)
{
    int64_t failed = s->n_blocks, start = agent * s->blocks[s->n_blocks];
    real *place = s->b + agent * s->packed + dnn_packed_size(s->blocks, first);
    for (int64_t k = first; k < stop; k++) {
        int64_t size = s->blocks[k + 1] - s->blocks[k], lo = start + s->blocks[k];
        if (solve_block(s->blas, place, s->diag + lo, s->out + lo, size)) failed = min_index(failed, k);
        place += size * size;
    }
    return failed;
}

static void solve_agent(const solve *s, int64_t agent)
{
    int64_t failed = solve_blocks(s, agent, 0, s->n_blocks);
    s->status[agent] = failed == s->n_blocks ? 0 : failed + 1;
}

/* (B_ib + diag(diag_ib)) out_ib = rhs_ib by Cholesky; b is overwritten. status_i: 0, or 1 + the first failed block.
 * Shapes: out, diag, rhs (A, P), status (A), b (A, S). Aliasing: out may be rhs.
 * Agents are parallel, or the blocks of one agent after another. */
static void spd_solve(void *out, int64_t *status, void *b, const void *diag, const void *rhs, int64_t agents,
    const int64_t *blocks, int64_t n_blocks, const dnn_blas *blas, int threads)
{
    solve s = {out, b, diag, status, blocks, n_blocks, dnn_packed_size(blocks, n_blocks), blas};
    double cubes = 0;
    for (int64_t k = 0; k < n_blocks; k++) {
        double size = (double)(blocks[k + 1] - blocks[k]);
        cubes += size * (size * size / 30 + 200);
    }
    int team = team_size(threads, cubes * (double)agents * 1e-3);
    if (out != rhs) memcpy(out, rhs, (size_t)(agents * blocks[n_blocks]) * sizeof(real));
    if (team == 1 || agents >= team) {
        FOR_EACH(i, agents, solve_agent(&s, i))
        return;
    }
    for (int64_t i = 0; i < agents; i++) {
        int64_t failed = n_blocks, parts = min_index(n_blocks, 8 * team);
#pragma omp parallel for schedule(dynamic, 1) num_threads(team) reduction(min : failed)
        for (int64_t p = 0; p < parts; p++)
            failed = min_index(failed, solve_blocks(&s, i, p * n_blocks / parts, (p + 1) * n_blocks / parts));
        status[i] = failed == n_blocks ? 0 : failed + 1;
    }
}
