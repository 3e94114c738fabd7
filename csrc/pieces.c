/* pieces.c: rows of S'J in factors, and their products with vectors, block by block; J is never made.
 *
 * Row (m, r) of S'J is, layer by layer, the outer product of (a_m, 1), the inputs of the layer, and delta_mr. A block of
 * parameters cuts a layer into at most three pieces that are outer products again.
 */

enum { MOST_PIECES = 3 * DNN_MAX_LAYERS };

/* Weights (i, j) of one layer, i0 <= i < i1, j0 <= j < j1, and biases j if `bias`. */
typedef struct {
    int64_t layer, start, d, h, i0, i1, j0, j1; /* start: the layer's first parameter; d, h: its sizes */
    int bias;
} piece;

/* The pieces of parameters lo .. hi - 1 in order; returns how many. */
static int cut_pieces(piece *p, const dnn_mlp *mlp, int64_t lo, int64_t hi)
{
    int n = 0;
    for (int64_t u = 0; u < mlp->n_layers; u++) {
        part q = part_of(mlp, u, lo, hi);
        int64_t d = mlp->layers[u], h = q.h;
        for (int64_t at = q.lo; at < q.hi;) {
            int64_t i = at / h, j = at % h, whole = j == 0 ? (q.hi - at) / h : 0;
            int64_t end = whole ? i + whole : i + 1, stop = whole ? h : min_index(h, j + q.hi - at);
            p[n++] = (piece){u, q.start, d, h, min_index(i, d), min_index(end, d), j, stop, end == d + 1};
            at += whole ? whole * h : stop - j;
        }
    }
    return n;
}

/* The rows of n samples: inputs (n, layers[u]) and deltas (n R, layers[u + 1]) of every layer. */
typedef struct {
    const dnn_blas *blas;
    const real *input[DNN_MAX_LAYERS], *delta[DNN_MAX_LAYERS];
    int64_t n, columns;
    real *along; /* (n, widest layer) */
} row_factors;

INLINE const real *piece_inputs(const row_factors *f, const piece *p) { return f->input[p->layer] + p->i0; }

/* c = K_b v over the pieces of block b, K = S'J. Shapes: c (n R), v (P). Aliasing: none. Serial. */
static void rows_times(const row_factors *f, const piece *p, int count, const real *v, real *c)
{
    memset(c, 0, (size_t)(f->n * f->columns) * sizeof(real));
    for (; count-- > 0; p++) {
        int64_t width = p->j1 - p->j0, inputs = p->i1 - p->i0;
        const real *bias = v + p->start + p->d * p->h + p->j0, *delta = f->delta[p->layer] + p->j0;
        if (p->bias)
            for (int64_t m = 0; m < f->n; m++) memcpy(f->along + m * width, bias, (size_t)width * sizeof(real));
        if (inputs)
            gemm(f->blas, 'N', 'N', width, f->n, inputs, v + p->start + p->i0 * p->h + p->j0, p->h, piece_inputs(f, p),
                p->d, p->bias, f->along, width);
        for (int64_t m = 0; m < f->n; m++)
            for (int64_t r = 0; r < f->columns; r++, delta += p->h)
                c[m * f->columns + r] += dot(delta, f->along + m * width, width);
    }
}

/* v += scale K_b' c over the pieces: scale[u] for the weights of layer u, the last one for biases; NULL for ones.
 * Shapes: c (n R), v (P), scale (n_layers + 1). Aliasing: none. Serial. */
static void rows_adjoint(
    const row_factors *f, const piece *p, int count, const real *c, const real *scale, int64_t n_layers, real *v)
{
    for (; count-- > 0; p++) {
        int64_t width = p->j1 - p->j0, inputs = p->i1 - p->i0;
        real *bias = v + p->start + p->d * p->h + p->j0;
        const real *delta = f->delta[p->layer] + p->j0;
        for (int64_t m = 0; m < f->n; m++) {
            real *row = f->along + m * width;
            memset(row, 0, (size_t)width * sizeof(real));
            for (int64_t r = 0; r < f->columns; r++, delta += p->h) axpy(row, c[m * f->columns + r], delta, width);
            if (p->bias) axpy(bias, scale ? scale[n_layers] : 1, row, width);
            for (int64_t e = 0; e < width && scale; e++) row[e] *= scale[p->layer];
        }
        if (inputs)
            gemm(f->blas, 'N', 'T', width, inputs, f->n, f->along, width, piece_inputs(f, p), p->d, 1,
                v + p->start + p->i0 * p->h + p->j0, p->h);
    }
}
