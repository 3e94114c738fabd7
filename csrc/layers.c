/* layers.c: the layers of a chain on chunks of samples, with the tiles of tile.c.
 *
 * A chunk stands transposed, as in gradient.c: a row for each number of a state, a column for each sample, so that
 * vectors run along samples whatever the layer. K directions of every sample stand beside the values as K further
 * groups of columns, and every linear map takes all groups in one product. A convolution is a product with the patches
 * of an image; a patch is a list of rows, so patches are addressed and never copied. Zeros around an image are a border
 * of rows that stay zero.
 */

typedef struct { /* where the rows of one state stand: (channels, height, width) inside a border */
    int64_t channels, height, width, low[2], pitch, plane, rows;
} field;

INLINE int64_t place_of(const field *f, int64_t channel, int64_t y, int64_t x)
{
    return channel * f->plane + (y + f->low[0]) * f->pitch + x + f->low[1];
}

/* Whether no border parts the rows. */
INLINE int is_dense(const field *f) { return f->rows == f->channels * f->height * f->width; }

/* The row of number i of a state. */
INLINE int64_t row_of(const field *f, int64_t i)
{
    int64_t area = f->height * f->width;
    return place_of(f, i / area, i % area / f->width, i % f->width);
}

static field make_field(int64_t channels, const int64_t shape[2], const int64_t low[2], const int64_t high[2])
{
    field f = {channels, shape[0], shape[1], {low[0], low[1]}, shape[1] + low[1] + high[1], 0, 0};
    f.plane = (shape[0] + low[0] + high[0]) * f.pitch;
    f.rows = channels * f.plane;
    return f;
}

INLINE int has_weights(const dnn_layer *l) { return l->kind == DNN_DENSE || l->kind == DNN_CONV; }

/* Numbers that one output of a dense layer or convolution sums over. */
INLINE int64_t terms_of(const dnn_layer *l)
{
    return l->kind == DNN_CONV ? l->channels * l->size[0] * l->size[1] : l->kind == DNN_DENSE ? l->channels : 0;
}

/* Backwards, the pixels of an image fall into classes, by the remainder of y + padding on division by the stride: all of
 * a class see the same entries p of a filter, at the distance shift = (remainder - p dilation) / stride. */
INLINE int class_sees(const dnn_layer *l, int axis, int64_t remainder, int64_t p)
{
    return (remainder + l->padding[axis] - p * l->dilation[axis]) % l->stride[axis] == 0;
}

INLINE int64_t shift_of(const dnn_layer *l, int axis, int64_t remainder, int64_t p)
{
    return (remainder + l->padding[axis] - p * l->dilation[axis]) / l->stride[axis];
}

/* Zeros that the deltas of a convolution need around them, so that no shift leaves the image. */
static void delta_border(const dnn_layer *l, const int64_t out[2], int64_t low[2], int64_t high[2])
{
    const int64_t shape[2] = {l->height, l->width};
    for (int axis = 0; axis < 2; axis++) {
        low[axis] = high[axis] = 0;
        for (int64_t c = 0; c < min_index(l->stride[axis], shape[axis]); c++)
            for (int64_t p = 0; p < l->size[axis]; p++) {
                if (!class_sees(l, axis, c, p)) continue;
                int64_t shift = shift_of(l, axis, c, p), last = (shape[axis] - 1 - c) / l->stride[axis];
                low[axis] = max_index(low[axis], -shift);
                high[axis] = max_index(high[axis], last + shift - (out[axis] - 1));
            }
    }
}

/* c[r, v] = (start) + sum_k a[k R + r] b[places[k], v]: tile_product on rows that are listed. A bias is one of column v's
 * own: bias[v][r]. */
INLINE void tile_listed(const int R, const int V, real *c, int64_t ldc, const real *const *bias, int keep,
    const real *a, const int64_t *places, const real *b, int64_t n)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) sum[r][v] =
        bias   ? splat(bias[v][r])
        : keep ? load(c + r * ldc + v * LANES)
               : (vector){0};
    for (int64_t k = 0; k < n; k++, a += R) {
        const real *row = b + places[k];
        vector right[TILE_VECTORS];
        UNROLLED for (int v = 0; v < V; v++) right[v] = load(row + v * LANES);
        UNROLLED for (int r = 0; r < R; r++)
        {
            vector left = splat(a[r]);
            UNROLLED for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
        }
    }
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) store(c + r * ldc + v * LANES, sum[r][v]);
}

