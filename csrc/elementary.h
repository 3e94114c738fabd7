/* elementary.h: exp, expm1, log1p, tanh, activations; one polynomial core, loops that the compiler vectorises.
 *
 * For x <= 0 split x = k log 2 + r, |r| <= log(2) / 2: e^x = 2^k + 2^k p, p = expm1(r) = r + r^2/2 + r^3 q(r).
 * NaN gives NaN. exp is 0 where its value would be subnormal (x < EXP_LOWEST), also at -inf; expm1 is -1 there.
 * tanh and expm1 keep the sign of zero and pass subnormals through. Errors, held by tests against extended precision:
 * exp, expm1, log1p <= 2 ulp, tanh, logistic, softplus <= 3 ulp; over all floats tanh 2.50 ulp (with AVX-512 1.88: see
 * tanh_table.h), logistic 1.50 ulp where exp is not 0.
 */

#if DNN_DOUBLE
#define ROUNDER 0x1.8p52
#define EXPONENT_SHIFT 52
#define EXPONENT_BIAS 1023
#define LOG2_E 0x1.71547652b82fep0
#define LOG_2_HIGH 0x1.62e42feep-1
#define LOG_2_LOW 0x1.a39ef35793c76p-33
#define EXP_LOWEST -708.3964185322641
#else
#define ROUNDER 0x1.8p23f
#define EXPONENT_SHIFT 23
#define EXPONENT_BIAS 127
#define LOG2_E 0x1.715476p0f
#define LOG_2_HIGH 0x1.63p-1f
#define LOG_2_LOW -0x1.bd0106p-13f
#define EXP_LOWEST -87.33654f
#endif

/* q(r) of expm1: Chebyshev interpolation on |r| <= log(2) / 2, relative error of p 1e-18 and 1e-9. */
INLINE real expm1_tail(real r)
{
#if DNN_DOUBLE
    real q = 0x1.1f665127b8915p-29;
    q = q * r + 0x1.af38ae111235ap-26;
    q = q * r + 0x1.27e4e23d1920cp-22;
    q = q * r + 0x1.71de0dacc87d4p-19;
    q = q * r + 0x1.a01a01a463977p-16;
    q = q * r + 0x1.a01a01a7c4704p-13;
    q = q * r + 0x1.6c16c16c16807p-10;
    q = q * r + 0x1.11111111109b3p-7;
    q = q * r + 0x1.5555555555555p-5;
    return q * r + 0x1.5555555555556p-3;
#else
    real q = 0x1.a0f876p-13f;
    q = q * r + 0x1.6d1114p-10f;
    q = q * r + 0x1.1110f6p-7f;
    q = q * r + 0x1.555518p-5f;
    return q * r + 0x1.555556p-3f;
#endif
}

