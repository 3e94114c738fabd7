/* iteration.c: one iteration of NEXT in one call, of parts that need no decision in between.
 *
 * One team goes through all of it: threads are woken once, and steps too short for a team of their own are shared out as
 * well. Where threads take whole agents, an agent goes through all that does not need the others at one go: S.1, and from
 * the gradient to tau. Between these, columns are mixed, panel by panel.
 */

/* One iteration under way. Every thread has one of its own, all alike. */
typedef struct {
    const dnn_iteration *it;
    const dnn_model *model; /* or NULL */
    int threads; /* WITHIN a parallel region, or 1 */
    int many; /* threads that have places in the workspace */
    int by_agents; /* whether threads take whole agents */
    dnn_mlp before; /* the networks with the weights of before */
    dnn_root root; /* of the model */
    real *made; /* (M, Q) or (M, Q, Q): the same where it is made here, else NULL */
    real *sent, *received; /* (A) */
    row_sums *sums; /* (STRIPS) */
    blend w, y;
    real *diag, *rhs, *moved, *image; /* (A, P): the linear system, w - w_old, B (w - w_old) */
    int64_t *n_done; /* (A) */
    cg_call cg;
    job gradient, product, rooting;
    workspaces in_gradient, in_product, in_rooting;
    summing sum_gradient, sum_product;
    kept_chunks kept; /* of conjugate gradients, for the product */
    sequel next;
    char *solving; /* the rest of the workspace, where B is formed and factored */
} course;

INLINE int has_product(const course *c) { return c->model && c->it->recipe.rule; }
INLINE int is_conjugate(const course *c) { return c->model && c->model->steps > 0; }

/* S.1 of the model: places in *work. */
static void open_model(course *c, char **work)
{
    const dnn_iteration *it = c->it;
    const dnn_model *model = c->model;
    const int64_t agents = it->problem.mlp.agents, params = it->problem.mlp.params;
    const int64_t rows = it->problem.mlp.offsets[agents] - it->problem.mlp.offsets[0];
    c->root = model->root;
    if (!model->root.root) {
        c->made = carve(work, rows * outputs_of(&c->before) * (c->root.diagonal ? 1 : c->root.columns), sizeof(real));
        c->root.root = c->made;
    }
    c->diag = carve(work, agents * params, sizeof(real));
    if (is_conjugate(c)) {
        c->rhs = carve(work, agents * params, sizeof(real)), c->n_done = carve(work, agents, sizeof(int64_t));
        c->cg = open_cg(&c->before, &c->root, work, c->many);
        c->cg.n_done = c->n_done, c->cg.n_iter = model->steps, c->cg.tol = model->tol;
        c->cg.sum.out = c->cg.rows.image, c->cg.rows.step = it->state.w_hat;
        c->cg.rows.diag = c->diag, c->cg.rows.rhs = c->rhs;
        c->cg.product.out = c->cg.rows.image, c->cg.product.direction = c->cg.rows.direction;
        c->cg.kept.is_filled = c->made != NULL;
        c->kept = c->cg.kept, c->kept.n_done = c->n_done;
    }
    if (has_product(c)) {
        double each;
        c->moved = carve(work, agents * params, sizeof(real)), c->image = carve(work, agents * params, sizeof(real));
        c->product = product_job(c->image, &c->before, &c->root, c->moved, model->blocks, model->n_blocks, &each);
        c->in_product = open_job(&c->product);
        c->sum_product = open_sum(&c->product, &c->in_product, work, c->many);
        if (is_conjugate(c)) c->product.kept = &c->kept;
    }
    if (c->made) {
        c->rooting = (job){.mlp = &c->before,
            .root = &c->root,
            .target = it->problem.target,
            .chunk_rows = gradient_rows(&c->before),
            .held_rows = hidden_rows(&c->before) + root_rows(&c->before, &c->root),
            .loss = it->problem.loss,
            .param = it->problem.param,
            .kept = is_conjugate(c) ? &c->cg.kept : NULL};
        c->in_rooting = open_products(&c->before, &c->root, NULL);
        c->in_rooting.work = carve(work, (int64_t)(c->in_rooting.bytes * (size_t)c->many), 1);
    }
    c->solving = *work;
}