typedef struct { /* the start of the sums: of the values, of the groups beside them (NULL for 0); vectors of both */
    const real *values, *others;
    int64_t wide, period;
} bias_of;

static const real no_bias[TILE_ROWS]; /* zeros */

/* C (rows, columns) = bias or C or 0, + A (rows, n) B (n, columns), A packed, row k of B at b + places[k]; columns in
 * whole vectors. Shapes: row length ldc of C. Aliasing: none. Serial. */
INLINE void listed_product(real *c, int64_t ldc, const bias_of *bias, int keep, const real *a, const int64_t *places,
    const real *b, int64_t rows, int64_t n, int64_t columns)
{
    int64_t wide = columns / LANES, vectors, count;
    if (n == 0 && !keep)
        for (int64_t j = 0; j < rows; j++) memset(c + j * ldc, 0, (size_t)columns * sizeof(real));
    for (; n > 0; n -= TILE_DEPTH, a += rows * TILE_DEPTH, places += TILE_DEPTH, bias = NULL, keep = 1)
        for (int64_t s = 0, depth = min_index(n, TILE_DEPTH); s < wide; s += vectors) {
            const real *own[TILE_VECTORS] = {NULL}, *start[TILE_VECTORS] = {NULL};
            vectors = min_index(TILE_VECTORS, wide - s);
            for (int64_t v = 0; bias && v < vectors; v++)
                own[v] =
                    bias->wide == bias->period || (s + v) % bias->period < bias->wide ? bias->values : bias->others;
            for (int64_t j = 0; j < rows; j += count) {
                count = tile_rows(rows - j);
                for (int64_t v = 0; v < TILE_VECTORS; v++) start[v] = own[v] ? own[v] + j : no_bias;
                TILE_OF(tile_listed, count, vectors, c + j * ldc + s * LANES, ldc, bias ? start : NULL, keep,
                    a + j * depth, places, b + s * LANES, depth)
            }
        }
}

/* c[r, v] = (c or 0) + sum over pixels and samples of a[r, :] b[places[v], :], lane by lane: c[r, v] is a vector. */
INLINE void tile_correlation(const int R, const int V, real *c, int64_t ldc, int keep, const real *a, int64_t lda,
    int64_t a_step, const real *b, const int64_t *places, int64_t b_step, int64_t pixels, int64_t n)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) sum[r][v] =
        keep ? load(c + (r * ldc + v) * LANES) : (vector){0};
    for (int64_t k = 0; k < pixels; k++, a += a_step, b += b_step)
        for (int64_t m = 0; m < n; m += LANES) {
            vector right[TILE_VECTORS];
            UNROLLED for (int v = 0; v < V; v++) right[v] = load(b + places[v] + m);
            UNROLLED for (int r = 0; r < R; r++)
            {
                vector left = load(a + r * lda + m);
                UNROLLED for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
            }
        }
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++)
        store(c + (r * ldc + v) * LANES, sum[r][v]);
}

/* A (rows, n) as listed_product takes it, A[r, k] = w[r across + index[k]]. Shapes: out (rows n). Serial. */
static void pack_listed(
    real *restrict out, const real *restrict w, int64_t rows, int64_t n, int64_t across, const int64_t *index)
{
    int64_t count;
    for (int64_t start = 0; start < n; start += TILE_DEPTH)
        for (int64_t j = 0; j < rows; j += count) {
            count = tile_rows(rows - j);
            for (int64_t k = start; k < min_index(n, start + TILE_DEPTH); k++)
                for (int64_t r = 0; r < count; r++) *out++ = w[(j + r) * across + index[k]];
        }
}

/* Pixels whose rows are side by side, so that one product takes them all: a whole line where no gap parts them. */
INLINE int64_t side_by_side(int64_t stride, int64_t pixels, int64_t columns, int64_t ld)
{
    return stride == 1 && columns == ld ? pixels : 1;
}

