/* rounds.c: all mixing rounds of one call, a strip of columns at a time.
 *
 * Columns do not meet while agents are mixed, so a strip of all agents' rows goes through every round while it is in
 * the cache: K > 1 rounds read the rows once and write them once. Between rounds a strip lies densely, aligned, its last
 * vector padded with zeros. The arithmetic of an element is mix_strip's, as in csr_mix: a round at a time, over many
 * ranks, gives the same bits.
 */

enum {
    GROUP = 4 * LANES, /* columns whose squares are added up before they join the sum of a row */
    PANEL = 16 * GROUP, /* columns of a thread's share; sums of panels are added in order */
    STRIP_BYTES = 1 << 18, /* of one strip of all agents, if it need not be narrower than a group */
    ONCE_LEAST = 1 << 19, /* bytes of all rows between which strips are worth a copy */
    ONCE_MOST = 1 << 22
};

/* squares[0] += sum (before - after)^2, squares[1] += sum before^2 over n <= GROUP columns. Serial. */
static void add_change(double *squares, const real *before, const real *after, int64_t n)
{
    vector change = {0}, size = {0};
    for (int64_t p = 0; p < n; p += LANES) {
        vector a = n - p < LANES ? load_part(before + p, n - p) : load(before + p);
        vector b = n - p < LANES ? load_part(after + p, n - p) : load(after + p);
        change += (a - b) * (a - b);
        size += a * a;
    }
    squares[0] += (double)sum_lanes(change);
    squares[1] += (double)sum_lanes(size);
}

/* add_change of `width` columns of every row; rows are `step` and `after_step` numbers long. Serial. */
static void add_changes(double *squares, const real *before, int64_t step, const real *after, int64_t after_step,
    int64_t rows, int64_t width)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t p = 0; p < width; p += GROUP)
            add_change(squares + 2 * i, before + i * step + p, after + i * after_step + p, min_index(GROUP, width - p));
}

/* disagreement = factor |before - after| / |before| and size = |before| of one row, from its squares of every panel,
 * `stride` numbers apart; 0 where before is 0, infinite where it is no number. Serial. */
static void finish_change(
    double *disagreement, double *size, const double *squares, int64_t panels, int64_t stride, double factor)
{
    double change = 0, whole = 0;
    for (int64_t p = 0; p < panels; p++, squares += stride) change += squares[0], whole += squares[1];
    double ratio = factor * sqrt(change / whole);
    *disagreement = whole == 0 ? 0 : isnan(ratio) ? (double)INFINITY : ratio;
    *size = sqrt(whole);
}

static void change_of_row(
    double *disagreement, double *size, const real *before, const real *after, int64_t columns, double factor)
{
    double change = 0, whole = 0;
    for (int64_t panel = 0; panel < columns; panel += PANEL) {
        double squares[2] = {0, 0};
        int64_t stop = min_index(panel + PANEL, columns);
        for (int64_t p = panel; p < stop; p += GROUP)
            add_change(squares, before + p, after + p, min_index(GROUP, stop - p));
        change += squares[0], whole += squares[1];
    }
    const double total[2] = {change, whole};
    finish_change(disagreement, size, total, 1, 2, factor);
}

/* disagreement_i = factor |before_i - after_i| / |before_i|, 0 where before_i is 0, infinite where it is no number;
 * size_i = |before_i|.
 * Shapes: disagreement, size (n_rows) double; before, after (n_rows, columns). Aliasing: none. Rows are parallel. */
static void row_change(double *disagreement, double *size, const void *before, const void *after, double factor,
    int64_t n_rows, int64_t columns, int threads)
{
    int team = team_size(threads, (double)(n_rows * columns) * 0.2e-3);
    FOR_EACH(i, n_rows,
        change_of_row(disagreement + i, size + i, (const real *)before + i * columns, (const real *)after + i * columns,
            columns, factor))
}

/* One call of network_mix; `squares` (panels, n_rows, 2), or NULL if not wanted. */
typedef struct {
    real *out;
    const real *rows;
    const dnn_csr *csr;
    const double *rounds;
    int64_t n_rounds, columns, strip;
    double *squares;
    real *buffers; /* a pair of strips for every thread, */
    int64_t buffer_numbers; /* which takes so many numbers */
} blend;

