/* base.h: reals, short vectors, products and threads, shared by all kernels. */

#if DNN_DOUBLE
typedef double real;
typedef int64_t real_bits;
#define REAL_EPSILON DBL_EPSILON
#else
typedef float real;
typedef int32_t real_bits;
#define REAL_EPSILON FLT_EPSILON
#endif

#if DNN_LEVEL == 2
#define VECTOR_BYTES 64
#elif DNN_LEVEL == 1
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

/* A short vector of any alignment. Loops over vectors end in one zero-padded vector, so that every element goes
 * through the same instructions wherever it stands. */
typedef real vector __attribute__((vector_size(VECTOR_BYTES), aligned(__alignof__(real)), may_alias));
enum { LANES = VECTOR_BYTES / sizeof(real) };

#define INLINE static inline __attribute__((always_inline))

INLINE vector load(const real *p) { return *(const vector *)p; }
INLINE void store(real *p, vector v) { *(vector *)p = v; }

/* The first n of LANES elements, zeros behind them; the others are not touched. */
#if DNN_LEVEL == 2 && DNN_DOUBLE
INLINE vector load_part(const real *p, int64_t n) { return (vector)_mm512_maskz_loadu_pd((__mmask8) ~(~0u << n), p); }
INLINE void store_part(real *p, vector v, int64_t n) { _mm512_mask_storeu_pd(p, (__mmask8) ~(~0u << n), (__m512d)v); }
#elif DNN_LEVEL == 2
INLINE vector load_part(const real *p, int64_t n) { return (vector)_mm512_maskz_loadu_ps((__mmask16) ~(~0u << n), p); }
INLINE void store_part(real *p, vector v, int64_t n) { _mm512_mask_storeu_ps(p, (__mmask16) ~(~0u << n), (__m512)v); }
#elif DNN_LEVEL == 1
/* All bits of the first n lanes. */
INLINE __m256i first_lanes(int64_t n)
{
    typedef real_bits lanes __attribute__((vector_size(VECTOR_BYTES)));
    lanes number;
    for (int l = 0; l < LANES; l++) number[l] = l;
    return (__m256i)(number < (real_bits)n);
}
#if DNN_DOUBLE
INLINE vector load_part(const real *p, int64_t n) { return (vector)_mm256_maskload_pd(p, first_lanes(n)); }
INLINE void store_part(real *p, vector v, int64_t n) { _mm256_maskstore_pd(p, first_lanes(n), (__m256d)v); }
#else
INLINE vector load_part(const real *p, int64_t n) { return (vector)_mm256_maskload_ps(p, first_lanes(n)); }
INLINE void store_part(real *p, vector v, int64_t n) { _mm256_maskstore_ps(p, first_lanes(n), (__m256)v); }
#endif
#else
INLINE vector load_part(const real *p, int64_t n)
{
    vector v = {0};
    memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
}

INLINE void store_part(real *p, vector v, int64_t n) { memcpy(p, &v, (size_t)n * sizeof(real)); }
#endif

/* A product, rounded on its own. The compiler may fuse a product into the sum that follows, and need not choose alike
 * in two places; an empty statement between them leaves it no choice. */
INLINE vector rounded(vector p)
{
#if defined(__x86_64__)
    __asm__("" : "+v"(p));
#elif defined(__aarch64__)
    __asm__("" : "+w"(p));
#else
    __asm__("" : "+m"(p));
#endif
    return p;
}

INLINE vector rounded_product(real c, vector v) { return rounded(c * v); }

/* The next LANES of `left` elements, or all of them and zeros. */
INLINE vector load_at(const real *p, int64_t left)
{
#if DNN_LEVEL == 2
    return load_part(p, left < LANES ? left : LANES); /* no branch */
#else
    return left < LANES ? load_part(p, left) : load(p);
#endif
}

