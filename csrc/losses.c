/* losses.c: losses of raw outputs and their curvature, row by row. */

enum { SEGMENT = 256, ROOT_ROWS = 256 };

/* delta_k and, in term_k, the part of the loss that output k brings. Shapes: (n) each, n <= SEGMENT.
 * Aliasing: none. Serial. Every loss but softmax is a sum over outputs. */
static void loss_terms(real *restrict term, real *restrict delta, const real *restrict f, const real *restrict target,
    int64_t n, int loss, real param)
{
    switch (loss) {
    case DNN_SQUARED_ERROR:
        for (int64_t k = 0; k < n; k++) {
            delta[k] = f[k] - target[k];
            term[k] = (real)0.5 * delta[k] * delta[k];
        }
        break;
    case DNN_HUBER:
        for (int64_t k = 0; k < n; k++) {
            real r = f[k] - target[k], size = magnitude(r);
            real cut = size > param ? param : size; /* NaN stays */
            delta[k] = with_sign(cut, r);
            term[k] = cut * (size - (real)0.5 * cut);
        }
        break;
    case DNN_LOG_LOSS:
        for (int64_t k = 0; k < n; k++) {
            real e = exp_negative(-magnitude(f[k]));
            delta[k] = (f[k] >= 0 ? 1 : e) / (1 + e) - target[k];
            term[k] = ((f[k] > 0 ? f[k] : 0) + log1p_unit(e)) - target[k] * f[k];
        }
        break;
    default:
        for (int64_t k = 0; k < n; k++) {
            real gap = 1 - target[k] * f[k];
            gap = gap < 0 ? 0 : gap; /* NaN stays */
            delta[k] = -target[k] * gap;
            term[k] = (real)0.5 * gap * gap;
        }
    }
}

/* value_m = log sum_q e^f_mq - sum_q d_mq f_mq, delta = softmax(f) - d, d one-hot.
 * Shapes: value (rows), delta, f, target (rows, outputs). Aliasing: delta may be f. Serial. */
static void softmax_rows(double *value, real *delta, const real *f, const real *target, int64_t rows, int64_t outputs)
{
    for (int64_t m = 0; m < rows; m++) {
        const real *f_m = f + m * outputs, *d_m = target + m * outputs;
        real top = f_m[0];
        double linear = 0;
        for (int64_t q = 1; q < outputs; q++) top = f_m[q] > top ? f_m[q] : top;
        for (int64_t q = 0; q < outputs; q++) {
            real below = f_m[q] - top;
            linear += (double)d_m[q] * below;
            delta[m * outputs + q] = below;
        }
        value[m] = -linear;
    }
    for (int64_t k = 0; k < rows * outputs; k++) delta[k] = exp_negative(delta[k]);
    for (int64_t m = 0; m < rows; m++) {
        real *delta_m = delta + m * outputs;
        const real *d_m = target + m * outputs;
        double total = 0, mass = 0;
        for (int64_t q = 0; q < outputs; q++) {
            total += delta_m[q];
            mass += d_m[q];
        }
        real share = (real)(1 / total);
        for (int64_t q = 0; q < outputs; q++) delta_m[q] = delta_m[q] * share - d_m[q];
        value[m] += mass * log(total);
    }
}

/* value_m = loss(target_m, f_m), delta = its derivative in f; formulas in reference.py.
 * Shapes: value (rows), delta, f, target (rows, outputs). Aliasing: none. Serial. */
static void loss_value_grad(double *value, void *delta_, const void *f_, const void *target_, int64_t rows,
    int64_t outputs, int loss, double param)
{
    real *delta = delta_, term[SEGMENT];
    const real *f = f_, *target = target_;
    if (loss == DNN_SOFTMAX) {
        softmax_rows(value, delta, f, target, rows, outputs);
        return;
    }
    if (outputs > 1) memset(value, 0, (size_t)rows * sizeof *value);
    int64_t m = 0, q = 0, total = rows * outputs;
    for (int64_t start = 0; start < total; start += SEGMENT) {
        int64_t n = min_index(SEGMENT, total - start);
        loss_terms(term, delta + start, f + start, target + start, n, loss, (real)param);
        if (outputs == 1) {
            for (int64_t k = 0; k < n; k++) value[start + k] = term[k];
            continue;
        }
        for (int64_t k = 0; k < n; k++) {
            value[m] += term[k];
            if (++q == outputs) {
                q = 0;
                m++;
            }
        }
    }
}

