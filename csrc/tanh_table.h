/* tanh_table.h: tanh in single precision with AVX-512, in 32 pieces and without a division.
 *
 * |z| = k h + t, |t| <= h / 2, h = 147 / 512: tanh |z| = c_0k + t (c_1k + ... + t c_5k), coefficients of least relative
 * error, rounded to float one after another. In piece 0 c_0 = 0 and c_1 = 1: small z stay what they are. In piece 31 tanh
 * becomes 1, at z = 9.01. Two registers hold one coefficient of all pieces, and one instruction picks those of a vector.
 * Error over all floats: at most 1.88 ulp (piece 1), 1.13 ulp in the other pieces.
 */

#define TANH_STEP (147 / 512.0f)
#define TANH_LAST 9.03f

enum { TANH_TERMS = 6, TANH_PIECES = 32 };

/* c_jk in row j. */
static const real tanh_table[TANH_TERMS][TANH_PIECES] __attribute__((aligned(64))) = {
    {0, 0x1.1e2dfp-2f, 0x1.097262p-1f, 0x1.64d57ep-1f, 0x1.a26cbap-1f, 0x1.c91cc8p-1f, 0x1.e05966p-1f, 0x1.edee9cp-1f,
        0x1.f5bfp-1f, 0x1.fa334p-1f, 0x1.fcb9ccp-1f, 0x1.fe275p-1f, 0x1.fef59ap-1f, 0x1.ff69eap-1f, 0x1.ffab74p-1f,
        0x1.ffd062p-1f, 0x1.ffe52ep-1f, 0x1.fff0e6p-1f, 0x1.fff77ep-1f, 0x1.fffb36p-1f, 0x1.fffd4ep-1f, 0x1.fffe7cp-1f,
        0x1.ffff26p-1f, 0x1.ffff84p-1f, 0x1.ffffbap-1f, 0x1.ffffd8p-1f, 0x1.ffffeap-1f, 0x1.fffff4p-1f, 0x1.fffffap-1f,
        0x1.fffffcp-1f, 0x1.fffffep-1f, 0x1.fffffep-1f},
    {1, 0x1.d802b4p-1f, 0x1.7660fep-1f, 0x1.074ec4p-1f, 0x1.5418bep-2f, 0x1.9f9072p-3f, 0x1.eac27ap-4f, 0x1.1bfc72p-4f,
        0x1.44d6c8p-5f, 0x1.7115bp-6f, 0x1.a1c2ccp-7f, 0x1.d7d64p-8f, 0x1.0a21aep-8f, 0x1.2c01e8p-9f, 0x1.521072p-10f,
        0x1.7cdd9p-11f, 0x1.ad0864p-12f, 0x1.e3421cp-13f, 0x1.102872p-13f, 0x1.32898ep-14f, 0x1.594156p-15f,
        0x1.84dc5cp-16f, 0x1.b5f8d2p-17f, 0x1.ed48d6p-18f, 0x1.15ca7ep-18f, 0x1.38df9p-19f, 0x1.6062d4p-20f,
        0x1.8ce384p-21f, 0x1.bf02fap-22f, 0x1.f776e6p-23f, 0x1.1b85f8p-23f, 0x1.421f6p-23f},
    {0x1.4ce34cp-21f, -0x1.07d04p-2f, -0x1.842f98p-2f, -0x1.6f051cp-2f, -0x1.15eeeep-2f, -0x1.730312p-3f,
        -0x1.cc61c2p-4f, -0x1.11f5a2p-4f, -0x1.3e457cp-5f, -0x1.6cd1e4p-6f, -0x1.9efaf8p-7f, -0x1.d6775cp-8f,
        -0x1.0a523ep-8f, -0x1.2d142ap-9f, -0x1.4f2312p-10f, -0x1.7c2ec6p-11f, -0x1.a3b852p-12f, -0x1.ea15f4p-13f,
        -0x1.00432p-13f, -0x1.3ab7a6p-14f, -0x1.8aa376p-15f, -0x1.14c9fep-15f, -0x1.974fdep-16f, 0x1.8daccap-22f,
        0x1.1f965p-19f, 0x1.05d7f6p-17f, -0x1.aa164ap-20f, -0x1.651f76p-18f, -0x1.85d0c8p-17f, 0x1.196e54p-21f,
        -0x1.5a0ec6p-19f, 0x1.5cf752p-20f},
    {-0x1.555f74p-2f, -0x1.e20246p-3f, -0x1.82b8aep-5f, 0x1.40ff14p-4f, 0x1.c721ep-4f, 0x1.817388p-4f, 0x1.0c61b6p-4f,
        0x1.53449ep-5f, 0x1.975baap-6f, 0x1.db7c7ep-7f, 0x1.112ee8p-7f, 0x1.3728aap-8f, 0x1.60abfep-9f, 0x1.8ea0bcp-10f,
        0x1.c1e38p-11f, 0x1.fb438ep-12f, 0x1.1dd9b2p-12f, 0x1.420f18p-13f, 0x1.6acf38p-14f, 0x1.98abccp-15f,
        0x1.cc4f6cp-16f, 0x1.0339f6p-16f, 0x1.23f832p-17f, 0x1.48daccp-18f, 0x1.72630ep-19f, 0x1.a12b1p-20f,
        0x1.d5d74ep-21f, 0x1.08972p-21f, 0x1.2a0038p-22f, 0x1.4fa428p-23f, 0x1.7a07fcp-24f, 0},
    {0x1.75ca2p-11f, 0x1.3251a2p-3f, 0x1.32c252p-3f, 0x1.0aa218p-4f, -0x1.e5b9f8p-13f, -0x1.81264p-6f, -0x1.902e06p-6f,
        -0x1.2258ecp-6f, -0x1.82734ep-7f, -0x1.d6cb66p-8f, -0x1.154e1p-8f, -0x1.136b44p-9f, -0x1.a2cc1ep-11f,
        -0x1.f0c26p-13f, -0x1.e6fe6p-11f, -0x1.329c0ep-12f, -0x1.26a714p-11f, 0x1.56eca2p-14f, -0x1.ad6288p-12f,
        0x1.25aeaap-14f, 0x1.1c21ecp-12f, 0x1.e9bbb8p-12f, 0x1.1a5052p-11f, -0x1.8a14e8p-12f, -0x1.400016p-12f,
        -0x1.015c1ap-11f, 0x1.aec986p-17f, 0x1.d031d6p-13f, 0x1.1beadp-11f, -0x1.346964p-15f, 0x1.efffe6p-14f, 0},
    {0x1.080efp-3f, 0x1.e2b494p-5f, -0x1.6f768ep-5f, -0x1.e78cep-5f, -0x1.e75866p-6f, -0x1.87d5b4p-8f, 0x1.a3492ep-9f,
        0x1.37e01ep-8f, 0x1.edf934p-9f, 0x1.4874c8p-9f, 0x1.937b3cp-10f, 0x1.de0d7p-11f, 0x1.155a58p-11f,
        0x1.3cc0b2p-12f, 0x1.6463dp-13f, 0x1.9557aap-14f, 0x1.c7baep-15f, 0x1.0238a2p-15f, 0x1.220ec6p-16f,
        0x1.47b0e2p-17f, 0x1.717a62p-18f, 0x1.a17a08p-19f, 0x1.d666dep-20f, 0x1.072c6cp-20f, 0x1.2897f4p-21f,
        0x1.4d664ep-22f, 0x1.798926p-23f, 0x1.a9090ap-24f, 0x1.e049dep-25f, 0x1.0d4ffep-25f, 0x1.2f3018p-26f, 0},
};