INLINE void store_at(real *p, vector v, int64_t left)
{
    if (DNN_LEVEL == 2 || left < LANES)
        store_part(p, v, left < LANES ? left : LANES);
    else
        store(p, v);
}

/* The last n elements before `end`, zeros before them; reads the LANES elements before `end`. */
INLINE vector load_end(const real *end, int64_t n)
{
    typedef real_bits lanes __attribute__((vector_size(VECTOR_BYTES), may_alias));
    lanes number;
    for (int l = 0; l < LANES; l++) number[l] = l;
    return (vector)((lanes)load(end - LANES) & (number >= (real_bits)(LANES - n)));
}

INLINE real sum_lanes(vector v)
{
    real s[LANES];
    memcpy(s, &v, sizeof s);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) s[l] += s[l + half];
    return s[0];
}

/* sum_i a_i b_i. Shapes: (n), (n). Aliasing: any. Serial. */
static real dot(const real *a, const real *b, int64_t n)
{
    vector s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        s0 += load(a + i) * load(b + i);
        s1 += load(a + i + LANES) * load(b + i + LANES);
        s2 += load(a + i + 2 * LANES) * load(b + i + 2 * LANES);
        s3 += load(a + i + 3 * LANES) * load(b + i + 3 * LANES);
    }
    for (; i + LANES <= n; i += LANES) s0 += load(a + i) * load(b + i);
    if (i < n && n >= LANES)
        s1 += load_end(a + n, n - i) * load_end(b + n, n - i);
    else if (i < n)
        s1 += load_part(a + i, n - i) * load_part(b + i, n - i);
    return sum_lanes((s0 + s1) + (s2 + s3));
}

/* out = B v, four rows at a time. Shapes: out (n), b (n, m), v (m). Aliasing: out is neither b nor v. Serial. */
static void matrix_vector(real *restrict out, const real *restrict b, const real *restrict v, int64_t n, int64_t m)
{
    int64_t p = 0;
    for (; p + 4 <= n; p += 4, b += 4 * m) {
        vector s[4] = {{0}}, t[4] = {{0}};
        int64_t i = 0;
        for (; i + 2 * LANES <= m; i += 2 * LANES)
            for (int r = 0; r < 4; r++) {
                s[r] += load(b + r * m + i) * load(v + i);
                t[r] += load(b + r * m + i + LANES) * load(v + i + LANES);
            }
        for (; i + LANES <= m; i += LANES)
            for (int r = 0; r < 4; r++) s[r] += load(b + r * m + i) * load(v + i);
        for (int r = 0; r < 4 && i < m; r++)
            if (m >= LANES)
                t[r] += load_end(b + r * m + m, m - i) * load_end(v + m, m - i);
            else
                t[r] += load_part(b + r * m + i, m - i) * load_part(v + i, m - i);
        for (int r = 0; r < 4; r++) out[p + r] = sum_lanes(s[r] + t[r]);
    }
    for (; p < n; p++, b += m) out[p] = dot(b, v, m);
}

/* y += c x. Shapes: (n), (n). Aliasing: y is not x. Serial. */
static void axpy(real *restrict y, real c, const real *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += c * x[i];
}

