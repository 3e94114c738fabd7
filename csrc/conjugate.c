/* conjugate.c: the vectors of conjugate gradients, all agents at once; products with matrices are made elsewhere.
 *
 * A row is cut into strips, see step.c; sums are taken in double over a strip and added in order.
 */

/* One call; what a kernel does not need is NULL. */
typedef struct {
    real *image, *step, *residual, *direction;
    const real *diag, *rhs;
    const double *factor; /* (A): length or ratio */
    int64_t params;
    /* what one strip of a row brings to its sum */
    double (*strip)(const void *call, int64_t at, int64_t n, double factor);
} conjugate;

static double curve_strip(const void *call, int64_t at, int64_t n, double factor)
{
    const conjugate *c = call;
    real *restrict image = c->image + at;
    const real *restrict diag = c->diag + at, *restrict direction = c->direction + at;
    doubles sum[2] = {{0}, {0}};
    (void)factor;
    for (int64_t p = 0; p < n; p++) image[p] += diag[p] * direction[p];
    for (int64_t p = 0, odd = 0; p < n; p += DOUBLES, odd = 1 - odd)
        sum[odd] += widen_at(direction + p, n - p) * widen_at(image + p, n - p);
    return sum_doubles(sum[0] + sum[1]);
}

static double step_strip(const void *call, int64_t at, int64_t n, double factor)
{
    const conjugate *c = call;
    real *restrict step = c->step + at, *restrict residual = c->residual + at;
    const real *restrict direction = c->direction + at, *restrict image = c->image + at, length = (real)factor;
    doubles sum[2] = {{0}, {0}};
    for (int64_t p = 0; p < n; p++) {
        step[p] += length * direction[p];
        residual[p] -= length * image[p];
    }
    for (int64_t p = 0, odd = 0; p < n; p += DOUBLES, odd = 1 - odd) {
        doubles left = widen_at(residual + p, n - p);
        sum[odd] += left * left;
    }
    return sum_doubles(sum[0] + sum[1]);
}

static double turn_strip(const void *call, int64_t at, int64_t n, double factor)
{
    const conjugate *c = call;
    real *restrict direction = c->direction + at;
    const real *restrict residual = c->residual + at, ratio = (real)factor;
    for (int64_t p = 0; p < n; p++) direction[p] = residual[p] + ratio * direction[p];
    return 0;
}

/* Strip number `strip` of row i. */
static double conjugate_strip(const conjugate *c, int64_t i, int64_t strip, double factor)
{
    int64_t start = strip * strip_numbers(c->params), n = min_index(strip_numbers(c->params), c->params - start);
    return c->strip(c, i * c->params + start, n, factor);
}

static double conjugate_row(const conjugate *c, int64_t i, double factor)
{
    double sum = 0;
    for (int64_t k = 0; k < strips_of(c->params); k++) sum += conjugate_strip(c, i, k, factor);
    return sum;
}

/* out_i = the sum of what the strips of row i bring; out may be NULL. Rows are parallel, or strips of few rows. */
static void run_conjugate(double *out, const conjugate *c, int64_t rows, int threads)
{
    const int64_t strips = strips_of(c->params);
    double unused, part[STRIPS];
    int team = team_size(threads, (double)(rows * c->params) * 0.5e-3);
    if (rows >= team || strips == 1) {
        FOR_EACH(i, rows, {
            double sum = conjugate_row(c, i, c->factor ? c->factor[i] : 0);
            if (out) out[i] = sum;
        })
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        double *sum = out ? out + i : &unused;
        FOR_EACH(k, strips, part[k] = conjugate_strip(c, i, k, c->factor ? c->factor[i] : 0))
        *sum = 0;
        for (int64_t k = 0; k < strips; k++) *sum += part[k];
    }
}

/* image_i += diag_i direction_i; curve_i = direction_i' image_i, in double.
 * Shapes: image, diag, direction (A, P), curve (A). Aliasing: image is neither. Parallel as run_conjugate. */
static void cg_curve(
    double *curve, void *image, const void *diag, const void *direction, int64_t rows, int64_t params, int threads)
{
    conjugate c = {
        .image = image, .diag = diag, .direction = (void *)direction, .params = params, .strip = curve_strip};
    run_conjugate(curve, &c, rows, threads); /* direction is read only */
}

/* step_i += length_i direction_i, residual_i -= length_i image_i; energy_i = |residual_i|^2, in double.
 * Shapes: step, residual, direction, image (A, P), energy, length (A). Aliasing: step and residual are none.
 * Parallel as run_conjugate. */
static void cg_step(double *energy, void *step, void *residual, const void *direction, const void *image,
    const double *length, int64_t rows, int64_t params, int threads)
{
    conjugate c = {.image = (void *)image,
        .step = step,
        .residual = residual,
        .direction = (void *)direction,
        .factor = length,
        .params = params,
        .strip = step_strip}; /* direction and image are read only */
    run_conjugate(energy, &c, rows, threads);
}

/* direction_i <- residual_i + ratio_i direction_i.
 * Shapes: direction, residual (A, P), ratio (A). Aliasing: none. Parallel as run_conjugate. */
static void cg_turn(
    void *direction, const void *residual, const double *ratio, int64_t rows, int64_t params, int threads)
{
    conjugate c = {.residual = (void *)residual,
        .direction = direction,
        .factor = ratio,
        .params = params,
        .strip = turn_strip}; /* residual is read only */
    run_conjugate(NULL, &c, rows, threads);
}