/* Rows of z, of a dense layer: the bias in its place. Shapes: z (rows, columns), row length ld. Serial. */
static void fill_bias(real *z, const bias_of *bias, int64_t rows, int64_t columns, int64_t ld)
{
    int64_t width = bias->wide * LANES;
    for (int64_t r = 0; r < rows; r++, z += ld) {
        const real values = bias->values[r], others = bias->others ? bias->others[r] : 0;
        for (int64_t m = 0; m < width; m++) z[m] = values;
        for (int64_t m = width; m < columns; m++) z[m] = others;
    }
}

/* Line j of z_o,jk = (bias or z or 0) + <W_o, patch jk of a>. Shapes: a, z rows of length ld, `columns` of them taken. */
static void conv_forward(const dnn_layer *l, const field *in, const field *out, int64_t j, real *z, const bias_of *bias,
    int keep, const real *packed, const int64_t *places, const real *a, int64_t columns, int64_t ld)
{
    int64_t run = side_by_side(l->stride[1], out->width, columns, ld);
    for (int64_t k = 0; k < out->width; k += run) {
        const real *patch = a + ((j * l->stride[0]) * in->pitch + k * l->stride[1]) * ld;
        real *place = z + place_of(out, 0, j, k) * ld;
        listed_product(
            place, out->plane * ld, bias, keep, packed, places, patch, l->filters, terms_of(l), run * columns);
    }
}

/* h <- sum_jk kappa_jk* (dz_jk W), class by class. Shapes: dz (rows of `out`, ld), h (rows of `in`, ld). */
static void conv_state_adjoint(const dnn_layer *l, const field *in, const field *out, real *h, const real *packed,
    const int64_t *places, const int64_t *ends, const real *dz, int64_t columns, int64_t ld)
{
    int64_t start = 0, number = 0, run = side_by_side(l->stride[1], in->width, columns, ld);
    for (int64_t cy = 0; cy < l->stride[0]; cy++)
        for (int64_t cx = 0; cx < l->stride[1]; cx++, number++) {
            int64_t n = ends[number] - start;
            for (int64_t y = cy; y < in->height; y += l->stride[0])
                for (int64_t x = cx; x < in->width; x += l->stride[1] * run) {
                    const real *base = dz + place_of(out, 0, y / l->stride[0], x / l->stride[1]) * ld;
                    listed_product(h + place_of(in, 0, y, x) * ld, in->plane * ld, NULL, 0,
                        packed + start * l->channels, places + start, base, l->channels, n, run * columns);
                }
            start += n;
        }
}

enum { CORRELATION_BYTES = 1 << 15 }; /* of the deltas and states that the tiles of some filters read again and again */

/* sum (O, terms, LANES) = (sum or 0) + sum_k dz_jk (patch jk of a), lane by lane, over line j. */
static void conv_weight_adjoint(const dnn_layer *l, const field *in, const field *dfield, int64_t j, real *sum,
    int keep, const real *dz, const real *a, const int64_t *places, int64_t columns, int64_t ld)
{
    int64_t terms = terms_of(l), width = dfield->width, vectors, count, last;
    int64_t bytes = columns * (TILE_ROWS + TILE_VECTORS) * (int64_t)sizeof(real);
    int64_t piece = ceil_div(width, ceil_div(width * bytes, CORRELATION_BYTES)); /* pixels at a time */
    const real *right = a + j * l->stride[0] * in->pitch * ld;
    for (int64_t o = 0; o < l->filters; o += count) {
        count = tile_rows(l->filters - o);
        const real *left = dz + place_of(dfield, o, j, 0) * ld;
        for (int64_t k = 0; k < width; k = last) {
            last = min_index(width, k + piece);
            int64_t run = side_by_side(l->stride[1], last - k, columns, ld);
            for (int64_t s = 0; s < terms; s += vectors) {
                vectors = min_index(TILE_VECTORS, terms - s);
                TILE_OF(tile_correlation, count, vectors, sum + (o * terms + s) * LANES, terms, keep || k,
                    left + k * ld, dfield->plane * ld, ld, right + k * l->stride[1] * ld, places + s, l->stride[1] * ld,
                    (last - k) / run, run * columns)
            }
        }
    }
}

