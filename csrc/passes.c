/* passes.c: f, J v and J'u of all rows. */

static void jtu_chunk(
    const job *j, const workspace *r, int64_t agent, int64_t first, int64_t stop, real keep, real *out)
{
    const dnn_mlp *mlp = j->mlp;
    int64_t n = stop - first, outputs = outputs_of(mlp);
    const real *w = weights_of(mlp, agent), *x = inputs_of(mlp, first);
    forward_chunk(r, mlp, w, x, n);
    memcpy(r->delta[0], j->direction + first * outputs, (size_t)(n * outputs) * sizeof(real));
    backward_chunk(r, mlp, w, x, n, keep, out);
}

/* out_i = sum_m J_m(w_i)' u_m. Shapes: out (A, P), u (M, Q). Aliasing: none.
 * Agents are parallel, or the panels of one agent after another. */
static void mlp_jtu(void *out, const dnn_mlp *mlp, const void *u, int threads, void *work)
{
    job j = {
        .mlp = mlp, .out = out, .chunk_rows = chunk_rows(mlp), .panel = sum_chunks, .chunk = jtu_chunk, .direction = u};
    sum_job(&j, guess_work(mlp) * 1.5, threads, work);
}

/* Rows of a chunk of an agent. */
INLINE int64_t map_rows(const dnn_mlp *mlp, int64_t agent)
{
    return min_index(chunk_rows(mlp), part_rows(mlp, rows_of(mlp, agent)));
}

/* f or J v of one chunk. Shapes: out (M, Q), v (A, P) or NULL for f. Aliasing: none. Serial. */
static void map_chunk(real *out, const workspaces *h, const real *v, int64_t agent, int64_t chunk, int thread)
{
    const dnn_mlp *mlp = h->mlp;
    workspace r = workspace_of(h, thread);
    int64_t step = map_rows(mlp, agent), outputs = outputs_of(mlp), first = mlp->offsets[agent] + chunk * step;
    int64_t n = min_index(step, mlp->offsets[agent + 1] - first);
    const real *w = weights_of(mlp, agent), *x = inputs_of(mlp, first), *result = r.a[mlp->n_layers];
    forward_chunk(&r, mlp, w, x, n);
    if (v) result = tangent_chunk(&r, mlp, w, v + agent * mlp->params, x, n);
    memcpy(out + first * outputs, result, (size_t)(n * outputs) * sizeof(real));
}

static void map_agent(real *out, const workspaces *h, const real *v, int64_t agent, int thread)
{
    int64_t chunks = ceil_div(rows_of(h->mlp, agent), map_rows(h->mlp, agent));
    for (int64_t c = 0; c < chunks; c++) map_chunk(out, h, v, agent, c, thread);
}

/* f or J v of all rows. Agents are parallel, or the chunks of one agent after another. */
static void map_agents(real *out, const dnn_mlp *mlp, const real *v, double microseconds, int threads, char *work)
{
    workspaces h = open_workspaces(mlp, NULL, work);
    int team = team_size(threads, microseconds);
    if (team == 1 || by_agents(&h, team)) {
        FOR_EACH(i, mlp->agents, map_agent(out, &h, v, i, thread))
        return;
    }
    for (int64_t i = 0; i < mlp->agents; i++) {
        int64_t chunks = ceil_div(rows_of(mlp, i), map_rows(mlp, i));
        FOR_EACH(c, chunks, map_chunk(out, &h, v, i, c, thread))
    }
}

/* out_m = f(w_i; x_m). Shapes: out (M, Q). Aliasing: none. Agents are parallel, or chunks of one after another. */
static void mlp_forward(void *out, const dnn_mlp *mlp, int threads, void *work)
{
    map_agents(out, mlp, NULL, guess_work(mlp) * 0.6, threads, work);
}

/* out_m = J_m(w_i) v_i. Shapes: out (M, Q), v (A, P). Aliasing: none. Agents are parallel, or chunks of one. */
static void mlp_jv(void *out, const dnn_mlp *mlp, const void *v, int threads, void *work)
{
    map_agents(out, mlp, v, guess_work(mlp) * 1.2, threads, work);
}