/* All rounds on `width` columns of every row, from column `start` on, zeros up to n vectors behind them.
 * now, then: buffers of one strip each. Serial. */
INLINE void blend_strip(const blend *m, int64_t start, int64_t width, const int n, real *now, real *then)
{
    const int64_t rows = m->csr->n_rows, stride = n * LANES;
    double *squares = m->squares ? m->squares + start / PANEL * rows * 2 : NULL;
    const real *given = m->rows + start;
    for (int64_t i = 0; i < rows; i++) {
        const real *row = given + i * m->columns;
        for (int j = 0; j < n && width == stride; j++) store(now + i * stride + j * LANES, load(row + j * LANES));
        if (width < stride) {
            memcpy(now + i * stride, row, (size_t)width * sizeof(real));
            memset(now + i * stride + width, 0, (size_t)(stride - width) * sizeof(real));
        }
    }
    if (m->n_rounds == 0 && squares) add_changes(squares, now, stride, now, stride, rows, width);
    for (int64_t k = 0; k < m->n_rounds; k++) {
        const double *c = m->rounds + 3 * k;
        int leaves = k + 1 == m->n_rounds && width == stride;
        real *target = leaves ? m->out + start : then, *old = then;
        int64_t step = leaves ? m->columns : stride;
        for (int64_t i = 0; i < rows; i++)
            mix_strip(target + i * step, now, m->csr, i, k && c[2] != 0 ? old + i * stride : NULL, (real)c[0],
                (real)c[1], (real)c[2], stride, n, 0, 0);
        if (k == 0 && squares) add_changes(squares, now, stride, target, step, rows, width);
        then = now, now = old;
    }
    if (width < stride || m->n_rounds == 0)
        for (int64_t i = 0; i < rows; i++)
            memcpy(m->out + i * m->columns + start, now + i * stride, (size_t)width * sizeof(real));
}

/* Whether a single round takes rows as they lie, since a strip would be copied and read once: but if rows differ in how
 * they are aligned, strips of rows from a cache are quicker. */
INLINE int takes_once(const blend *m)
{
    const int64_t bytes = m->csr->n_rows * m->columns * (int64_t)sizeof(real);
    return m->n_rounds == 1 && (m->columns % LANES == 0 || bytes <= ONCE_LEAST || bytes > ONCE_MOST);
}

/* A single round of whole panels, band by band, each mixed up to where vectors are aligned behind it. Serial. */
static void blend_once(const blend *m, int64_t start, int64_t stop)
{
    mixture once = {m->out, m->rows, NULL, m->csr, (real)m->rounds[0], (real)m->rounds[1], 0, m->columns};
    const int64_t rows = m->csr->n_rows, band = mix_band(rows), lead = mix_lead(&once);
    for (int64_t end, from = start, to; start < stop; start = end, from = to) {
        end = min_index(start + band, stop), to = min_index(end + lead, stop);
        for (int64_t i = 0; i < rows; i++) {
            mix_row(&once, i, from, to);
            for (int64_t p = start, next; p < end && m->squares; p = next) { /* bands are whole groups */
                const int64_t panel = p / PANEL, at = i * m->columns + p;
                next = min_index((panel + 1) * PANEL, end);
                add_changes(m->squares + (panel * rows + i) * 2, m->rows + at, 0, m->out + at, 0, 1, next - p);
            }
        }
    }
}

/* One panel, in strips; what is left of it in the narrowest strip that holds it. Serial. */
static void blend_panel(const blend *m, int64_t panel, int thread)
{
    const int64_t stop = min_index(panel + PANEL, m->columns), rows = m->csr->n_rows;
    real *buffer = m->buffers + thread * m->buffer_numbers, *half = buffer + rows * m->strip;
    if (m->squares) memset(m->squares + panel / PANEL * rows * 2, 0, (size_t)(rows * 2) * sizeof(double));
    if (takes_once(m)) {
        blend_once(m, panel, stop);
        return;
    }
    for (int64_t start = panel, width; start < stop; start += width) {
        width = min_index(m->strip, stop - start);
        int64_t vectors = ceil_div(width, LANES);
        if (vectors > 4)
            blend_strip(m, start, width, 8, buffer, half);
        else if (vectors > 2)
            blend_strip(m, start, width, 4, buffer, half);
        else if (vectors == 2)
            blend_strip(m, start, width, 2, buffer, half);
        else
            blend_strip(m, start, width, 1, buffer, half);
    }
}