/* The mean of every window, of all columns. */
static void average_forward(const dnn_layer *l, const field *in, const field *out, real *restrict z,
    const real *restrict a, int64_t columns, int64_t ld)
{
    const real share = (real)1 / (real)(l->size[0] * l->size[1]);
    for (int64_t c = 0; c < out->channels; c++)
        for (int64_t j = 0; j < out->height; j++)
            for (int64_t k = 0; k < out->width; k++) {
                real *mean = z + place_of(out, c, j, k) * ld;
                for (int64_t p = 0; p < l->size[0] * l->size[1]; p++) {
                    int64_t y = j * l->stride[0] + p / l->size[1], x = k * l->stride[1] + p % l->size[1];
                    const real *row = a + place_of(in, c, y, x) * ld;
                    if (p == 0)
                        memcpy(mean, row, (size_t)columns * sizeof(real));
                    else
                        for (int64_t m = 0; m < columns; m++) mean[m] += row[m];
                }
                for (int64_t m = 0; m < columns; m++) mean[m] *= share;
            }
}

/* h += the adjoint of average_forward. */
static void average_adjoint(const dnn_layer *l, const field *in, const field *out, real *restrict h,
    const real *restrict dz, int64_t columns, int64_t ld)
{
    const real share = (real)1 / (real)(l->size[0] * l->size[1]);
    for (int64_t c = 0; c < out->channels; c++)
        for (int64_t j = 0; j < out->height; j++)
            for (int64_t k = 0; k < out->width; k++)
                for (int64_t p = 0; p < l->size[0] * l->size[1]; p++) {
                    int64_t y = j * l->stride[0] + p / l->size[1], x = k * l->stride[1] + p % l->size[1];
                    axpy(h + place_of(in, c, y, x) * ld, share, dz + place_of(out, c, j, k) * ld, columns);
                }
}

/* The largest value of every window, the first of equal ones, and what stands at its place in the other groups. */
static void max_forward(const dnn_layer *l, const field *in, const field *out, real *restrict z, const real *restrict a,
    int64_t width, int64_t groups, int64_t ld)
{
    for (int64_t c = 0; c < out->channels; c++)
        for (int64_t j = 0; j < out->height; j++)
            for (int64_t k = 0; k < out->width; k++) {
                real *best = z + place_of(out, c, j, k) * ld;
                for (int64_t p = 0; p < l->size[0] * l->size[1]; p++) {
                    int64_t y = j * l->stride[0] + p / l->size[1], x = k * l->stride[1] + p % l->size[1];
                    const real *row = a + place_of(in, c, y, x) * ld;
                    if (p == 0) {
                        memcpy(best, row, (size_t)(width * groups) * sizeof(real));
                        continue;
                    }
                    for (int64_t g = groups; g-- > 1;)
                        for (int64_t m = 0; m < width; m++)
                            best[g * width + m] = row[m] > best[m] ? row[g * width + m] : best[g * width + m];
                    for (int64_t m = 0; m < width; m++)
                        best[m] = row[m] > best[m] || row[m] != row[m] ? row[m] : best[m];
                }
            }
}

/* h += dz at the places that max_forward chose. Shapes: free (width), scratch. */
static void max_adjoint(const dnn_layer *l, const field *in, const field *out, const field *h_field,
    const field *dz_field, real *restrict h, const real *restrict dz, const real *restrict z, const real *restrict a,
    real *restrict free, int64_t width, int64_t groups, int64_t ld)
{
    for (int64_t c = 0; c < out->channels; c++)
        for (int64_t j = 0; j < out->height; j++)
            for (int64_t k = 0; k < out->width; k++) {
                const real *best = z + place_of(out, c, j, k) * ld, *delta = dz + place_of(dz_field, c, j, k) * ld;
                for (int64_t m = 0; m < width; m++) free[m] = 1;
                for (int64_t p = 0; p < l->size[0] * l->size[1]; p++) {
                    int64_t y = j * l->stride[0] + p / l->size[1], x = k * l->stride[1] + p % l->size[1];
                    const real *row = a + place_of(in, c, y, x) * ld;
                    real *place = h + place_of(h_field, c, y, x) * ld;
                    for (int64_t g = 0; g < groups; g++)
                        for (int64_t m = 0; m < width; m++)
                            place[g * width + m] += row[m] == best[m] ? free[m] * delta[g * width + m] : 0;
                    for (int64_t m = 0; m < width; m++) free[m] = row[m] == best[m] ? 0 : free[m];
                }
            }
}