/* All places of an iteration for so many threads, in `work`, or only measured: returns their bytes. */
static size_t open_course(course *c, const dnn_iteration *it, int threads, int many, void *work)
{
    const dnn_mlp *mlp = &it->problem.mlp;
    char *next = work;
    *c = (course){.it = it, .model = it->recipe.model, .threads = threads, .many = many, .before = *mlp};
    c->before.w = it->state.w_old;
    c->sent = carve(&next, mlp->agents, sizeof(real)), c->received = carve(&next, mlp->agents, sizeof(real));
    c->sums = carve(&next, STRIPS, sizeof(row_sums));
    char *mixing = carve(&next, (int64_t)mix_work(mlp->agents, mlp->params, many), 1);
    if (work) {
        c->w = open_blend((real *)mlp->w, it->state.z, &it->mixing.csr, it->mixing.rounds, it->mixing.n_rounds,
            mlp->params, 1, many, mixing);
        c->y = open_blend(it->state.y, it->state.y_old, &it->mixing.csr, it->mixing.rounds, it->mixing.n_rounds,
            mlp->params, 0, many, mixing);
    }
    c->gradient = gradient_job(it->state.value, it->state.grad, mlp, it->problem.target, it->problem.weight,
        it->problem.loss, it->problem.param, it->problem.scale);
    c->in_gradient = open_job(&c->gradient);
    c->by_agents = by_agents(&c->in_gradient, many);
    c->sum_gradient = open_sum(&c->gradient, &c->in_gradient, &next, many);
    if (c->model) open_model(c, &next);
    c->next = (sequel){.y = it->state.y,
        .grad = it->state.grad,
        .grad_old = it->state.grad_old,
        .squares = it->state.squares,
        .w = mlp->w,
        .w_old = it->state.w_old,
        .y_old = it->state.y_old,
        .model = c->image,
        .tau = it->recipe.rule ? it->state.tau : NULL,
        .beta = it->state.beta,
        .received = it->state.received,
        .rule = it->recipe.rule,
        .params = mlp->params};
    return (size_t)((uintptr_t)next - (uintptr_t)work);
}

static size_t step_work(const dnn_iteration *it, int threads)
{
    course c;
    size_t bytes = open_course(&c, it, threads, threads, NULL);
    const dnn_model *model = it->recipe.model;
    if (model && !model->steps)
        bytes += lines(model->group * dnn_packed_size(model->blocks, model->n_blocks), sizeof(real))
                 + mlp_curvature_work(&it->problem.mlp, &model->root, model->blocks, model->n_blocks, threads);
    return bytes;
}

/* The root of part k of an agent's rows. Serial. */
static void make_root(const course *c, workspace *r, int64_t agent, int64_t part)
{
    const int64_t *offsets = c->before.offsets + agent, rows = part_rows(&c->before, offsets[1] - offsets[0]);
    int64_t first = offsets[0] + part * rows;
    root_panel(&c->rooting, r, agent, first, min_index(offsets[1], first + rows), c->made, c->model->share);
}

static void make_roots_of(const course *c, workspace *r, int64_t agent)
{
    for (int64_t k = 0, parts = job_parts(&c->rooting, agent); k < parts; k++) make_root(c, r, agent, k);
}

/* The roots of all agents. Agents are parallel, or all parts of them. */
static void make_roots(const course *c)
{
    const int team = c->threads;
    const int64_t agents = c->before.agents;
    if (c->by_agents) {
        FOR_EACH(i, agents, {
            workspace r = workspace_of(&c->in_rooting, thread);
            make_roots_of(c, &r, i);
        })
        return;
    }
    workspace r = workspace_of(&c->in_rooting, thread_number());
    for (int64_t i = 0; i < agents; i++) {
        int64_t parts = job_parts(&c->rooting, i);
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t k = 0; k < parts; k++) make_root(c, &r, i, k);
    }
    wait_for(team_present());
}

/* Numbers start .. stop - 1 of row i of the linear system; by Cholesky, which takes it from there, rhs is w_hat. */
static void system_part(const course *c, int64_t i, int64_t start, int64_t stop)
{
    const dnn_iteration *it = c->it;
    const int64_t at = i * c->before.params + start;
    const real *w = it->state.w_old, *y = it->state.y_old, *l2 = it->problem.penalty.l2;
    real *rhs = c->rhs ? c->rhs : it->state.w_hat;
    system_row(c->diag + at, rhs + at, w + at, y + at, l2 + start, (real)it->state.tau[i], (real)it->recipe.agents,
        stop - start);
}

/* w_hat += w_old, which makes the minimiser of the step to it, and z = w_old + step (w_hat - w_old), in n numbers. */
static void move_part(const course *c, int64_t at, int64_t n)
{
    const real *w = c->it->state.w_old;
    real *w_hat = c->it->state.w_hat, *z = c->it->state.z;
    for (int64_t p = at; p < at + n; p++) w_hat[p] += w[p];
    move_piece(z + at, w + at, w_hat + at, (real)c->it->recipe.step, n);
}