/* S = diag(root) - root^2 root' times share, root = sqrt(p). Shapes: out (n, n), root (n). Aliasing: root may be the
 * last row of out. Serial. */
static void softmax_root(real *out, const real *root, real share, int64_t n)
{
    for (int64_t q = 0; q < n; q++) {
        const real own = share * root[q], p = own * root[q];
        real *row = out + q * n;
        for (int64_t r = 0; r < n; r++) row[r] = -p * root[r];
        row[q] += own;
    }
}

/* softmax_root of every row, at the raw outputs f. Shapes: out (rows, outputs, outputs), f (rows, outputs), share
 * (rows). Aliasing: none. Serial. */
static void softmax_roots(real *out, const real *f, const real *share, int64_t rows, int64_t outputs)
{
    real segment[SEGMENT];
    const int64_t at_once = max_index(1, SEGMENT / outputs), numbers = outputs * outputs;
    for (int64_t first = 0; first < rows; first += at_once) {
        int64_t n = min_index(at_once, rows - first);
        real *e = outputs <= SEGMENT ? segment : out + (first + 1) * numbers - outputs; /* its last row, made last */
        for (int64_t m = 0; m < n; m++) {
            const real *f_m = f + (first + m) * outputs;
            real top = f_m[0];
            for (int64_t q = 1; q < outputs; q++) top = f_m[q] > top ? f_m[q] : top;
            for (int64_t q = 0; q < outputs; q++) e[m * outputs + q] = f_m[q] - top;
        }
        for (int64_t k = 0; k < n * outputs; k++) e[k] = exp_negative(e[k]);
        for (int64_t m = 0; m < n; m++) {
            real *e_m = e + m * outputs;
            double total = 0;
            for (int64_t q = 0; q < outputs; q++) total += e_m[q];
            real each = (real)(1 / total);
            for (int64_t q = 0; q < outputs; q++) e_m[q] = square_root(e_m[q] * each);
            softmax_root(out + (first + m) * numbers, e_m, share[first + m], outputs);
        }
    }
}

/* The diagonals of rows with a diagonal root. Shapes: out, f, target (rows, outputs), share (rows). Aliasing: none.
 * Serial. */
static void diagonal_roots(real *restrict out, const real *restrict f, const real *restrict target,
    const real *restrict share, int64_t rows, int64_t outputs, int loss, real param)
{
    for (int64_t m = 0, k = 0; m < rows; m++)
        for (int64_t q = 0; q < outputs; q++, k++) switch (loss) {
            case DNN_HUBER:
                out[k] = magnitude(f[k] - target[k]) <= param ? share[m] : 0;
                break;
            case DNN_LOG_LOSS: {
                real half = exp_negative(-magnitude(f[k]) / 2);
                out[k] = share[m] * (half / (1 + half * half));
                break;
            }
            case DNN_SQUARED_HINGE:
                out[k] = target[k] * f[k] < 1 ? share[m] : 0;
                break;
            default: /* the squared error */
                out[k] = share[m];
            }
}

/* share_m S_m of some rows. Shapes and aliasing as in curvature_root. Serial. */
static void roots_of(real *out, const real *f, const real *target, const real *share, int64_t rows, int64_t outputs,
    int loss, double param)
{
    if (loss == DNN_SOFTMAX)
        softmax_roots(out, f, share, rows, outputs);
    else
        diagonal_roots(out, f, target, share, rows, outputs, loss, (real)param);
}

/* out_m = share_m S_m, S_m S_m' the generalised second derivative of the loss at f_m; formulas in reference.py.
 * Shapes: out (rows, outputs), diagonals, or (rows, outputs, outputs) for softmax; f, target (rows, outputs), share
 * (rows). Aliasing: none. Rows are parallel. */
static void curvature_root(void *out, const void *f, const void *target, const void *share, int64_t rows,
    int64_t outputs, int loss, double param, int threads)
{
    const int is_full = loss == DNN_SOFTMAX;
    const int64_t numbers = is_full ? outputs * outputs : outputs;
    int team = team_size(threads, (double)(rows * (is_full ? numbers + 8 * outputs : 4 * outputs)) * 0.5e-3);
    FOR_EACH(c, ceil_div(rows, ROOT_ROWS), {
        int64_t first = c * ROOT_ROWS, n = min_index(ROOT_ROWS, rows - first);
        roots_of((real *)out + first * numbers, (const real *)f + first * outputs,
            (const real *)target + first * outputs, (const real *)share + first, n, outputs, loss, param);
    })
}
