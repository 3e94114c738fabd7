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

/* out_i = scale sum_k data_k rows[indices_k] + shift rows_i + memory previous_i, k over row i in stored order.
 * Shapes: out, previous (n_rows, columns), rows (n_rows or more, columns); previous may be NULL.
 * Aliasing: out may be previous, never rows. Rows of out are parallel. */
static void csr_mix(void *out_, const void *rows_, const dnn_csr *csr, const void *previous_, double scale,
    double shift, double memory, int64_t columns, int threads)
{
    int64_t stored = csr->indptr64 ? csr->indptr64[csr->n_rows] : csr->indptr32[csr->n_rows];
    int team = team_size(threads, (double)(stored + 2 * csr->n_rows) * (double)columns * 0.1e-3);
    const int64_t wide = MIX_VECTORS * LANES;
#pragma omp parallel num_threads(team) if (team > 1)
    for (int64_t band = 0; band < columns; band += MIX_BAND) {
        int64_t width = min_index(MIX_BAND, columns - band);
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < csr->n_rows; i++) {
            int64_t c = band, end = band + width;
            real *out = (real *)out_ + i * columns;
            const real *rows = rows_, *previous = previous_ ? (const real *)previous_ + i * columns : NULL;
#define STRIP(n, part, last)                                                                                          \
    mix_strip(out + c, rows + c, csr, i, previous ? previous + c : NULL, (real)scale, (real)shift, (real)memory,      \
        columns, n, part, last)
            for (; c + wide <= end; c += wide) STRIP(MIX_VECTORS, 0, 0);
            for (; c + LANES <= end; c += LANES) STRIP(1, 0, 0);
            if (c < end) STRIP(1, 1, end - c);
#undef STRIP
        }
    }
}
