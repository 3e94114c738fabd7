/* step.c: what an iteration does to the rows of weights beside gradients and mixing, a piece of a row at a time, so that
 * neighbouring steps meet in the cache; and iterations that need no decision in between, as one call.
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

/* Rows are parallel, or strips of few rows. */
static void follow(const sequel *q, int64_t rows, int threads)
{
    const int64_t strips = strips_of(q->params);
    row_sums s[STRIPS];
    int team = team_size(threads, (double)(rows * q->params) * 0.5e-3);
    if (rows >= team || strips <= 1) {
        FOR_EACH(i, rows, follow_row(q, i))
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        FOR_EACH(k, strips, s[k] = follow_strip(q, i, k))
        for (int64_t k = 1; k < strips; k++) add_sums(&s[0], &s[k]);
        finish_row(q, i, &s[0]);
    }
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

/* w_hat += w_old, which makes the minimiser of the step to it, and z = w_old + step (w_hat - w_old). Pieces are parallel.
 */
static void move_from_step(const dnn_iteration *it, int threads)
{
    const int64_t numbers = it->problem.mlp.agents * it->problem.mlp.params;
    const real *w = it->state.w_old;
    real *w_hat = it->state.w_hat, *z = it->state.z;
    int team = team_size(threads, (double)numbers * 0.5e-3);
    FOR_EACH(c, ceil_div(numbers, PIECE), {
        int64_t at = c * PIECE, n = min_index(PIECE, numbers - at);
        for (int64_t p = at; p < at + n; p++) w_hat[p] += w[p];
        move_piece(z + at, w + at, w_hat + at, (real)it->recipe.step, n);
    })
}

/* w_hat_i = w_i - (B_i + tau_i + l2)^-1 (agents y_i + l2 w_i), the partially linearised best response with the penalty
 * l2, by Cholesky, and z_i = w_i + step (w_hat_i - w_i); returns whether one failed: z is then not made, and w_hat is
 * unfinished. Agents are parallel within a group. */
static int cholesky_step(const dnn_iteration *it, int threads, void *work)
{
    const dnn_model *model = it->recipe.model;
    const int64_t agents = it->problem.mlp.agents, params = it->problem.mlp.params, blocks[] = {0, params};
    const real *w = it->state.w_old, *y = it->state.y_old;
    real *w_hat = it->state.w_hat;
    char *next = work;
    real *b = carve(&next, model->group * params, (size_t)params * sizeof(real));
    real *diag = carve(&next, model->group * params, sizeof(real));
    dnn_mlp part = it->problem.mlp;
    int failed = 0;
    for (int64_t first = 0; first < agents; first += model->group) {
        int64_t n = min_index(model->group, agents - first), at = first * params;
        part.agents = n, part.offsets = it->problem.mlp.offsets + first, part.w = w + at;
        mlp_gauss_newton(b, &part, &model->root, blocks, 1, threads, next);
        int team = team_size(threads, (double)(n * params) * 0.8e-3);
        FOR_EACH(i, n,
            system_row(diag + i * params, w_hat + at + i * params, w + at + i * params, y + at + i * params,
                it->problem.penalty.l2, (real)it->state.tau[first + i], (real)it->recipe.agents, params))
        spd_solve(w_hat + at, model->status + first, b, diag, w_hat + at, n, blocks, 1, it->problem.mlp.blas, threads);
        for (int64_t i = first; i < first + n; i++) failed |= model->status[i] != 0;
    }
    if (!failed) move_from_step(it, threads);
    return failed;
}

/* The same by conjugate gradients, which do not fail. Parallel as mlp_cg_solve. */
static void conjugate_step(const dnn_iteration *it, int threads, void *work)
{
    const dnn_model *model = it->recipe.model;
    const int64_t agents = it->problem.mlp.agents, params = it->problem.mlp.params;
    const real *w = it->state.w_old, *y = it->state.y_old;
    char *next = work;
    int64_t *n_done = carve(&next, agents, sizeof(int64_t));
    real *diag = carve(&next, agents * params, sizeof(real)), *rhs = carve(&next, agents * params, sizeof(real));
    dnn_mlp mlp = it->problem.mlp;
    mlp.w = w;
    int team = team_size(threads, (double)(agents * params) * 0.8e-3);
    FOR_EACH(i, agents,
        system_row(diag + i * params, rhs + i * params, w + i * params, y + i * params, it->problem.penalty.l2,
            (real)it->state.tau[i], (real)it->recipe.agents, params))
    mlp_cg_solve(it->state.w_hat, n_done, &mlp, &model->root, diag, rhs, model->steps, model->tol, threads, next);
    for (int64_t i = 0; i < agents; i++) model->status[i] = 0;
    move_from_step(it, threads);
}

/* B_i (w_i - w_old_i), what the model predicts for the step, in `work`; NULL where it is not needed. Parallel as the product. */
static const real *predicted(const dnn_iteration *it, int threads, void *work)
{
    if (!it->recipe.model || !it->recipe.rule) return NULL;
    const int64_t params = it->problem.mlp.params, size = it->problem.mlp.agents * params, blocks[] = {0, params};
    const real *w = it->problem.mlp.w, *w_old = it->state.w_old;
    char *next = work;
    real *image = carve(&next, size, sizeof(real)), *step = carve(&next, size, sizeof(real));
    for (int64_t p = 0; p < size; p++) step[p] = w[p] - w_old[p];
    dnn_mlp before = it->problem.mlp;
    before.w = w_old;
    mlp_gauss_newton_product(image, &before, &it->recipe.model->root, step, blocks, 1, threads, next);
    return image;
}

static size_t step_work(const dnn_iteration *it, int threads)
{
    const int64_t agents = it->problem.mlp.agents, params = it->problem.mlp.params;
    size_t gradient = mlp_work(&it->problem.mlp, NULL, threads), most = mix_work(agents, params, threads);
    most = gradient > most ? gradient : most;
    if (it->recipe.model) {
        size_t b = lines(it->recipe.model->group * params, (size_t)params * sizeof(real));
        const int64_t blocks[] = {0, params};
        const dnn_root *root = &it->recipe.model->root;
        size_t solving = b + lines(it->recipe.model->group * params, sizeof(real))
                         + mlp_curvature_work(&it->problem.mlp, root, blocks, 1, threads);
        if (it->recipe.model->steps)
            solving = lines(agents, sizeof(int64_t)) + 2 * lines(agents * params, sizeof(real))
                      + mlp_cg_work(&it->problem.mlp, root, threads);
        size_t predicting = 2 * lines(agents * params, sizeof(real)) + mlp_work(&it->problem.mlp, root, threads);
        most = solving > most ? solving : most;
        most = predicting > most ? predicting : most;
    }
    return most + 2 * lines(agents, sizeof(real));
}

/* One iteration of NEXT on a fixed graph: proximal_step, cholesky_step or conjugate_step; network_mix of z and y with the
 * betas as scalars, mlp_loss_grad, tracker_update, secant_rule (not where rule is NULL). Each does what it does alone,
 * bit by bit; where Cholesky fails, nothing follows. Shapes and aliasing: as there. Parallel as they are. */
static void next_step(const dnn_iteration *it, int threads, void *work)
{
    const int64_t agents = it->problem.mlp.agents, params = it->problem.mlp.params;
    char *next = work;
    real *sent = carve(&next, agents, sizeof(real)), *received = carve(&next, agents, sizeof(real));
    if (!it->recipe.model)
        proximal_step(it->state.z, it->state.w_hat, it->state.w_old, it->state.y_old, it->state.tau, it->recipe.step,
            it->recipe.agents, &it->problem.penalty, agents, params, threads);
    else if (it->recipe.model->steps)
        conjugate_step(it, threads, next);
    else if (cholesky_step(it, threads, next))
        return;
    network_mix((void *)it->problem.mlp.w, it->state.disagreement, it->state.size, it->state.z, &it->mixing.csr,
        it->mixing.rounds, it->mixing.n_rounds, params, threads, next);
    network_mix(it->state.y, NULL, NULL, it->state.y_old, &it->mixing.csr, it->mixing.rounds, it->mixing.n_rounds,
        params, threads, next);
    for (int64_t i = 0; i < agents; i++) sent[i] = (real)it->state.beta[i];
    neighbour_max(received, sent, &it->mixing.csr, 1);
    for (int64_t i = 0; i < agents; i++) it->state.received[i] = it->mixing.n_rounds ? (double)received[i] : 0;
    mlp_loss_grad(it->state.value, it->state.grad, &it->problem.mlp, it->problem.target, it->problem.weight,
        it->problem.loss, it->problem.param, it->problem.scale, threads, next);
    sequel q = {.y = it->state.y,
        .grad = it->state.grad,
        .grad_old = it->state.grad_old,
        .squares = it->state.squares,
        .w = it->problem.mlp.w,
        .w_old = it->state.w_old,
        .y_old = it->state.y_old,
        .model = predicted(it, threads, next),
        .tau = it->recipe.rule ? it->state.tau : NULL,
        .beta = it->state.beta,
        .received = it->state.received,
        .rule = it->recipe.rule,
        .params = params};
    follow(&q, agents, threads);
}