/* The pieces of all rows, one after another, in both. Pieces are parallel. */
static void move_all(const course *c)
{
    const int team = c->threads;
    const int64_t numbers = c->before.agents * c->before.params;
    FOR_EACH(k, ceil_div(numbers, PIECE), move_part(c, k * PIECE, min_index(PIECE, numbers - k * PIECE)))
}

static void make_systems(const course *c, int64_t first, int64_t stop)
{
    const int team = c->threads;
    const int64_t params = c->before.params, pieces = ceil_div(params, PIECE);
    FOR_EACH(k, (stop - first) * pieces,
        system_part(c, first + k / pieces, k % pieces * PIECE, min_index(params, (k % pieces + 1) * PIECE)))
}

/* w_hat_i = w_i - (B_i + tau_i + l2)^-1 (agents y_i + l2 w_i), the partially linearised best response with the penalty
 * l2, by Cholesky, and z_i = w_i + step (w_hat_i - w_i); returns whether one failed: z is then not made, and w_hat is
 * unfinished. Parallel as mlp_gauss_newton and spd_solve. */
static int cholesky_step(const course *c)
{
    const dnn_model *model = c->model;
    const int64_t agents = c->before.agents, params = c->before.params;
    char *next = c->solving;
    real *b = carve(&next, model->group * dnn_packed_size(model->blocks, model->n_blocks), sizeof(real));
    real *w_hat = c->it->state.w_hat;
    int failed = 0;
    if (c->made) make_roots(c);
    for (int64_t first = 0; first < agents; first += model->group) {
        int64_t n = min_index(model->group, agents - first), at = first * params;
        dnn_mlp part = c->before;
        part.agents = n, part.offsets += first, part.w = (const real *)part.w + at;
        mlp_gauss_newton(b, &part, &c->root, model->blocks, model->n_blocks, c->threads, next);
        make_systems(c, first, first + n);
        spd_solve(w_hat + at, model->status + first, b, c->diag + at, w_hat + at, n, model->blocks, model->n_blocks,
            c->before.blas, c->threads);
        for (int64_t i = first; i < first + n; i++) failed |= model->status[i] != 0;
    }
    if (!failed) move_all(c);
    return failed;
}

/* The same by conjugate gradients, which do not fail, of one agent. Serial. */
static void conjugate_agent(const course *c, int64_t i, int thread)
{
    const int64_t params = c->before.params;
    workspace r = workspace_of(&c->cg.h, thread);
    if (c->made) make_roots_of(c, &r, i);
    system_part(c, i, 0, params);
    cg_agent(&c->cg, &r, i, thread);
    c->model->status[i] = 0;
    for (int64_t p = 0; p < params; p += PIECE) move_part(c, i * params + p, min_index(PIECE, params - p));
}

/* Agents are parallel, or parts of them. */
static void conjugate_step(const course *c)
{
    const int team = c->threads;
    const int64_t agents = c->before.agents;
    place_agents(&c->cg);
    if (c->by_agents) {
        FOR_EACH(i, agents, conjugate_agent(c, i, thread))
        return;
    }
    if (c->made) make_roots(c);
    make_systems(c, 0, agents);
    cg_together(&c->cg);
    FOR_EACH(i, agents, c->model->status[i] = 0)
    move_all(c);
}

/* The largest beta of the neighbours. Serial. */
static void exchange_betas(const course *c)
{
    const dnn_iteration *it = c->it;
    const int64_t agents = c->before.agents;
    for (int64_t i = 0; i < agents; i++) c->sent[i] = (real)it->state.beta[i];
    neighbour_max(c->received, c->sent, &it->mixing.csr, 1);
    for (int64_t i = 0; i < agents; i++) it->state.received[i] = it->mixing.n_rounds ? (double)c->received[i] : 0;
}

/* Whether the response of full linearisation is made column by column, on the way to mixing. */
INLINE int responds_by_columns(const course *c) { return !c->model && c->it->problem.penalty.n_groups == 0; }

/* A panel of w and z, with the response before it, or of y. Serial. */
static void mix_panel(const course *c, int64_t panel, int is_w, int thread)
{
    const dnn_iteration *it = c->it;
    const int64_t params = c->before.params;
    if (!is_w) {
        blend_panel(&c->y, panel, thread);
        return;
    }
    for (int64_t i = 0; i < c->before.agents && responds_by_columns(c); i++) {
        int64_t at = i * params;
        proximal_part((real *)it->state.z + at, (real *)it->state.w_hat + at, (const real *)it->state.w_old + at,
            (const real *)it->state.y_old + at, it->state.tau[i], (real)it->recipe.step, it->recipe.agents,
            &it->problem.penalty, panel, min_index(params, panel + PANEL));
    }
    blend_panel(&c->w, panel, thread);
}

