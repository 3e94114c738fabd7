/* step.c: what an iteration does to the rows of weights beside gradients and mixing, a piece of a row at a time, so that
 * neighbouring steps meet in the cache.
 */

/* out = prox_{s r}(w - push y) for the terms of r without groups. Shapes: all (n). Aliasing: out is none. Serial. */
static void respond_piece(real *restrict out, const real *restrict w, const real *restrict y, real push, real s,
    const real *restrict l1, const real *restrict l2, int64_t n)
{
    for (int64_t p = 0; p < n; p++) {
        real v = w[p] - push * y[p], left = magnitude(v) - s * l1[p];
        out[p] = with_sign(left < 0 ? 0 : left, v) / (1 + s * l2[p]);
    }
}

/* z = w + step (w_hat - w), every operation rounded, as NumPy does it. Shapes: all (n). Aliasing: z is none. Serial. */
static void move_piece(real *restrict z, const real *restrict w, const real *restrict w_hat, real step, int64_t n)
{
    int64_t p = 0;
    for (; p + LANES <= n; p += LANES) store(z + p, load(w + p) + rounded_product(step, load(w_hat + p) - load(w + p)));
    if (p == n) return;
    vector old = load_part(w + p, n - p);
    store_part(z + p, old + rounded_product(step, load_part(w_hat + p, n - p) - old), n - p);
}

/* Numbers start .. stop - 1 of one row of proximal_step, all of them where there are groups, which may cross pieces.
 * Serial. */
static void proximal_part(real *z, real *w_hat, const real *w, const real *y, double tau, real step, double agents,
    const dnn_penalty *penalty, int64_t start, int64_t stop)
{
    const real push = (real)agents / (real)tau, s = 1 / (real)tau;
    const real *l1 = penalty->l1, *l2 = penalty->l2;
    if (penalty->n_groups) {
        for (int64_t p = start; p < stop; p++) w_hat[p] = w[p] - push * y[p];
        prox_row(w_hat, w_hat, s, penalty, stop);
    }
    for (int64_t p = start; p < stop; p += PIECE) {
        int64_t n = min_index(PIECE, stop - p);
        if (!penalty->n_groups) respond_piece(w_hat + p, w + p, y + p, push, s, l1 + p, l2 + p, n);
        if (z) move_piece(z + p, w + p, w_hat + p, step, n);
    }
}

/* w_hat_i = prox_{r / tau_i}(w_i - agents / tau_i y_i), the fully linearised best response, and
 * z_i = w_i + step (w_hat_i - w_i), unless z is NULL.
 * Shapes: z, w_hat, w, y (A, P); tau (A) double. Aliasing: z and w_hat are none. Agents are parallel, and strips of
 * their rows where there are no groups. */
static void proximal_step(void *z, void *w_hat, const void *w, const void *y, const double *tau, double step,
    double agents, const dnn_penalty *penalty, int64_t rows, int64_t params, int threads)
{
    int team = team_size(threads, (double)(rows * params) * 0.8e-3);
    const int64_t strip = penalty->n_groups ? max_index(1, params) : strip_numbers(params);
    const int64_t strips = ceil_div(params, strip);
    FOR_EACH(k, rows * strips, {
        int64_t i = k / strips, start = k % strips * strip, at = i * params;
        proximal_part(z ? (real *)z + at : NULL, (real *)w_hat + at, (const real *)w + at, (const real *)y + at, tau[i],
            (real)step, agents, penalty, start, min_index(params, start + strip));
    })
}

/* Lanes of the sums over one row. */
typedef struct {
    doubles w, y, length, before, misfit;
} row_sums;

/* y += grad - grad_old; squares of w and y. Shapes: all (n). Aliasing: y is none. Serial. */
static void track_piece(row_sums *s, real *restrict y, const real *restrict grad, const real *restrict grad_old,
    const real *restrict w, int64_t n)
{
    doubles ww = s->w, yy = s->y;
    for (int64_t p = 0; p < n; p++) y[p] = (y[p] + grad[p]) - grad_old[p];
    for (int64_t p = 0; p < n; p += DOUBLES) {
        doubles a = widen_at(w + p, n - p), b = widen_at(y + p, n - p);
        ww += a * a;
        yy += b * b;
    }
    s->w = ww, s->y = yy;
}

/* Squares of w - w_old, w_old and agents (y - y_old) - model. Shapes: all (n), model may be NULL. Serial. */
static void misfit_piece(row_sums *s, const real *w, const real *w_old, const real *y, const real *y_old,
    const real *model, double agents, int64_t n)
{
    doubles length = s->length, before = s->before, misfit = s->misfit;
    for (int64_t p = 0; p < n; p += DOUBLES) {
        doubles old = widen_at(w_old + p, n - p), moved = widen_at(w + p, n - p) - old;
        doubles missed = agents * (widen_at(y + p, n - p) - widen_at(y_old + p, n - p));
        if (model) missed -= widen_at(model + p, n - p);
        length += moved * moved;
        before += old * old;
        misfit += missed * missed;
    }
    s->length = length, s->before = before, s->misfit = misfit;
}

INLINE double larger(double a, double b) { return a > b || isnan(a) ? a : b; } /* NaN wins */

/* The rule of one agent from the sums over its row; see secant_rule. Serial. */
static void decide(double *tau, double *beta, const row_sums *s, double received, const dnn_rule *rule)
{
    double length = sqrt(sum_doubles(s->length)), misfit = sqrt(sum_doubles(s->misfit));
    if (!(length > 1e-12 * sqrt(sum_doubles(s->before)))) return;
    double now = misfit / length, missed = larger(larger(now, *beta), received);
    double wanted = larger(larger(rule->growth * missed, *tau / rule->decay), rule->low);
    *tau = wanted > rule->high ? rule->high : wanted;
    *beta = now;
}

