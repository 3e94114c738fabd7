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
 * Agents are parallel, or parts of them. */
static void mlp_jtu(void *out, const dnn_mlp *mlp, const void *u, int threads, void *work)
{
    job j = {
        .mlp = mlp, .out = out, .chunk_rows = chunk_rows(mlp), .panel = sum_chunks, .chunk = jtu_chunk, .direction = u};
    sum_job(&j, guess_work(mlp) * 1.5, threads, work);
}

/* One call of mlp_forward or mlp_jv. */
typedef struct {
    workspaces h;
    real *out; /* (M, Q) */
    const real *v; /* (A, P), or NULL for f */
} map;

/* f of some rows of an agent, in tiles. Serial. */
static void map_values(const map *p, workspace *r, int64_t agent, int64_t first, int64_t stop)
{
    const dnn_mlp *mlp = p->h.mlp;
    tile_space *s = &r->tiles;
    const real *w = weights_of(mlp, agent);
    int64_t outputs = outputs_of(mlp), step = forward_rows(mlp);
    pack_weights(s, mlp, w, 0);
    for (; first < stop; first += step) {
        int64_t n = min_index(step, stop - first);
        forward_tiles(s, mlp, w, inputs_of(mlp, first), n, mlp->n_layers);
        turn(p->out + first * outputs, outputs, s->a[mlp->n_layers], s->ld, outputs, n, outputs);
    }
}

/* J v of some rows of an agent, in chunks. Serial. */
static void map_tangents(const map *p, const workspace *r, int64_t agent, int64_t first, int64_t stop)
{
    const dnn_mlp *mlp = p->h.mlp;
    const real *w = weights_of(mlp, agent), *v = p->v + agent * mlp->params;
    int64_t outputs = outputs_of(mlp), step = chunk_rows(mlp);
    for (; first < stop; first += step) {
        int64_t n = min_index(step, stop - first);
        const real *x = inputs_of(mlp, first);
        forward_chunk(r, mlp, w, x, n);
        memcpy(p->out + first * outputs, tangent_chunk(r, mlp, w, v, x, n), (size_t)(n * outputs) * sizeof(real));
    }
}

static void map_part(const map *p, workspace *r, int64_t agent, int64_t part)
{
    const dnn_mlp *mlp = p->h.mlp;
    int64_t rows = part_rows(mlp, rows_of(mlp, agent)), first = mlp->offsets[agent] + part * rows;
    int64_t stop = min_index(mlp->offsets[agent + 1], first + rows);
    if (p->v)
        map_tangents(p, r, agent, first, stop);
    else
        map_values(p, r, agent, first, stop);
}

static void map_agent(const map *p, workspace *r, int64_t agent)
{
    int64_t rows = rows_of(p->h.mlp, agent), parts = ceil_div(rows, part_rows(p->h.mlp, rows));
    for (int64_t k = 0; k < parts; k++) map_part(p, r, agent, k);
}

static void map_in(const map *p, int64_t agent, int64_t part, int thread)
{
    workspace r = workspace_of(&p->h, thread);
    if (part < 0)
        map_agent(p, &r, agent);
    else
        map_part(p, &r, agent, part);
}

/* f or J v of all rows. Agents are parallel, or the parts of one agent after another. */
static void map_agents(const map *p, double microseconds, int threads)
{
    const dnn_mlp *mlp = p->h.mlp;
    int team = team_size(threads, microseconds);
    if (team == 1) {
        workspace r = workspace_of(&p->h, 0);
        for (int64_t i = 0; i < mlp->agents; i++) map_agent(p, &r, i);
    } else if (by_agents(&p->h, team)) {
        FOR_EACH(i, mlp->agents, map_in(p, i, -1, thread))
    } else
        for (int64_t i = 0; i < mlp->agents; i++) {
            int64_t rows = rows_of(mlp, i), parts = ceil_div(rows, part_rows(mlp, rows));
            FOR_EACH(k, parts, map_in(p, i, k, thread))
        }
}

/* out_m = f(w_i; x_m). Shapes: out (M, Q). Aliasing: none. Agents are parallel, or parts of one after another. */
static void mlp_forward(void *out, const dnn_mlp *mlp, int threads, void *work)
{
    map p = {open_workspaces(mlp, NULL, work), out, NULL};
    map_agents(&p, guess_forward(mlp), threads);
}

/* out_m = J_m(w_i) v_i. Shapes: out (M, Q), v (A, P). Aliasing: none. Agents are parallel, or parts. */
static void mlp_jv(void *out, const dnn_mlp *mlp, const void *v, int threads, void *work)
{
    map p = {open_workspaces(mlp, NULL, work), out, v};
    map_agents(&p, guess_work(mlp) * 1.2, threads);
}
