/* solve.c: products with, and solves of, packed block-diagonal matrices. */

/* out_ib = B_ib v_ib. Shapes: out, v (A, P), b (A, S). Aliasing: none. Agents are parallel. */
static void block_product(void *out_, const void *b_, const void *v_, int64_t agents, const int64_t *blocks,
    int64_t n_blocks, int threads)
{
    int64_t params = blocks[n_blocks], packed = dnn_packed_size(blocks, n_blocks);
    int team = team_size(threads, (double)(agents * packed) * 0.2e-3);
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
    for (int64_t i = 0; i < agents; i++) {
        const real *b = (const real *)b_ + i * packed, *v = (const real *)v_ + i * params;
        real *out = (real *)out_ + i * params;
        for (int64_t k = 0; k < n_blocks; k++) {
            int64_t lo = blocks[k], size = blocks[k + 1] - lo;
            matrix_vector(out + lo, b, v + lo, size, size);
            b += size * size;
        }
    }
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

/* (B_ib + diag(diag_ib)) out_ib = rhs_ib by Cholesky; b is overwritten. status_i: 0, or 1 + the first block that failed.
 * Shapes: out, diag, rhs (A, P), status (A), b (A, S). Aliasing: out may be rhs.
 * Agents are parallel, or the blocks of one agent after another. */
static void spd_solve(void *out_, int64_t *status, void *b_, const void *diag_, const void *rhs_, int64_t agents,
    const int64_t *blocks, int64_t n_blocks, const dnn_blas *blas, int threads)
{
    int64_t params = blocks[n_blocks], packed = dnn_packed_size(blocks, n_blocks);
    const real *diag = diag_;
    real *out = out_, *b = b_;
    double cubes = 0;
    for (int64_t k = 0; k < n_blocks; k++) {
        double size = (double)(blocks[k + 1] - blocks[k]);
        cubes += size * (size * size / 30 + 200);
    }
    int team = team_size(threads, cubes * (double)agents * 1e-3), whole = agents >= team;
    if (out_ != rhs_) memcpy(out, rhs_, (size_t)(agents * params) * sizeof(real));
#pragma omp parallel for schedule(dynamic, 1) num_threads(team) if (team > 1 && whole)
    for (int64_t i = 0; i < agents; i++) {
        int64_t failed = n_blocks;
#pragma omp parallel num_threads(team) if (team > 1 && !whole)
        {
            int64_t passed = 0;
            real *place = b + i * packed;
#pragma omp for schedule(static) reduction(min : failed)
            for (int64_t k = 0; k < n_blocks; k++) {
                int64_t lo = i * params + blocks[k];
                for (; passed < k; passed++) place += square(blocks[passed + 1] - blocks[passed]);
                if (solve_block(blas, place, diag + lo, out + lo, blocks[k + 1] - blocks[k]))
                    failed = min_index(failed, k);
            }
        }
        status[i] = failed == n_blocks ? 0 : failed + 1;
    }
}
