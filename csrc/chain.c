/* chain.c: chains of the layers of layers.c: values, derivatives along weights and inputs, gradients with one or two
 * adjoints.
 *
 * Rows are taken in chunks, and panels of a few chunks are what a thread takes; the sums of a panel are added in the
 * order of agents and panels. Both sizes follow from the layers alone: no bit depends on `threads`.
 */

typedef struct chain_job {
    const plan *p;
    real *out; /* (A, P), or NULL */
    double *value, *term; /* (A), or NULL */
    void (*panel)(
        const struct chain_job *, chain_space *, int64_t agent, int64_t first, int64_t stop, real *out, double sums[2]);
    real *map, *tangent; /* (M, Q), (K, M, Q): what a map writes */
    const real *target, *weight, *u, *t, *beta, *v; /* rows of data; t, beta (K, M, Q); v (A, P) */
    double param, scale, mu;
    int loss;
} chain_job;

/* Row m of the output of one group. Shapes: out (n, Q). */
static void write_outputs(const plan *p, const chain_space *s, int64_t group, int64_t n, real *out)
{
    const real *last = s->a[p->chain->n_layers] + group * whole_vectors(n);
    turn(out, p->outputs, last, p->ld, p->outputs, n, p->outputs);
}

/* The loss of n samples, weighted, into *value, and its derivative, scaled, in delta. */
static void loss_seed(const chain_job *j, const chain_space *s, int64_t first, int64_t n, real *delta, double *value)
{
    const plan *p = j->p;
    int64_t outputs = p->outputs, last = p->chain->n_layers;
    real *f = s->rows[0], *slope = s->rows[1], scale = (real)j->scale;
    write_outputs(p, s, 0, n, f);
    loss_value_grad(s->value, slope, f, j->target + first * outputs, n, outputs, j->loss, j->param);
    const real *weight = j->weight ? j->weight + first : NULL;
    *value += weighted_sum(s->value, weight, n);
    for (int64_t m = 0; m < n; m++)
        for (int64_t q = 0; q < outputs; q++) slope[m * outputs + q] *= weight ? scale * weight[m] : scale;
    turn_state(&p->d[last], delta, p->ld, slope, outputs, n, n);
}

/* c_m |v - beta_m|^2 of n samples of one group into *term, and its derivative, scaled by mu, in delta. */
static void tangent_seed(
    const chain_job *j, const chain_space *s, int64_t group, int64_t first, int64_t n, real *delta, double *term)
{
    const plan *p = j->p;
    int64_t outputs = p->outputs, last = p->chain->n_layers, rows = p->chain->offsets[p->chain->agents];
    real *share = s->rows[0], scale = (real)(j->scale * j->mu);
    const real *v = s->a[last] + group * whole_vectors(n), *weight = j->weight ? j->weight + first : NULL;
    if (j->beta) {
        const real *beta = (const real *)j->beta + ((group - 1) * rows + first) * outputs;
        turn_state(&p->d[last], delta, p->ld, beta, outputs, n, n);
    }
    for (int64_t m = 0; m < n; m++) s->value[m] = 0, share[m] = weight ? scale * weight[m] : scale;
    for (int64_t q = 0; q < outputs; q++) {
        const real *tangent = v + row_of(&p->a[last], q) * p->ld;
        real *miss = delta + row_of(&p->d[last], q) * p->ld;
        for (int64_t m = 0; m < n; m++) {
            real r = j->beta ? tangent[m] - miss[m] : tangent[m];
            s->value[m] += (double)r * (double)r;
            miss[m] = share[m] * r;
        }
    }
    *term += weighted_sum(s->value, weight, n);
}

/* The deltas behind the last layer, groups side by side; columns that pad a group are zero. */
static void seed_chunk(
    const chain_job *j, const chain_space *s, int64_t first, int64_t n, int64_t groups, double sums[2])
{
    const plan *p = j->p;
    int64_t width = whole_vectors(n), outputs = p->outputs, last = p->chain->n_layers, ld = p->ld;
    int64_t rows = p->chain->offsets[p->chain->agents];
    for (int64_t g = 0; g < groups; g++) {
        real *delta = s->d[last] + g * width;
        if (g == 0 && j->u)
            turn_state(&p->d[last], delta, ld, j->u + first * outputs, outputs, n, n);
        else if (g == 0)
            loss_seed(j, s, first, n, delta, &sums[0]);
        else if (j->u)
            turn_state(&p->d[last], delta, ld, j->t + ((g - 1) * rows + first) * outputs, outputs, n, n);
        else
            tangent_seed(j, s, g, first, n, delta, &sums[1]);
        for (int64_t r = 0; r < p->d[last].rows; r++)
            for (int64_t m = n; m < width; m++) delta[r * ld + m] = 0;
    }
}