/* 2^k and p of x in [EXP_LOWEST, 0]. */
INLINE real exp_parts(real x, real *p)
{
    real shifted = x * (real)LOG2_E + (real)ROUNDER, scale;
    real k = shifted - (real)ROUNDER;
    real r = x - k * (real)LOG_2_HIGH;
    r -= k * (real)LOG_2_LOW;
    *p = r + r * r * ((real)0.5 + r * expm1_tail(r));
    real_bits bits;
    memcpy(&bits, &shifted, sizeof bits);
#if DNN_DOUBLE
    bits = (real_bits)(((uint64_t)bits << EXPONENT_SHIFT) + ((uint64_t)EXPONENT_BIAS << EXPONENT_SHIFT));
#else
    bits = (real_bits)(((uint32_t)bits << EXPONENT_SHIFT) + ((uint32_t)EXPONENT_BIAS << EXPONENT_SHIFT));
#endif
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* e^x, x <= 0. */
INLINE real exp_negative(real x)
{
    real inside = x < (real)EXP_LOWEST ? (real)EXP_LOWEST : x, p;
    real scale = exp_parts(inside, &p);
    real value = scale * p + scale;
    return x < (real)EXP_LOWEST ? 0 : value;
}

/* e^x - 1, x <= 0. */
INLINE real expm1_negative(real x)
{
    real inside = x < -45 ? -45 : x, p;
    real scale = exp_parts(inside, &p);
    return scale * p + (scale - 1);
}

/* log(1 + e), 0 <= e <= 1: 2 atanh(s), s = e / (2 + e) <= 1/3; relative error of the series 5e-18 and 4e-10. */
INLINE real log1p_unit(real e)
{
    real s = e / (2 + e), z = s * s;
#if DNN_DOUBLE
    real g = 0x1.4b0a9f6ed088fp-4;
    g = g * z + 0x1.6879f2ae14707p-5;
    g = g * z + 0x1.eb9079910c8b0p-5;
    g = g * z + 0x1.10ac7439cc4c8p-4;
    g = g * z + 0x1.3b18b2b32c3ccp-4;
    g = g * z + 0x1.745cf0af86e7bp-4;
    g = g * z + 0x1.c71c72714c357p-4;
    g = g * z + 0x1.24924923d43c5p-3;
    g = g * z + 0x1.999999999a3dep-3;
    g = g * z + 0x1.5555555555555p-2;
#else
    real g = 0x1.dba25ep-4f;
    g = g * z + 0x1.bc8cf8p-4f;
    g = g * z + 0x1.24c926p-3f;
    g = g * z + 0x1.9998d4p-3f;
    g = g * z + 0x1.555556p-2f;
#endif
    return 2 * (s + s * z * g);
}

#if DNN_DOUBLE
INLINE real magnitude(real x) { return fabs(x); }
INLINE real with_sign(real x, real sign) { return copysign(x, sign); }
INLINE real square_root(real x) { return sqrt(x); }
#else
INLINE real magnitude(real x) { return fabsf(x); }
INLINE real with_sign(real x, real sign) { return copysignf(x, sign); }
INLINE real square_root(real x) { return sqrtf(x); }
#endif

INLINE real tanh_one(real z)
{
    real t = expm1_negative(-2 * magnitude(z));
    return with_sign(t / (t + 2), z);
}

INLINE real logistic_one(real z)
{
    real e = exp_negative(-magnitude(z));
    return (z >= 0 ? 1 : e) / (1 + e);
}

INLINE real softplus_one(real z) { return (z > 0 ? z : 0) + log1p_unit(exp_negative(-magnitude(z))); }

#if !DNN_DOUBLE && DNN_LEVEL == 2
#define TANH_BY_VECTORS 1
#include "tanh_table.h"
#else
#define TANH_BY_VECTORS 0
#endif

/* The activations: name, phi(z), then phi' and phi'' by z and a = phi(z). NaN stays NaN. */
#define ACTIVATION_TABLE(ROW, z, a)                                                                                    \
    ROW(DNN_TANH, tanh_one(z), 1 - (a) * (a), -2 * (a) * (1 - (a) * (a)))                                              \
    ROW(DNN_LOGISTIC, logistic_one(z), (a) * (1 - (a)), (a) * (1 - (a)) * (1 - 2 * (a)))                               \
    ROW(DNN_RELU, (z) <= 0 ? 0 : (z), (a) > 0 ? 1 : 0, 0)                                                              \
    ROW(DNN_SOFTPLUS, softplus_one(z), -expm1_negative(-(a)), -expm1_negative(-(a)) * exp_negative(-(a)))              \
    ROW(DNN_SQUARE, (z) * (z), 2 * (z), 2)

/* Whether phi' needs z itself: then z is kept beside a = phi(z), else a takes its place. */
INLINE int keeps_z(int activation) { return activation == DNN_SQUARE; }

/* a <- phi(a), every element alike wherever it stands. Shapes: (rows, n), rows of length ld. Serial. */
INLINE void activate_in_place(real *a, int64_t rows, int64_t n, int64_t ld, int activation)
{
#if TANH_BY_VECTORS
    if (activation == DNN_TANH) {
        tanh_in_place(a, rows, n, ld);
        return;
    }
#endif
    switch (activation) {
#define VALUE_CASE(NAME, VALUE, SLOPE, BEND)                                                                           \
    case NAME:                                                                                                         \
        for (int64_t j = 0; j < rows; j++, a += ld)                                                                    \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                real before = a[i];                                                                                    \
                a[i] = VALUE;                                                                                          \
            }                                                                                                          \
        break;
        ACTIVATION_TABLE(VALUE_CASE, before, before)
    default: /* the identity */
        break;
    }
}

/* a = phi(z). Shapes: (rows, n), rows of length ld. Aliasing: z is a, or z and a share nothing if keeps_z(activation).
 * Serial. */
static void activate_rows(real *a, const real *z, int64_t rows, int64_t n, int64_t ld, int activation)
{
    if (n == ld) n *= rows, rows = 1;
    for (int64_t j = 0; j < rows && keeps_z(activation); j++) memcpy(a + j * ld, z + j * ld, (size_t)n * sizeof(real));
    activate_in_place(a, rows, n, ld, activation);
}

/* The same of one row. */
static void activate(real *a, const real *z, int64_t n, int activation) { activate_rows(a, z, 1, n, n, activation); }

/* delta <- delta phi'(z). Shapes: (n), (n), (n). Aliasing: delta is neither z nor a. Serial. */
static void times_slope(real *restrict delta, const real *z, const real *a, int64_t n, int activation)
{
    switch (activation) {
#define SLOPE_CASE(NAME, VALUE, SLOPE, BEND)                                                                           \
    case NAME:                                                                                                         \
        for (int64_t i = 0; i < n; i++) delta[i] *= (SLOPE);                                                           \
        break;
        ACTIVATION_TABLE(SLOPE_CASE, z[i], a[i])
    default:
        break;
    }
}

/* delta <- delta phi''(z). Shapes: (n), (n), (n). Aliasing: delta is neither z nor a. Serial. */
INLINE void times_bend(real *restrict delta, const real *z, const real *a, int64_t n, int activation)
{
    (void)z; /* no table row needs it today */
    switch (activation) {
#define BEND_CASE(NAME, VALUE, SLOPE, BEND)                                                                            \
    case NAME:                                                                                                         \
        for (int64_t i = 0; i < n; i++) delta[i] *= (BEND);                                                            \
        break;
        ACTIVATION_TABLE(BEND_CASE, z[i], a[i])
    default:
        memset(delta, 0, (size_t)n * sizeof(real));
    }
}