/* S.2. Panels of both arrays are parallel. */
static void mix_all(const course *c)
{
    const int team = c->threads;
    FOR_EACH(u, 1 + 2 * panels_of(c->before.params), {
        if (u == 0)
            exchange_betas(c);
        else
            mix_panel(c, (u - 1) / 2 * PANEL, u % 2 == 1, thread);
    })
}

/* moved = w - w_old, in n numbers. Serial. */
static void difference(const course *c, int64_t at, int64_t n)
{
    const real *w = c->it->problem.mlp.w, *w_old = c->it->state.w_old;
    for (int64_t p = at; p < at + n; p++) c->moved[p] = w[p] - w_old[p];
}

/* S.3 and the rule for tau, of one agent. Serial. */
static void finish_agent(const course *c, int64_t i, int thread)
{
    const int64_t params = c->before.params;
    sum_agent_in(&c->sum_gradient, i, thread);
    if (has_product(c)) {
        difference(c, i * params, params);
        sum_agent_in(&c->sum_product, i, thread);
    }
    follow_row(&c->next, i);
    finish_blend(&c->w, i, c->it->state.disagreement, c->it->state.size);
}

/* The same of all. Agents are parallel, or parts of them. */
static void finish_all(const course *c)
{
    const int team = c->threads;
    const int64_t agents = c->before.agents, numbers = agents * c->before.params;
    if (c->by_agents) {
        FOR_EACH(i, agents, finish_agent(c, i, thread))
        return;
    }
    if (has_product(c)) {
        FOR_EACH(k, ceil_div(numbers, PIECE), difference(c, k * PIECE, min_index(PIECE, numbers - k * PIECE)))
    }
    sum_parts(&c->sum_gradient, 0, c->threads);
    if (has_product(c)) sum_parts(&c->sum_product, 0, c->threads);
    follow_in(&c->next, agents, c->threads, c->sums);
    FOR_EACH(i, agents, finish_blend(&c->w, i, c->it->state.disagreement, c->it->state.size))
}

/* An iteration by one thread, or by all of a parallel region. */
static void iterate(const dnn_iteration *it, int threads, void *work)
{
    course c;
    open_course(&c, it, threads, threads_of(threads), work);
    if (is_conjugate(&c))
        conjugate_step(&c);
    else if (c.model) {
        if (cholesky_step(&c)) return;
    } else if (!responds_by_columns(&c))
        proximal_step(it->state.z, it->state.w_hat, it->state.w_old, it->state.y_old, it->state.tau, it->recipe.step,
            it->recipe.agents, &it->problem.penalty, c.before.agents, c.before.params, threads);
    mix_all(&c);
    finish_all(&c);
}

/* A guess of the microseconds that an iteration takes. */
static double iteration_cost(const dnn_iteration *it)
{
    const dnn_mlp *mlp = &it->problem.mlp;
    const dnn_model *model = it->recipe.model;
    double rows = (double)(mlp->offsets[mlp->agents] - mlp->offsets[0]), numbers = (double)(mlp->agents * mlp->params);
    double cost = rows * row_work(mlp) + numbers * (1.3 + (double)(it->mixing.n_rounds + 1));
    if (!model) return cost * 1e-3;
    if (!model->root.root) cost += rows * row_work(mlp) * 0.4;
    if (model->steps) return (cost + rows * (cg_cost(mlp, model->steps) + row_work(mlp))) * 1e-3;
    curvature c = open_curvature(mlp, &model->root, model->blocks, model->n_blocks);
    return (cost + curvature_cost(&c) + (double)mlp->agents * solve_cost(model->blocks, model->n_blocks)) * 1e-3;
}

/* One iteration of NEXT on a fixed graph: proximal_step, or with a model the solution of its system by spd_solve or
 * mlp_cg_solve, where root is NULL with the root of the loss at w_old, times share; network_mix of z and y with the
 * betas as scalars, mlp_loss_grad, tracker_update, secant_rule (not where rule is NULL). Each does what it does alone,
 * bit by bit; where Cholesky fails, nothing follows. Shapes and aliasing: as there. Agents are parallel, or parts of
 * them, and panels of columns. */
static void next_step(const dnn_iteration *it, int threads, void *work)
{
    int team = team_size(threads, iteration_cost(it));
    if (team == 1) {
        iterate(it, 1, work);
        return;
    }
#pragma omp parallel num_threads(team)
    iterate(it, WITHIN, work);
}
