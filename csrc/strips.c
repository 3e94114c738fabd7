/* strips.c: rows of weights in strips, which threads take where rows are few, and their sums in double.
 *
 * Sums are taken in lanes that are added up at the end of a strip, and strips in order: the order depends on the length
 * of the row alone.
 */

enum {
    PIECE = 4096, /* numbers of a row that stay in the cache from step to step */
    STRIPS = 16, /* at most so many strips of a row, of whole pieces each: what a thread takes where rows are few */
    DOUBLES = VECTOR_BYTES / sizeof(double)
};

INLINE int64_t strip_numbers(int64_t params) { return max_index(1, ceil_div(ceil_div(params, PIECE), STRIPS)) * PIECE; }

INLINE int64_t strips_of(int64_t params) { return ceil_div(params, strip_numbers(params)); }

typedef double doubles __attribute__((vector_size(VECTOR_BYTES), aligned(__alignof__(double)), may_alias));

INLINE doubles widen(const real *p)
{
#if DNN_DOUBLE
    return *(const doubles *)p;
#else
    typedef float floats __attribute__((vector_size(VECTOR_BYTES / 2), aligned(__alignof__(float)), may_alias));
    return __builtin_convertvector(*(const floats *)p, doubles);
#endif
}

/* The first n < DOUBLES numbers, zeros behind them. */
INLINE doubles widen_part(const real *p, int64_t n)
{
    real padded[DOUBLES] = {0};
    memcpy(padded, p, (size_t)n * sizeof(real));
    return widen(padded);
}

INLINE doubles widen_at(const real *p, int64_t left) { return left < DOUBLES ? widen_part(p, left) : widen(p); }

INLINE double sum_doubles(doubles v)
{
    double sum = 0;
    for (int l = 0; l < DOUBLES; l++) sum += v[l];
    return sum;
}