typedef struct {
    vector first[TANH_TERMS], second[TANH_TERMS]; /* of the pieces */
} tanh_registers;

INLINE tanh_registers load_tanh_table(void)
{
    tanh_registers c;
    for (int term = 0; term < TANH_TERMS; term++)
        c.first[term] = load(tanh_table[term]), c.second[term] = load(tanh_table[term] + LANES);
    return c;
}

/* Coefficient `term` of the pieces whose numbers are the low bits of `piece`. */
INLINE vector of_pieces(const tanh_registers *c, int term, vector piece)
{
    return (vector)_mm512_permutex2var_ps((__m512)c->first[term], (__m512i)piece, (__m512)c->second[term]);
}

/* tanh z. NaN stays; zeros keep their sign. */
INLINE vector tanh_vector(const tanh_registers *c, vector z)
{
    typedef real_bits lanes __attribute__((vector_size(VECTOR_BYTES), may_alias));
    const lanes sign = INT32_MIN - (lanes){0};
    const vector last = TANH_LAST - (vector){0};
    vector size = (vector)_mm512_min_ps((__m512)last, (__m512)(vector)((lanes)z & ~sign));
    vector piece = size * (1 / TANH_STEP) + (real)ROUNDER, t = size - (piece - (real)ROUNDER) * TANH_STEP;
    vector p = of_pieces(c, TANH_TERMS - 1, piece);
    for (int term = TANH_TERMS - 1; term-- > 0;) p = p * t + of_pieces(c, term, piece);
    return (vector)(((lanes)z & sign) | (lanes)p); /* p >= 0 */
}

/* a <- tanh a. Shapes: (rows, n), rows of length ld. Serial. */
static void tanh_in_place(real *a, int64_t rows, int64_t n, int64_t ld)
{
    const tanh_registers c = load_tanh_table();
    for (; rows-- > 0; a += ld) {
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES) store(a + i, tanh_vector(&c, load(a + i)));
        if (i < n) store_part(a + i, tanh_vector(&c, load_part(a + i, n - i)), n - i);
    }
}
