/* cg_solve.c: conjugate gradients on the Gauss-Newton matrix of every agent, all steps in one call.
 *
 * An agent ends on its own numbers alone. Either threads take whole agents, which then need not wait for one another, or
 * all threads share every step of all agents; the sums are the same. Hidden activations and roots of the first chunks,
 * KEPT_BYTES together, are made by the first product and stay for the others.
 */

enum { KEPT_BYTES = 1 << 24 };

/* One call. */
typedef struct {
    workspaces h;
    job product;
    summing sum;
    kept_chunks kept;
    int64_t *start; /* (A): of kept */
    conjugate rows;
    double *energy[2], *goal; /* (A) each: |residual|^2 by turns, and where an agent ends */
    double *part[2]; /* (A, strips): sums over strips */
    int64_t *n_done, n_iter, strips;
    double tol;
} cg_call;

/* A product of the agents that have not ended. */
typedef struct {
    job product; /* first, so that this is a job, too */
    const double *energy, *goal;
} cg_product;

static int64_t cg_parts(const void *call, int64_t agent)
{
    const cg_product *p = call;
    return p->energy[agent] > p->goal[agent] ? job_parts(call, agent) : 0;
}

/* Room for one call, cut from *work, or only measured. */
static void cut_cg(cg_call *c, char **work, const dnn_mlp *mlp, int threads)
{
    int64_t agents = mlp->agents, params = mlp->params, numbers = 0;
    c->start = carve(work, agents, sizeof(int64_t));
    for (int64_t i = 0; i < agents; i++) numbers += agent_numbers(&c->product, rows_of(mlp, i));
    numbers = min_index(numbers, KEPT_BYTES / (int64_t)sizeof(real));
    for (int k = 0; k < 2; k++) {
        c->energy[k] = carve(work, agents, sizeof(double));
        c->part[k] = carve(work, agents * c->strips, sizeof(double));
    }
    c->goal = carve(work, agents, sizeof(double));
    c->rows.image = carve(work, agents * params, sizeof(real));
    c->rows.residual = carve(work, agents * params, sizeof(real));
    c->rows.direction = carve(work, agents * params, sizeof(real));
    cut_places(&c->sum, work, most_parts(mlp), threads);
    c->kept = (kept_chunks){carve(work, numbers, sizeof(real)), numbers, c->start, 0, NULL};
}

/* Where the kept chunks of the agents begin; once for all threads of a parallel region, or outside of one. */
static void place_agents(const cg_call *c)
{
    const dnn_mlp *mlp = c->h.mlp;
#pragma omp single
    for (int64_t i = 0, numbers = 0; i < mlp->agents; i++) {
        c->start[i] = numbers;
        numbers += agent_numbers(&c->product, rows_of(mlp, i));
    }
}

/* One call in a workspace cut from *work, or only measured. */
static cg_call open_cg(const dnn_mlp *mlp, const dnn_root *root, char **work, int threads)
{
    cg_call c = {.h = open_products(mlp, root, *work), .strips = strips_of(mlp->params)};
    c.product = (job){.mlp = mlp,
        .root = root,
        .chunk_rows = gradient_rows(mlp),
        .panel = product_panel,
        .repeats = 1,
        .held_rows = hidden_rows(mlp) + root_rows(mlp, root)};
    c.sum = (summing){.part = job_part, .numbers = mlp->params};
    c.rows.params = mlp->params;
    carve(work, (int64_t)(c.h.bytes * (size_t)threads), 1);
    cut_cg(&c, work, mlp, threads);
    return c;
}

static size_t mlp_cg_work(const dnn_mlp *mlp, const dnn_root *root, int threads)
{
    char *next = NULL;
    open_cg(mlp, root, &next, threads);
    return (size_t)(uintptr_t)next;
}

/* |rhs|^2 of a strip; step <- 0, residual and direction <- rhs. */
static double start_strip(const void *call, int64_t at, int64_t n, double factor)
{
    const conjugate *c = call;
    (void)factor;
    memset(c->step + at, 0, (size_t)n * sizeof(real));
    memcpy(c->residual + at, c->rhs + at, (size_t)n * sizeof(real));
    memcpy(c->direction + at, c->rhs + at, (size_t)n * sizeof(real));
    doubles sum[2] = {{0}, {0}};
    for (int64_t p = 0, odd = 0; p < n; p += DOUBLES, odd = 1 - odd) {
        doubles left = widen_at(c->rhs + at + p, n - p);
        sum[odd] += left * left;
    }
    return sum_doubles(sum[0] + sum[1]);
}

/* out_i = NaN where |rhs_i|^2 is not finite: nothing solves it. Serial. */
static void mark_lost(const cg_call *c, int64_t i, double energy)
{
    real *step = c->rows.step + i * c->rows.params;
    for (int64_t p = 0; p < c->rows.params && !(energy < (double)INFINITY); p++) step[p] = (real)NAN;
}