/* The sums in the flat layout. Shapes: out (P). Serial. */
static void unpack_chain(const plan *p, const chain_space *s, real *out)
{
    for (int64_t k = 0; k < p->chain->n_layers; k++) {
        const dnn_layer *l = p->chain->layers + k;
        int64_t d = terms_of(l), h = l->filters;
        real *own = out + p->start[k];
        if (!has_weights(l)) continue;
        if (l->kind == DNN_CONV || by_lanes(d, h))
            sum_of_lanes(own, s->sum[k], (d + 1) * h);
        else {
            turn(own, h, s->sum[k], whole_vectors(d), h, d, h);
            sum_of_lanes(own + d * h, s->sum[k] + sum_size(d, h), h);
        }
    }
}

INLINE const real *chain_weights(const dnn_chain *c, int64_t agent) { return (const real *)c->w + agent * c->w_step; }

static void chain_gradient_panel(
    const chain_job *j, chain_space *s, int64_t agent, int64_t first, int64_t stop, real *out, double sums[2])
{
    const plan *p = j->p;
    const real *w = chain_weights(p->chain, agent);
    begin_panel(p, s, w, out != NULL);
    for (int keep = 0; first < stop; first += p->chunk_rows, keep = 1) {
        int64_t n = min_index(stop - first, p->chunk_rows);
        forward_chain(p, s, w, NULL, first, n, p->groups);
        seed_chunk(j, s, first, n, p->groups, sums);
        if (out) backward_chain(p, s, keep, first, n, p->groups);
    }
    if (out) unpack_chain(p, s, out);
}

/* Values and derivatives of a panel into map and tangent. */
static void chain_map_panel(
    const chain_job *j, chain_space *s, int64_t agent, int64_t first, int64_t stop, real *out, double sums[2])
{
    const plan *p = j->p;
    const real *w = chain_weights(p->chain, agent), *move = j->v ? j->v + agent * p->chain->params : NULL;
    int64_t outputs = p->outputs, rows = p->chain->offsets[p->chain->agents];
    (void)out, (void)sums;
    begin_panel(p, s, w, 0);
    if (move && s->packed_move != move) pack_forward(p, s->move, move);
    s->packed_move = move;
    for (; first < stop; first += p->chunk_rows) {
        int64_t n = min_index(stop - first, p->chunk_rows);
        forward_chain(p, s, w, move, first, n, p->groups);
        if (j->map) write_outputs(p, s, 0, n, j->map + first * outputs);
        for (int64_t g = 1; j->tangent && g < p->groups; g++)
            write_outputs(p, s, g, n, j->tangent + ((g - 1) * rows + first) * outputs);
    }
}

/* Panel number t of all agents; what it adds up to goes to *value, *term and `out`, or to s->partial if it is not the
 * first of its agent. Returns the agent. */
static int64_t run_panel(const chain_job *j, chain_space *s, int64_t t, double sums[2])
{
    const plan *p = j->p;
    int64_t agent = 0, stop = p->chain->agents;
    while (stop - agent > 1) { /* the last agent whose first panel is t or before */
        int64_t middle = (agent + stop) / 2;
        if (p->first_panel[middle] <= t)
            agent = middle;
        else
            stop = middle;
    }
    int64_t panel = t - p->first_panel[agent], first = p->chain->offsets[agent] + panel * p->panel_rows;
    real *out = j->out ? panel ? s->partial : j->out + agent * p->chain->params : NULL;
    sums[0] = sums[1] = 0;
    j->panel(j, s, agent, first, min_index(p->chain->offsets[agent + 1], first + p->panel_rows), out, sums);
    return agent;
}

/* Called in the order of t. */
static void add_chain_panel(const chain_job *j, const chain_space *s, int64_t t, int64_t agent, const double sums[2])
{
    const plan *p = j->p;
    if (j->value) j->value[agent] += j->scale * sums[0];
    if (j->term) j->term[agent] += 0.5 * j->scale * j->mu * sums[1];
    if (j->out && t > p->first_panel[agent]) axpy(j->out + agent * p->chain->params, 1, s->partial, p->chain->params);
}

