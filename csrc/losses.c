/* losses.c: losses of raw outputs, row by row. */

enum { SEGMENT = 256 };

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