INLINE int64_t strip_columns(int64_t agents)
{
    return 2 * GROUP * agents * (int64_t)sizeof(real) <= STRIP_BYTES / 2 ? 2 * GROUP : GROUP;
}

static size_t mix_work(int64_t agents, int64_t columns, int threads)
{
    size_t strips = lines(2 * agents * strip_columns(agents), sizeof(real));
    return strips * (size_t)threads + lines(ceil_div(columns, PANEL) * agents * 2, sizeof(double));
}

/* One call, with buffers for so many threads in `work`, and squares where they are wanted. */
static blend open_blend(real *out, const real *rows, const dnn_csr *csr, const double *rounds, int64_t n_rounds,
    int64_t columns, int has_squares, int threads, char *work)
{
    blend m = {out, rows, csr, rounds, n_rounds, columns, strip_columns(csr->n_rows), NULL, NULL, 0};
    size_t length = lines(2 * csr->n_rows * m.strip, sizeof(real));
    m.buffers = (real *)(void *)work, m.buffer_numbers = (int64_t)(length / sizeof(real));
    if (has_squares) m.squares = (double *)(void *)(work + length * (size_t)threads);
    return m;
}

INLINE int64_t panels_of(int64_t columns) { return ceil_div(columns, PANEL); }

/* disagreement and size of row i, once all panels are done. Serial. */
static void finish_blend(const blend *m, int64_t i, double *disagreement, double *size)
{
    finish_change(disagreement + i, size + i, m->squares + 2 * i, panels_of(m->columns), 2 * m->csr->n_rows,
        m->n_rounds ? 1 / m->rounds[0] : 0);
}

/* v_0 = rows; v_k+1 = scale_k C v_k + shift_k v_k + memory_k v_k-1; out = v_K, where rounds_k = (scale, shift, memory)
 * and memory_0 is not used. disagreement, size: row_change of v_0 and v_1 with the factor 1 / scale_0; both may be NULL.
 * Shapes: out, rows (n_rows, columns); rounds (n_rounds, 3); disagreement, size (n_rows). Aliasing: none.
 * Panels of columns are parallel. */
static void network_mix(void *out, double *disagreement, double *size, const void *rows, const dnn_csr *csr,
    const double *rounds, int64_t n_rounds, int64_t columns, int threads, void *work)
{
    const int64_t agents = csr->n_rows;
    const blend m = open_blend(out, rows, csr, rounds, n_rounds, columns, disagreement != NULL, threads, work);
    int64_t stored = csr->indptr64 ? csr->indptr64[agents] : csr->indptr32[agents];
    int team = team_size(threads, (double)((stored + 3 * agents) * columns * max_index(n_rounds, 1)) * 0.07e-3);
    if (team == 1 && takes_once(&m)) {
        if (m.squares) memset(m.squares, 0, (size_t)(panels_of(columns) * agents * 2) * sizeof(double));
        blend_once(&m, 0, columns);
    } else {
        FOR_EACH(p, panels_of(columns), blend_panel(&m, p * PANEL, thread))
    }
    for (int64_t i = 0; i < agents && disagreement; i++) finish_blend(&m, i, disagreement, size);
}

/* received_i = largest of scalars_j over the stored columns j of row i but i itself, column by column; -infinity where
 * there is none, NaN where one is NaN.
 * Shapes: received (n_rows, columns), scalars (n_rows or more, columns). Aliasing: none. Serial. */
static void neighbour_max(void *received_, const void *scalars_, const dnn_csr *csr, int64_t columns)
{
    real *received = received_;
    for (int64_t i = 0; i < csr->n_rows; i++, received += columns) {
        int64_t k = csr->indptr64 ? csr->indptr64[i] : csr->indptr32[i];
        int64_t stop = csr->indptr64 ? csr->indptr64[i + 1] : csr->indptr32[i + 1];
        for (int64_t c = 0; c < columns; c++) received[c] = -(real)INFINITY;
        for (; k < stop; k++) {
            int64_t j = csr->indices64 ? csr->indices64[k] : csr->indices32[k];
            const real *sent = (const real *)scalars_ + j * columns;
            for (int64_t c = 0; c < columns && j != i; c++)
                if (sent[c] > received[c] || isnan(sent[c])) received[c] = sent[c];
        }
    }
}
