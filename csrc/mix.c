/* mix.c: neighbours' rows, weighted and added up; products are rounded before they are added, on every path. */

enum {
    MIX_VECTORS = 8,
    MIX_LEAST = 512, /* bytes of one row that are worth a band: whole strips */
    MIX_FIRST = 1 << 15, /* bytes of a band of all rows, whose neighbours are read from the first cache, */
    MIX_SECOND = 1 << 20, /* or from the second */
    MIX_SHARE = 4096 /* columns of a thread's share of one row */
};

/* Column strip of `n` vectors, the last one of `last` elements if `part`:
 * out = scale sum_k data_k rows[indices_k] + shift row + memory previous, k in stored order, every column alike; a row
 * whose shift or memory is 0 is not added. */
INLINE void mix_strip(real *out, const real *rows, const dnn_csr *csr, int64_t i, const real *previous, real scale,
    real shift, real memory, int64_t stride, int n, int part, int64_t last)
{
    vector total[MIX_VECTORS];
    int64_t k = csr->indptr64 ? csr->indptr64[i] : csr->indptr32[i];
    int64_t stop = csr->indptr64 ? csr->indptr64[i + 1] : csr->indptr32[i + 1];
#define MIX_LOAD(place, j) (part && (j) == n - 1 ? load_at((place) + (j) * LANES, last) : load((place) + (j) * LANES))
    for (int j = 0; j < n; j++) total[j] = (vector){0};
    for (; k < stop; k++) {
        int64_t column = csr->indices64 ? csr->indices64[k] : csr->indices32[k];
        const real *row = rows + column * stride;
        real weight = ((const real *)csr->data)[k];
        for (int j = 0; j < n; j++) total[j] += rounded_product(weight, MIX_LOAD(row, j));
    }
    if (scale != 1)
        for (int j = 0; j < n; j++) total[j] = rounded_product(scale, total[j]);
    if (shift != 0)
        for (int j = 0; j < n; j++) total[j] += rounded_product(shift, MIX_LOAD(rows + i * stride, j));
    if (previous)
        for (int j = 0; j < n; j++) total[j] += rounded_product(memory, MIX_LOAD(previous, j));
    for (int j = 0; j < n; j++)
        if (part && j == n - 1)
            store_at(out + j * LANES, total[j], last);
        else
            store(out + j * LANES, total[j]);
#undef MIX_LOAD
}

/* One call of csr_mix. */
typedef struct {
    real *out;
    const real *rows, *previous;
    const dnn_csr *csr;
    real scale, shift, memory;
    int64_t columns;
} mixture;

/* Columns before those that stand aligned in all rows, 0 if rows differ. */
INLINE int64_t mix_lead(const mixture *m)
{
    return m->columns % LANES ? 0 : (int64_t)(-(uintptr_t)m->rows % VECTOR_BYTES / sizeof(real));
}

/* Columns start .. stop - 1 of row i, once they are aligned in whole vectors. Serial. */
static void mix_row(const mixture *m, int64_t i, int64_t start, int64_t stop)
{
    const int64_t wide = MIX_VECTORS * LANES;
    real *out = m->out + i * m->columns;
    const real *previous = m->previous ? m->previous + i * m->columns : NULL;
#define STRIP(n, part, last)                                                                                           \
    mix_strip(out + start, m->rows + start, m->csr, i, previous ? previous + start : NULL, m->scale, m->shift,         \
        m->memory, m->columns, n, part, last)
    const int64_t head = min_index((mix_lead(m) + LANES - start % LANES) % LANES, stop - start);
    if (head > 0) {
        STRIP(1, 1, head);
        start += head;
    }
    for (; start + wide <= stop; start += wide) STRIP(MIX_VECTORS, 0, 0);
    const int64_t last = (stop - start - 1) % LANES + 1;
    switch (ceil_div(stop - start, LANES)) {
#define REST(n)                                                                                                        \
    case n:                                                                                                            \
        STRIP(n, 1, last);                                                                                             \
        break;
        REST(1) REST(2) REST(3) REST(4) REST(5) REST(6) REST(7) REST(8)
#undef REST
    }
#undef STRIP
}

/* Columns that go through all rows before the next, so that neighbours' rows are read from a cache. */
INLINE int64_t mix_band(int64_t rows)
{
    const int64_t least = MIX_LEAST * max_index(rows, 1);
    return max_index(1, (least <= MIX_FIRST ? MIX_FIRST : MIX_SECOND) / least) * MIX_LEAST / (int64_t)sizeof(real);
}

/* Rows first .. last - 1, band by band. Serial. */
static void mix_rows(const mixture *m, int64_t first, int64_t last)
{
    const int64_t band = mix_band(m->csr->n_rows);
    for (int64_t start = 0, stop = mix_lead(m) + band; start < m->columns; start = stop, stop += band)
        for (int64_t i = first; i < last; i++) mix_row(m, i, start, min_index(stop, m->columns));
}

/* out_i = scale sum_k data_k rows[indices_k] + shift rows_i + memory previous_i, k over row i in stored order; a term
 * of shift or memory 0 is left out.
 * Shapes: out, previous (n_rows, columns), rows (n_rows or more, columns); previous may be NULL.
 * Aliasing: out may be previous, never rows. Rows of out are parallel, or bands of columns of few rows. */
static void csr_mix(void *out, const void *rows, const dnn_csr *csr, const void *previous, double scale, double shift,
    double memory, int64_t columns, int threads)
{
    mixture m = {out, rows, memory != 0 ? previous : NULL, csr, (real)scale, (real)shift, (real)memory, columns};
    int64_t stored = csr->indptr64 ? csr->indptr64[csr->n_rows] : csr->indptr32[csr->n_rows];
    int team = team_size(threads, (double)(stored + 2 * csr->n_rows) * (double)columns * 0.1e-3);
    if (csr->n_rows < team) {
        FOR_EACH(b, ceil_div(columns, MIX_SHARE) * csr->n_rows, {
            int64_t start = b / csr->n_rows * MIX_SHARE;
            mix_row(&m, b % csr->n_rows, start, min_index(start + MIX_SHARE, columns));
        })
    } else {
        FOR_EACH(part, team, mix_rows(&m, part * csr->n_rows / team, (part + 1) * csr->n_rows / team))
    }
}
