/* mix.c: neighbours' rows, weighted and added up; products are rounded before they are added, on every path. */

enum { MIX_VECTORS = 8, MIX_BAND = 4096 };

/* Column strip of `n` vectors, the last one cut to `last` elements if `part`:
 * out = scale sum_k data_k rows[indices_k] + shift row + memory previous, k in stored order, every column alike. */
INLINE void mix_strip(real *out, const real *rows, const dnn_csr *csr, int64_t i, const real *previous, real scale,
    real shift, real memory, int64_t stride, int n, int part, int64_t last)
{
    vector total[MIX_VECTORS];
    int64_t k = csr->indptr64 ? csr->indptr64[i] : csr->indptr32[i];
    int64_t stop = csr->indptr64 ? csr->indptr64[i + 1] : csr->indptr32[i + 1];
    for (int j = 0; j < n; j++) total[j] = (vector){0};
    for (; k < stop; k++) {
        int64_t column = csr->indices64 ? csr->indices64[k] : csr->indices32[k];
        const real *row = rows + column * stride;
        real weight = ((const real *)csr->data)[k];
        for (int j = 0; j < n; j++) {
            vector v = part && j == n - 1 ? load_part(row + j * LANES, last) : load(row + j * LANES);
            total[j] += rounded_product(weight, v);
        }
    }
    for (int j = 0; j < n; j++) {
        int cut = part && j == n - 1;
        const real *own = rows + i * stride + j * LANES;
        vector result = rounded_product(scale, total[j]);
        result += rounded_product(shift, cut ? load_part(own, last) : load(own));
        if (previous) {
            const real *past = previous + j * LANES;
            result += rounded_product(memory, cut ? load_part(past, last) : load(past));
        }
        if (cut)
            store_part(out + j * LANES, result, last);
        else
            store(out + j * LANES, result);
    }
}

/* One call of csr_mix. */
typedef struct {
    real *out;
    const real *rows, *previous;
    const dnn_csr *csr;
    real scale, shift, memory;
    int64_t columns;
} mixture;

/* Columns start .. stop - 1 of row i. Serial. */
static void mix_row(const mixture *m, int64_t i, int64_t start, int64_t stop)
{
    const int64_t wide = MIX_VECTORS * LANES;
    real *out = m->out + i * m->columns;
    const real *previous = m->previous ? m->previous + i * m->columns : NULL;
#define STRIP(n, part, last)                                                                                           \
    mix_strip(out + start, m->rows + start, m->csr, i, previous ? previous + start : NULL, m->scale, m->shift,         \
        m->memory, m->columns, n, part, last)
    for (; start + wide <= stop; start += wide) STRIP(MIX_VECTORS, 0, 0);
    for (; start + LANES <= stop; start += LANES) STRIP(1, 0, 0);
    if (start < stop) STRIP(1, 1, stop - start);
#undef STRIP
}

/* Rows first .. last - 1, a band of columns after another, so that a band of all neighbours stays in cache. Serial. */
static void mix_rows(const mixture *m, int64_t first, int64_t last)
{
    for (int64_t band = 0; band < m->columns; band += MIX_BAND)
        for (int64_t i = first; i < last; i++) mix_row(m, i, band, min_index(band + MIX_BAND, m->columns));
}

/* out_i = scale sum_k data_k rows[indices_k] + shift rows_i + memory previous_i, k over row i in stored order.
 * Shapes: out, previous (n_rows, columns), rows (n_rows or more, columns); previous may be NULL.
 * Aliasing: out may be previous, never rows. Rows of out are parallel, or bands of columns of few rows. */
static void csr_mix(void *out, const void *rows, const dnn_csr *csr, const void *previous, double scale, double shift,
    double memory, int64_t columns, int threads)
{
    mixture m = {out, rows, previous, csr, (real)scale, (real)shift, (real)memory, columns};
    int64_t stored = csr->indptr64 ? csr->indptr64[csr->n_rows] : csr->indptr32[csr->n_rows];
    int team = team_size(threads, (double)(stored + 2 * csr->n_rows) * (double)columns * 0.1e-3);
    if (csr->n_rows < team) {
        FOR_EACH(b, ceil_div(columns, MIX_BAND) * csr->n_rows, {
            int64_t band = b / csr->n_rows * MIX_BAND;
            mix_row(&m, b % csr->n_rows, band, min_index(band + MIX_BAND, columns));
        })
    } else {
        FOR_EACH(part, team, mix_rows(&m, part * csr->n_rows / team, (part + 1) * csr->n_rows / team))
    }
}