/* to <- (to or 0) + from, states of one size in different fields. */
static void add_state(
    const field *to_field, const field *from_field, real *to, const real *from, int keep, int64_t columns, int64_t ld)
{
    for (int64_t i = 0; i < to_field->channels * to_field->height * to_field->width; i++) {
        real *row = to + row_of(to_field, i) * ld;
        const real *other = from + row_of(from_field, i) * ld;
        for (int64_t m = 0; m < columns; m++) row[m] = keep ? row[m] + other[m] : other[m];
    }
}

/* psi of the values, psi' times the tangents beside them. Shapes: `pixels` pieces of length ld, each of `groups` pieces
 * of length n, in whole vectors, the first of them the values. Aliasing: none. Serial. */
static void activate_groups(real *a, int64_t pixels, int64_t n, int64_t groups, int64_t ld, int activation)
{
#define GROUPS_CASE(NAME, VALUE, SLOPE, BEND)                                                                          \
    case NAME:                                                                                                         \
        for (int64_t x = 0; x < pixels; x++)                                                                           \
            for (int64_t m = 0; m < n; m += LANES) {                                                                   \
                real *values = a + x * ld + m, old[LANES], slope[LANES];                                               \
                memcpy(old, values, sizeof old);                                                                       \
                activate_in_place(values, 1, LANES, LANES, NAME);                                                      \
                for (int64_t i = 0; i < LANES; i++) {                                                                  \
                    real before = old[i], after = values[i];                                                           \
                    (void)before, (void)after, slope[i] = SLOPE;                                                       \
                }                                                                                                      \
                for (int64_t g = 1; g < groups; g++)                                                                   \
                    for (int64_t i = 0; i < LANES; i++) values[g * n + i] *= slope[i];                                 \
            }                                                                                                          \
        break;
    switch (activation) {
        ACTIVATION_TABLE(GROUPS_CASE, before, after)
    default:
        break;
    }
#undef GROUPS_CASE
}

/* The activations, psi'(z) and rho = psi''(z) / psi'(z), both by a = psi(z). */
#define RATIO_TABLE(ROW, a)                                                                                            \
    ROW(DNN_TANH, 1 - (a) * (a), -2 * (a))                                                                             \
    ROW(DNN_LOGISTIC, (a) * (1 - (a)), 1 - 2 * (a))                                                                    \
    ROW(DNN_RELU, (a) > 0 ? 1 : 0, 0)                                                                                  \
    ROW(DNN_SOFTPLUS, -expm1_negative(-(a)), exp_negative(-(a)))

/* h <- psi'(z) h + rho sum_g v_g t_g, then t_g <- psi'(z) t_g, with v_g the tangent behind the layer. Shapes: `pixels`
 * pieces of length ld, each of `groups` pieces of length n, in whole vectors, the first of delta is h, the others t_g;
 * of a it is psi(z), the others v_g. Aliasing: none. Serial. */
static void both_slopes(
    real *restrict delta, const real *restrict a, int64_t pixels, int64_t n, int64_t groups, int64_t ld, int activation)
{
#define RATIO_CASE(NAME, SLOPE, RATIO)                                                                                 \
    case NAME:                                                                                                         \
        for (int64_t x = 0; x < pixels; x++)                                                                           \
            for (int64_t m = 0; m < n; m += LANES) {                                                                   \
                const real *values = a + x * ld + m;                                                                   \
                real *h = delta + x * ld + m, slope[LANES], ratio[LANES], sum[LANES];                                  \
                for (int64_t i = 0; i < LANES; i++) {                                                                  \
                    real value = values[i];                                                                            \
                    slope[i] = SLOPE, ratio[i] = RATIO, sum[i] = slope[i] * h[i];                                      \
                }                                                                                                      \
                for (int64_t g = 1; g < groups; g++)                                                                   \
                    for (int64_t i = 0; i < LANES; i++) {                                                              \
                        real t = h[g * n + i];                                                                         \
                        sum[i] += ratio[i] * values[g * n + i] * t;                                                    \
                        h[g * n + i] = slope[i] * t;                                                                   \
                    }                                                                                                  \
                for (int64_t i = 0; i < LANES; i++) h[i] = sum[i];                                                     \
            }                                                                                                          \
        break;
    switch (activation) {
        RATIO_TABLE(RATIO_CASE, value)
    default:
        break;
    }
#undef RATIO_CASE
}
