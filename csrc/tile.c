/* tile.c: products in register tiles, for matrices that stand transposed: a row for each unit, a column for each
 * sample.
 *
 * Vectors run along samples, so no width of a layer wastes lanes. A tile of R x V accumulators, R rows and V vectors,
 * is summed in registers; what is left of the rows goes through tiles of half the height, down to one row.
 */

#if DNN_LEVEL == 2 || defined(__aarch64__)
#define TILE_ROWS 8 /* 32 registers */
#define TILE_VECTORS 3
#elif DNN_LEVEL == 1
#define TILE_ROWS 4 /* 16 registers */
#define TILE_VECTORS 3
#else
#define TILE_ROWS 4 /* 16 registers, products and sums separate */
#define TILE_VECTORS 2
#endif

enum { TILE_DEPTH = 256 }; /* terms that are summed at a stretch, so that what a tile reads stays in a cache */

#define UNROLLED _Pragma("GCC unroll 16")

INLINE vector splat(real c) { return c - (vector){0}; }

/* kind(rows, vectors, ...) with constant rows and vectors. */
#define TILE_OF(kind, rows, vectors, ...)                                                                              \
    if ((vectors) == 1)                                                                                                \
        TILE_OF_ROWS(kind, rows, 1, __VA_ARGS__)                                                                       \
    else if ((vectors) == 2)                                                                                           \
        TILE_OF_ROWS(kind, rows, 2, __VA_ARGS__)                                                                       \
    else                                                                                                               \
        TILE_OF_ROWS(kind, rows, TILE_VECTORS, __VA_ARGS__)

#define TILE_OF_ROWS(kind, rows, vectors, ...)                                                                         \
    {                                                                                                                  \
        if ((rows) > 4)                                                                                                \
            kind(TILE_ROWS, vectors, __VA_ARGS__);                                                                     \
        else if ((rows) == 4)                                                                                          \
            kind(4, vectors, __VA_ARGS__);                                                                             \
        else if ((rows) == 2)                                                                                          \
            kind(2, vectors, __VA_ARGS__);                                                                             \
        else                                                                                                           \
            kind(1, vectors, __VA_ARGS__);                                                                             \
    }

/* Rows of the tile at row j of n: the highest power of two that is left, TILE_ROWS at most. */
INLINE int64_t tile_rows(int64_t left)
{
    int64_t rows = TILE_ROWS;
    while (rows > left) rows /= 2;
    return rows;
}

/* c[r, v] = (start) + sum_k a[k step + r across] b[k, v]: start is bias[r], what stands in c, or zero. */
INLINE void tile_product(const int R, const int V, real *c, int64_t ldc, const real *bias, int keep, const real *a,
    int64_t step, int64_t across, const real *b, int64_t ldb, int64_t n)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) sum[r][v] =
        bias   ? splat(bias[r])
        : keep ? load(c + r * ldc + v * LANES)
               : (vector){0};
    for (int64_t k = 0; k < n; k++, a += step, b += ldb) {
        vector right[TILE_VECTORS];
        UNROLLED for (int v = 0; v < V; v++) right[v] = load(b + v * LANES);
        UNROLLED for (int r = 0; r < R; r++)
        {
            vector left = splat(a[r * across]);
            UNROLLED for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
        }
    }
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) store(c + r * ldc + v * LANES, sum[r][v]);
}

/* c[r, v] = (c or 0) + sum of a[r, :] b[v, :] over n vectors, lane by lane: c[r, v] is a vector. */
INLINE void tile_dots(
    const int R, const int V, real *c, int64_t ldc, int keep, const real *a, const real *b, int64_t ld, int64_t n)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) sum[r][v] =
        keep ? load(c + (r * ldc + v) * LANES) : (vector){0};
    for (int64_t k = 0; k < n; k++, a += LANES, b += LANES) {
        vector right[TILE_VECTORS];
        UNROLLED for (int v = 0; v < V; v++) right[v] = load(b + v * ld);
        UNROLLED for (int r = 0; r < R; r++)
        {
            vector left = load(a + r * ld);
            UNROLLED for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
        }
    }
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++)
        store(c + (r * ldc + v) * LANES, sum[r][v]);
}