INLINE int64_t min_index(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max_index(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE real max_real(real a, real b) { return a > b ? a : b; } /* b if either is NaN */
INLINE int64_t square(int64_t a) { return a * a; }
INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Bytes rounded up to whole cache lines, so that arrays cut from one workspace start aligned. */
INLINE size_t lines(int64_t n, size_t size) { return ((size_t)n * size + 63) / 64 * 64; }

/* The next place in a workspace; one that begins at NULL is only measured, so addresses are counted as integers. */
INLINE void *carve(char **work, int64_t n, size_t size)
{
    void *place = *work;
    *work = (char *)((uintptr_t)*work + lines(n, size));
    return place;
}

/* Row-major products on Fortran BLAS. C (n, m) has row length m; a, b row lengths as given.
 *   nn: C = A (n, k) B (k, m) + keep C    nt: C = A (n, k) B (m, k)' + keep C    tn: C = A (k, n)' B (k, m) + keep C
 * Aliasing: none. Serial: the BLAS runs on the calling thread. */
typedef void (*gemm_function)(
    char *, char *, int *, int *, int *, real *, real *, int *, real *, int *, real *, real *, int *);

INLINE void gemm(const dnn_blas *blas, char ta, char tb, int64_t m, int64_t n, int64_t k, const real *a, int64_t lda,
    const real *b, int64_t ldb, real keep, real *c, int64_t ldc)
{
    int m_ = (int)m, n_ = (int)n, k_ = (int)k, lda_ = (int)lda, ldb_ = (int)ldb, ldc_ = (int)ldc;
    real one = 1;
    ((gemm_function)blas->gemm)(&ta, &tb, &m_, &n_, &k_, &one, (real *)a, &lda_, (real *)b, &ldb_, &keep, c, &ldc_);
}

static void product_nn(
    const dnn_blas *blas, real *c, const real *a, const real *b, int64_t n, int64_t k, int64_t m, real keep)
{
    gemm(blas, 'N', 'N', m, n, k, b, m, a, k, keep, c, m);
}

static void product_nt(
    const dnn_blas *blas, real *c, const real *a, const real *b, int64_t n, int64_t k, int64_t m, real keep)
{
    gemm(blas, 'T', 'N', m, n, k, b, k, a, k, keep, c, m);
}

static void product_tn(
    const dnn_blas *blas, real *c, const real *a, const real *b, int64_t k, int64_t n, int64_t m, real keep)
{
    gemm(blas, 'N', 'T', m, n, k, b, m, a, n, keep, c, m);
}

enum { WITHIN = 0 }; /* a team that is at work already: the call is made by all threads of a parallel region */

/* Threads worth waking for so much work: each must get 100 microseconds, and waking it takes about 10: work / n + 10 n
 * is least at n^2 = work / 10. */
INLINE int team_size(int threads, double microseconds)
{
#ifdef _OPENMP
    if (threads == WITHIN) return WITHIN;
    double worth = microseconds < 1000 ? microseconds / 100 : sqrt(microseconds / 10);
    return worth < 2 ? 1 : worth < threads ? (int)worth : threads;
#else
    (void)threads, (void)microseconds;
    return 1;
#endif
}

INLINE int thread_number(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* Threads that really came, inside a parallel region: limits and outer regions may leave fewer than were asked. */
INLINE int team_present(void)
{
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

/* Threads that a call is made by, or may use: so many places it has in its workspace. */
INLINE int threads_of(int threads) { return threads == WITHIN ? team_present() : threads; }

/* A statement or a block for i = 0 .. n - 1, shared out over `team` threads; `thread` is the number of the one at it.
 * A team of one enters no parallel region: even an idle one costs a microsecond, and hangs in a forked child. WITHIN a
 * region all its threads take part, and leave together. */
#define FOR_EACH(i, n, ...)                                                                                            \
    if (team == WITHIN) {                                                                                              \
        _Pragma("omp for schedule(dynamic, 1)") for (int64_t i = 0; i < (n); i++)                                      \
        {                                                                                                              \
            const int thread = thread_number();                                                                        \
            (void)thread;                                                                                              \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } else if (team > 1) {                                                                                             \
        _Pragma("omp parallel for schedule(dynamic, 1) num_threads(team > 1 ? team : 1)") for (int64_t i = 0; i < (n); \
            i++)                                                                                                       \
        {                                                                                                              \
            const int thread = thread_number();                                                                        \
            (void)thread;                                                                                              \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } else                                                                                                             \
        for (int64_t i = 0; i < (n); i++) {                                                                            \
            const int thread = 0;                                                                                      \
            (void)thread;                                                                                              \
            __VA_ARGS__;                                                                                               \
        }