/* One agent, all steps, in workspace r. Serial. */
static void cg_agent(const cg_call *c, workspace *r, int64_t i, int thread)
{
    real *place = c->sum.places + (c->sum.n_places ? thread * place_stride(c->sum.numbers) : 0);
    cg_product p = {c->product, c->energy[0], c->goal};
    kept_chunks kept = c->kept;
    summing sum = c->sum;
    conjugate rows = c->rows;
    int64_t k = 0;
    sum.h = &c->h, sum.call = &p, sum.parts = job_parts, p.product.kept = &kept;
    rows.strip = start_strip;
    double energy = conjugate_row(&rows, i, 0), goal = c->tol * c->tol * energy;
    mark_lost(c, i, energy);
    for (; k < c->n_iter && energy > goal; k++, kept.is_filled = 1) {
        sum_agent(&sum, r, i, place);
        rows.strip = curve_strip;
        double length = energy / conjugate_row(&rows, i, 0);
        rows.strip = step_strip;
        double after = conjugate_row(&rows, i, length);
        rows.strip = turn_strip;
        conjugate_row(&rows, i, after / energy);
        energy = after;
    }
    c->n_done[i] = k;
}

static void cg_agent_in(const cg_call *c, int64_t i, int thread)
{
    workspace r = workspace_of(&c->h, thread);
    cg_agent(c, &r, i, thread);
}

INLINE double sum_strips(const double *part, int64_t strips)
{
    double sum = 0;
    for (int64_t k = 0; k < strips; k++) sum += part[k];
    return sum;
}

/* Strip number u of all agents, in the four phases of a step: start, curve, step, turn. */
static void cg_unit(const cg_call *c, conjugate *rows, int64_t u, int phase, int64_t done)
{
    int64_t i = u / c->strips, k = u % c->strips;
    const double *energy = c->energy[done % 2];
    double *curve = c->part[0], *after = c->part[1], factor = 0;
    if (phase > 0 && !(energy[i] > c->goal[i])) {
        if (phase == 3 && k == 0) c->energy[1 - done % 2][i] = energy[i];
        return;
    }
    if (phase == 2) factor = energy[i] / sum_strips(curve + i * c->strips, c->strips);
    if (phase == 3) {
        double next = sum_strips(after + i * c->strips, c->strips);
        factor = next / energy[i];
        if (k == 0) c->energy[1 - done % 2][i] = next, c->n_done[i] = done + 1;
    }
    double sum = conjugate_strip(rows, i, k, factor);
    if (phase < 2)
        curve[u] = sum;
    else if (phase == 2)
        after[u] = sum;
}

/* All agents, step by step, within a parallel region. */
static void cg_together(const cg_call *c)
{
    static double (*const strip[])(const void *, int64_t, int64_t, double) = {
        start_strip, curve_strip, step_strip, turn_strip};
    const int team = WITHIN;
    const int64_t agents = c->h.mlp->agents, units = agents * c->strips;
    cg_product p = {c->product, NULL, c->goal};
    kept_chunks kept = c->kept;
    summing sum = c->sum;
    conjugate rows = c->rows;
    sum.h = &c->h, sum.call = &p, sum.parts = cg_parts, p.product.kept = &kept;
    rows.strip = start_strip;
    FOR_EACH(u, units, cg_unit(c, &rows, u, 0, 0))
    FOR_EACH(i, agents, {
        double energy = sum_strips(c->part[0] + i * c->strips, c->strips);
        c->energy[0][i] = energy, c->goal[i] = c->tol * c->tol * energy, c->n_done[i] = 0;
        mark_lost(c, i, energy);
    })
    for (int64_t done = 0; done < c->n_iter; done++, kept.is_filled = 1) {
        int any = 0;
        p.energy = c->energy[done % 2];
        for (int64_t i = 0; i < agents; i++) any |= p.energy[i] > c->goal[i];
        if (!any) break;
        sum_waves(&sum);
        for (int phase = 1; phase < 4; phase++) {
            rows.strip = strip[phase];
            FOR_EACH(u, units, cg_unit(c, &rows, u, phase, done))
        }
    }
}

/* A guess of the nanoseconds that all steps take per sample. */
static double cg_cost(const dnn_mlp *mlp, int64_t n_iter)
{
    return row_work(mlp) * 1.2 * (double)min_index(n_iter, 10);
}

/* out_i = (A_i + diag(diag_i))^-1 rhs_i, A_i = sum_m J_m' S_m S_m' J_m, by conjugate gradients from 0: until |residual_i|
 * <= tol |rhs_i|, n_iter steps at most; n_done_i: how many. Where |rhs_i|^2 is not finite, out_i is NaN.
 * Shapes: out, diag, rhs (A, P), n_done (A). Aliasing: none. Agents are parallel, or where they are few or uneven, the
 * parts of their rows and strips of their vectors. */
static void mlp_cg_solve(void *out, int64_t *n_done, const dnn_mlp *mlp, const dnn_root *root, const void *diag,
    const void *rhs, int64_t n_iter, double tol, int threads, void *work)
{
    char *next = work;
    cg_call c = open_cg(mlp, root, &next, threads);
    place_agents(&c);
    c.n_done = n_done, c.n_iter = n_iter, c.tol = tol;
    c.sum.out = c.rows.image, c.rows.step = out, c.rows.diag = diag, c.rows.rhs = rhs;
    c.product.out = c.rows.image, c.product.direction = c.rows.direction;
    double rows = (double)(mlp->offsets[mlp->agents] - mlp->offsets[0]);
    int team = team_size(threads, cg_cost(mlp, n_iter) * rows * 1e-3);
    if (team == 1 || by_agents(&c.h, team)) {
        FOR_EACH(i, mlp->agents, cg_agent_in(&c, i, thread))
    } else {
#pragma omp parallel num_threads(team)
        cg_together(&c);
    }
}