/* A (rows, n) as packed_product takes it: for every TILE_DEPTH columns, for every tile, its rows side by side.
 * Shapes: out (rows n), A[r, k] = w[r across + k step]. Aliasing: none. Serial. */
static void pack_tiles(
    real *restrict out, const real *restrict w, int64_t rows, int64_t n, int64_t across, int64_t step)
{
    int64_t count, depth;
    for (int64_t start = 0; start < n; start += depth) {
        depth = min_index(n - start, TILE_DEPTH);
        for (int64_t j = 0; j < rows; j += count, out += count * depth) {
            const real *corner = w + j * across + start * step;
            count = tile_rows(rows - j);
            if (count == TILE_ROWS && across == 1)
                for (int64_t k = 0; k < depth; k++)
                    memcpy(out + k * TILE_ROWS, corner + k * step, TILE_ROWS * sizeof(real));
            else
                for (int64_t r = 0; r < count; r++)
                    for (int64_t k = 0; k < depth; k++) out[k * count + r] = corner[r * across + k * step];
        }
    }
}

/* C (rows, columns) = bias 1' or C or 0, + A (rows, n) B (n, columns), A packed; columns in whole vectors.
 * Shapes: row length ld of C and B. Aliasing: none. Serial. */
static void packed_product(real *c, const real *bias, int keep, const real *a, const real *b, int64_t rows, int64_t n,
    int64_t columns, int64_t ld)
{
    int64_t wide = columns / LANES, vectors, count;
    for (; n > 0; n -= TILE_DEPTH, a += rows * TILE_DEPTH, b += TILE_DEPTH * ld, bias = NULL, keep = 1)
        for (int64_t s = 0, depth = min_index(n, TILE_DEPTH); s < wide; s += vectors) {
            vectors = min_index(TILE_VECTORS, wide - s);
            for (int64_t j = 0; j < rows; j += count) {
                count = tile_rows(rows - j);
                real *place = c + j * ld + s * LANES;
                const real *start = bias ? bias + j : NULL, *left = a + j * depth;
                const real *right = b + s * LANES;
                TILE_OF(tile_product, count, vectors, place, ld, start, keep, left, count, 1, right, ld, depth)
            }
        }
}

/* C (rows, columns) = (C or 0) + A (rows, n) B (n, columns), columns in whole vectors.
 * Shapes: row lengths ldc, lda, ldb. Aliasing: none. Serial. */
static void outer_product(real *c, int64_t ldc, int keep, const real *a, int64_t lda, const real *b, int64_t ldb,
    int64_t rows, int64_t n, int64_t columns)
{
    int64_t wide = columns / LANES, vectors, count;
    for (int64_t s = 0; s < wide; s += vectors) {
        vectors = min_index(TILE_VECTORS, wide - s);
        for (int64_t j = 0; j < rows; j += count) {
            count = tile_rows(rows - j);
            real *place = c + j * ldc + s * LANES;
            const real *left = a + j * lda, *right = b + s * LANES;
            TILE_OF(tile_product, count, vectors, place, ldc, NULL, keep, left, 1, lda, right, ldb, n)
        }
    }
}

/* C (rows, cols, LANES) = (C or 0) + A (rows, n LANES) B (cols, n LANES)', lane by lane. Shapes: row length ld of A, B.
 * Aliasing: none. Serial. */
static void lane_dots(
    real *c, int keep, const real *a, const real *b, int64_t rows, int64_t cols, int64_t n, int64_t ld)
{
    int64_t vectors, count;
    for (int64_t s = 0; s < cols; s += vectors) {
        vectors = min_index(TILE_VECTORS, cols - s);
        for (int64_t j = 0; j < rows; j += count) {
            count = tile_rows(rows - j);
            TILE_OF(tile_dots, count, vectors, c + (j * cols + s) * LANES, cols, keep, a + j * ld, b + s * ld, ld, n)
        }
    }
}