/* A guess of the microseconds of one forward sweep, at 30 flops per ns. */
static double guess_chain(const plan *p)
{
    return (double)p->chain->offsets[p->chain->agents] * (double)p->groups * chain_flops(p) / 30e3;
}

/* All panels of all agents. Panels are parallel, their sums are added in order. */
static void run_chain(const dnn_chain *chain, chain_job *j, int64_t groups, double sweeps, int threads, void *work)
{
    plan p;
    char *next = work;
    lay_out(&p, chain, groups);
    list_rows(&p, &next);
    j->p = &p;
    size_t bytes = space_bytes(&p);
    for (int64_t i = 0; i < chain->agents; i++) {
        if (j->value) j->value[i] = 0;
        if (j->term) j->term[i] = 0;
        if (j->out && chain->offsets[i + 1] == chain->offsets[i])
            memset(j->out + i * chain->params, 0, (size_t)chain->params * sizeof(real));
    }
    int team = (int)min_index(team_size(threads, sweeps * guess_chain(&p)), p.n_panels);
    if (team <= 1) {
        chain_space s;
        cut_chain(&s, &p, &next);
        for (int64_t t = 0; t < p.n_panels; t++) {
            double sums[2];
            int64_t agent = run_panel(j, &s, t, sums);
            add_chain_panel(j, &s, t, agent, sums);
        }
        return;
    }
#pragma omp parallel num_threads(team)
    {
        chain_space s;
        char *mine = next + bytes * (size_t)thread_number();
        cut_chain(&s, &p, &mine);
#pragma omp for ordered schedule(dynamic, 1)
        for (int64_t t = 0; t < p.n_panels; t++) {
            double sums[2];
            int64_t agent = run_panel(j, &s, t, sums);
#pragma omp ordered
            add_chain_panel(j, &s, t, agent, sums);
        }
    }
}

/* out_m = F(w_i; x_m), tangent_km = DF(x_m) v_km. Shapes: out (M, Q), tangent (K, M, Q) or NULL. Aliasing: none.
 * Panels are parallel. */
static void chain_forward(void *out, void *tangent, const dnn_chain *chain, int threads, void *work)
{
    chain_job j = {.panel = chain_map_panel, .map = out, .tangent = tangent};
    run_chain(chain, &j, tangent ? 1 + chain->n_directions : 1, 1, threads, work);
}

/* out_m = nabla F(w_i; x_m) v_i. Shapes: out (M, Q), v (A, P). Aliasing: none. Panels are parallel. */
static void chain_jv(void *out, const dnn_chain *chain, const void *v, int threads, void *work)
{
    chain_job j = {.panel = chain_map_panel, .tangent = out, .v = v};
    run_chain(chain, &j, 2, 1.5, threads, work);
}

/* out_i = the gradient of sum_m <u_m, F(w_i; x_m)> + sum_km <t_km, DF(x_m) v_km> in w_i. Shapes: out (A, P), u (M, Q),
 * t (K, M, Q) or NULL for the first sum alone. Aliasing: none. Panels are parallel, their sums are added in order. */
static void chain_jtu(void *out, const dnn_chain *chain, const void *u, const void *t, int threads, void *work)
{
    chain_job j = {.panel = chain_gradient_panel, .out = out, .u = u, .t = t};
    run_chain(chain, &j, t ? 1 + chain->n_directions : 1, 3, threads, work);
}

/* value_i = scale sum_m c_m loss(d_m, F(w_i; x_m)), term_i = scale mu / 2 sum_km c_m |DF(x_m) v_km - beta_km|^2, and
 * grad_i = the gradient of their sum. Shapes: value, term (A), grad (A, P) or NULL, target (M, Q), weight (M) or NULL,
 * beta (K, M, Q) or NULL for zeros. Aliasing: none. Panels are parallel, their sums are added in order. */
static void chain_loss_grad(double *value, double *term, void *grad, const dnn_chain *chain, const void *target,
    const void *weight, const void *beta, int loss, double param, double scale, double mu, int threads, void *work)
{
    chain_job j = {.panel = chain_gradient_panel,
        .out = grad,
        .value = value,
        .term = term,
        .target = target,
        .weight = weight,
        .beta = beta,
        .param = param,
        .scale = scale,
        .mu = mu,
        .loss = loss};
    run_chain(chain, &j, 1 + chain->n_directions, grad ? 3 : 1, threads, work);
}