/* What follows the gradient; parts that are not wanted are NULL. */
typedef struct {
    real *y;
    const real *grad, *grad_old; /* with squares: the tracker moves on */
    double *squares;
    const real *w, *w_old, *y_old, *model; /* with tau: the rule decides */
    double *tau, *beta;
    const double *received;
    const dnn_rule *rule;
    int64_t params;
} sequel;

/* A strip of row i of tracker_update, secant_rule or both, but for what follows from the sums. Serial. */
static row_sums follow_strip(const sequel *q, int64_t i, int64_t strip)
{
    row_sums s = {{0}, {0}, {0}, {0}, {0}};
    const int64_t start = strip * strip_numbers(q->params);
    const int64_t stop = min_index(q->params, start + strip_numbers(q->params));
    for (int64_t p = start; p < stop; p += PIECE) {
        int64_t n = min_index(PIECE, stop - p), at = i * q->params + p;
        if (q->squares) track_piece(&s, q->y + at, q->grad + at, q->grad_old + at, q->w + at, n);
        if (q->tau)
            misfit_piece(&s, q->w + at, q->w_old + at, q->y + at, q->y_old + at, q->model ? q->model + at : NULL,
                q->rule->agents, n);
    }
    return s;
}

INLINE void add_sums(row_sums *s, const row_sums *more)
{
    s->w += more->w, s->y += more->y;
    s->length += more->length, s->before += more->before, s->misfit += more->misfit;
}

/* What follows from the sums over row i. Serial. */
static void finish_row(const sequel *q, int64_t i, const row_sums *s)
{
    if (q->squares) q->squares[i] = sum_doubles(s->w) + sum_doubles(s->y);
    if (q->tau) decide(q->tau + i, q->beta + i, s, q->received[i], q->rule);
}

static void follow_row(const sequel *q, int64_t i)
{
    row_sums s = follow_strip(q, i, 0);
    for (int64_t k = 1; k < strips_of(q->params); k++) {
        row_sums more = follow_strip(q, i, k);
        add_sums(&s, &more);
    }
    finish_row(q, i, &s);
}

/* Rows are parallel, or strips of few rows; s: STRIPS sums, the same ones for all threads. */
static void follow_in(const sequel *q, int64_t rows, int threads, row_sums *s)
{
    const int64_t strips = strips_of(q->params);
    int team = team_size(threads, (double)(rows * q->params) * 0.5e-3);
    if (rows >= threads_of(team) || strips <= 1) {
        FOR_EACH(i, rows, follow_row(q, i))
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        FOR_EACH(k, strips, s[k] = follow_strip(q, i, k))
#pragma omp single
        {
            for (int64_t k = 1; k < strips; k++) add_sums(&s[0], &s[k]);
            finish_row(q, i, &s[0]);
        }
    }
}

static void follow(const sequel *q, int64_t rows, int threads)
{
    row_sums s[STRIPS];
    follow_in(q, rows, threads, s);
}

/* y_i += grad_i - grad_old_i; squares_i = |w_i|^2 + |y_i|^2, in double.
 * Shapes: y, grad, grad_old, w (A, P); squares (A) double. Aliasing: y is none. Parallel as follow. */
static void tracker_update(void *y, double *squares, const void *grad, const void *grad_old, const void *w,
    int64_t rows, int64_t params, int threads)
{
    sequel q = {.y = y, .grad = grad, .grad_old = grad_old, .squares = squares, .w = w, .params = params};
    follow(&q, rows, threads);
}

/* With beta = |agents (y_i - y_old_i) - model_i| / |w_i - w_old_i| and m its maximum with beta_i and received_i,
 * tau_i <- min(max(growth m, tau_i / decay, low), high) and beta_i <- beta; nothing where w_i moved by less than 1e-12 of
 * its length. Shapes: tau, beta, received (A) double; w, w_old, y, y_old, model (A, P), model may be NULL.
 * Aliasing: any among the inputs. Parallel as follow. */
static void secant_rule(double *tau, double *beta, const double *received, const void *w, const void *w_old,
    const void *y, const void *y_old, const void *model, const dnn_rule *rule, int64_t rows, int64_t params,
    int threads)
{
    sequel q = {.y = (void *)y,
        .w = w,
        .w_old = w_old,
        .y_old = y_old,
        .model = model,
        .tau = tau,
        .beta = beta,
        .received = received,
        .rule = rule,
        .params = params}; /* y is read only: there are no squares */
    follow(&q, rows, threads);
}

/* One row of (B + diag) (w_hat - w) = rhs: diag = tau + l2, rhs = -(agents y + l2 w), every operation rounded.
 * Shapes: all (n). Aliasing: diag and rhs are none. Serial. */
static void system_row(real *restrict diag, real *restrict rhs, const real *restrict w, const real *restrict y,
    const real *restrict l2, real tau, real agents, int64_t n)
{
    for (int64_t p = 0; p < n; p += LANES) {
        vector ridge = load_at(l2 + p, n - p), slope = rounded_product(agents, load_at(y + p, n - p));
        store_at(diag + p, tau + ridge, n - p);
        store_at(rhs + p, -(slope + rounded(ridge * load_at(w + p, n - p))), n - p);
    }
}