/* One step of turn_block: runs of `half` lanes change places between rows at distance `half`. */
INLINE void swap_halves(vector v[LANES], const int half)
{
    UNROLLED for (int r = 0; r < LANES; r++)
    {
        if (r & half) continue;
        vector a = v[r], b = v[r + half];
#if defined(__clang__)
        UNROLLED for (int l = 0; l < LANES; l++)
        {
            v[r][l] = l & half ? b[l - half] : a[l];
            v[r + half][l] = l & half ? b[l] : a[l + half];
        }
#else
        typedef real_bits lanes __attribute__((vector_size(VECTOR_BYTES)));
        lanes low, high;
        UNROLLED for (int l = 0; l < LANES; l++)
        {
            low[l] = l & half ? LANES + l - half : l;
            high[l] = l & half ? LANES + l : l + half;
        }
        v[r] = __builtin_shuffle(a, b, low);
        v[r + half] = __builtin_shuffle(a, b, high);
#endif
    }
}

/* LANES x LANES numbers transposed in registers. */
INLINE void turn_block(vector v[LANES])
{
    if (LANES > 8) swap_halves(v, 8);
    if (LANES > 4) swap_halves(v, 4);
    if (LANES > 2) swap_halves(v, 2);
    swap_halves(v, 1);
}

/* out[i, m] = x[m, i], columns m >= n of out repeat the last one. Shapes: out (d, columns) with row length ld, x (n, d)
 * with row length stride, at whose end x may stand; 0 < n <= columns. Aliasing: none. Serial. */
static void turn(
    real *restrict out, int64_t ld, const real *restrict x, int64_t stride, int64_t n, int64_t d, int64_t columns)
{
    if (d == 1 && stride == 1) { /* one row stays as it lies */
        memcpy(out, x, (size_t)n * sizeof(real));
        for (int64_t m = n; m < columns; m++) out[m] = x[n - 1];
        return;
    }
    if (columns == 1 && ld == 1) {
        memcpy(out, x, (size_t)d * sizeof(real));
        return;
    }
    for (int64_t m = 0; m < columns; m += LANES) {
        int64_t i = 0, reach = d < LANES ? (m + LANES) * stride + LANES - d : 0; /* loads pass the end of a row */
        if (m + LANES <= columns && reach <= n * stride)
            for (; i < d && (i == 0 || d - i > LANES / 4); i += LANES) {
                int64_t at = max_index(0, min_index(i, d - LANES)), rows = min_index(d, LANES); /* blocks may overlap */
                vector v[LANES];
                UNROLLED for (int r = 0; r < LANES; r++) v[r] = load(x + min_index(m + r, n - 1) * stride + at);
                turn_block(v);
                if (rows == LANES)
                    UNROLLED for (int r = 0; r < LANES; r++) store(out + (at + r) * ld + m, v[r]);
                else
                    for (int r = 0; r < rows; r++) store(out + r * ld + m, v[r]);
            }
        for (int64_t c = m; c < min_index(m + LANES, columns); c++) /* the few that are left */
            for (int64_t k = i; k < d; k++) out[k * ld + c] = x[min_index(c, n - 1) * stride + k];
    }
}

/* out[i] = the sum of the lanes of sum[i]. Shapes: out (n), sum (n, LANES). Aliasing: none. Serial. */
static void sum_of_lanes(real *restrict out, const real *restrict sum, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES, sum += LANES * LANES) {
        vector v[LANES];
        UNROLLED for (int r = 0; r < LANES; r++) v[r] = load(sum + r * LANES);
        turn_block(v);
        for (int half = LANES / 2; half > 0; half /= 2)
            for (int r = 0; r < half; r++) v[r] += v[r + half];
        store(out + i, v[0]);
    }
    for (; i < n; i++, sum += LANES) out[i] = sum_lanes(load(sum));
}
