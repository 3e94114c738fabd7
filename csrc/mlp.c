/* mlp.c: forward, loss + gradient, J v, J'u of any number of hidden layers.
 *
 * Rows are taken in chunks that fit a cache; a panel is a fixed number of chunks, the unit that a thread takes and
 * whose partial sums are added in order. Both are functions of the layer sizes alone: no bit depends on `threads`.
 */

enum { PANEL_CHUNKS = 8, CHUNK_NUMBERS = 32768, CHUNK_LEAST = 64, CHUNK_MOST = 512 };

/* Rows of a chunk: inputs and activations together about 256 KB in double. */
static int64_t chunk_rows(const dnn_mlp *mlp)
{
    int64_t width = 0;
    for (int64_t k = 0; k <= mlp->n_layers; k++) width += mlp->layers[k];
    return min_index(CHUNK_MOST, max_index(CHUNK_LEAST, CHUNK_NUMBERS / width / 8 * 8));
}

INLINE int64_t rows_of(const dnn_mlp *mlp, int64_t agent) { return mlp->offsets[agent + 1] - mlp->offsets[agent]; }

INLINE const real *weights_of(const dnn_mlp *mlp, int64_t agent) { return (const real *)mlp->w + agent * mlp->w_step; }

INLINE const real *inputs_of(const dnn_mlp *mlp, int64_t row) { return (const real *)mlp->x + row * mlp->layers[0]; }

INLINE int64_t outputs_of(const dnn_mlp *mlp) { return mlp->layers[mlp->n_layers]; }

static int64_t most_rows(const dnn_mlp *mlp)
{
    int64_t most = 0;
    for (int64_t i = 0; i < mlp->agents; i++) most = max_index(most, rows_of(mlp, i));
    return most;
}

/* A guess of the work in microseconds: 6 P flops and 3 ns per activation and row, at 15 flops per ns. */
static double guess_work(const dnn_mlp *mlp)
{
    double hidden = 0, rows = (double)(mlp->offsets[mlp->agents] - mlp->offsets[0]);
    for (int64_t k = 1; k < mlp->n_layers; k++) hidden += (double)mlp->layers[k];
    return rows * ((double)mlp->params * 6 / 15 + hidden * 3) * 1e-3;
}

/* Features of a chunk of pair_samples() samples: see pairs.c. */
typedef struct {
    real *input[DNN_MAX_LAYERS]; /* input[u]: (samples, layers[u] + 1), what layer u takes, then a one */
    real *delta[DNN_MAX_LAYERS]; /* delta[u]: (samples R, layers[u + 1]) */
    real *right; /* (samples, widest pair of deltas) */
    real *left, *sums; /* (samples, PANEL_PAIRS), (PANEL_PAIRS, widest pair of deltas) */
} pair_space;

static void cut_pairs(pair_space *space, char **next, const dnn_mlp *mlp, const dnn_root *root, int64_t most);

/* Transposed activations and packed weights of the gradient: see gradient.c. */
typedef struct {
    int64_t ld; /* numbers between rows: samples of a chunk, padded */
    const real *packed; /* the weights that stand in tiles: */
    real *left[DNN_MAX_LAYERS], *back[DNN_MAX_LAYERS]; /* W_k' and W_k */
    real *a[DNN_MAX_LAYERS + 1]; /* a[k]: (layers[k], ld); a[0] holds TILE_DEPTH rows at most */
    real *z[DNN_MAX_LAYERS + 1]; /* z[k]: a[k] before the activation; a[k] itself unless keeps_z() */
    real *delta[2]; /* (widest layer, ld) each */
    real *rows[2]; /* (samples, widest layer, padded) each */
    real *sum[DNN_MAX_LAYERS]; /* what chunks add up to, biases last */
    double *value; /* (samples) */
} tile_space;

static void cut_tiles(tile_space *space, char **next, const dnn_mlp *mlp, int64_t most);

/* The workspace of one thread for one chunk of `rows` rows. */
typedef struct {
    real *a[DNN_MAX_LAYERS + 1]; /* a[k]: output of layer k, (rows, layers[k]); a[0] is x itself */
    real *z[DNN_MAX_LAYERS + 1]; /* z[k]: a[k] before the activation; a[k] itself unless keeps_z() */
    real *delta[2], *tangent[2]; /* (rows, widest layer) each */
    real *partial; /* (P) */
    double *value; /* (rows) */
    real *stack[DNN_MAX_LAYERS]; /* stack[k]: deltas of layer k for every column of S, (group R, layers[k + 1]) */
    real *jacobian; /* (jacobian_samples() R, P) */
    pair_space pairs;
    tile_space tiles;
} workspace;

/* Samples whose rows of J are held together, and samples of one of the groups in which they are made. */
static int64_t jacobian_samples(const dnn_mlp *mlp, const dnn_root *root);
static int64_t jacobian_group(const dnn_mlp *mlp, const dnn_root *root);

/* Bytes of one thread's workspace, which is cut from `start` unless that is NULL. Without root no J is kept. */
static size_t cut_workspace(workspace *r, char *start, const dnn_mlp *mlp, const dnn_root *root, int64_t most)
{
    char *next = start;
    int64_t rows = min_index(chunk_rows(mlp), most), widest = 1, stacked = 0, held = 0;
    if (root) {
        held = min_index(jacobian_samples(mlp, root), most);
        stacked = min_index(jacobian_group(mlp, root), most) * root->columns;
    }
    for (int64_t k = 1; k <= mlp->n_layers; k++) {
        widest = max_index(widest, mlp->layers[k]);
        r->a[k] = r->z[k] = carve(&next, rows * mlp->layers[k], sizeof(real));
        if (keeps_z(mlp->activation) && k < mlp->n_layers) r->z[k] = carve(&next, rows * mlp->layers[k], sizeof(real));
    }
    for (int64_t k = 0; k < mlp->n_layers; k++)
        r->stack[k] = root ? carve(&next, stacked * mlp->layers[k + 1], sizeof(real)) : NULL;
    for (int j = 0; j < 2; j++) {
        r->delta[j] = carve(&next, rows * widest, sizeof(real));
        r->tangent[j] = carve(&next, rows * widest, sizeof(real));
    }
    r->partial = carve(&next, mlp->params, sizeof(real));
    r->value = carve(&next, rows, sizeof(double));
    r->jacobian = root ? carve(&next, held * root->columns * mlp->params, sizeof(real)) : NULL;
    if (root)
        cut_pairs(&r->pairs, &next, mlp, root, most);
    else
        cut_tiles(&r->tiles, &next, mlp, most);
    return (size_t)((uintptr_t)next - (uintptr_t)start);
}

static size_t mlp_work(const dnn_mlp *mlp, const dnn_root *root, int threads)
{
    workspace r;
    return cut_workspace(&r, NULL, mlp, root, most_rows(mlp)) * (size_t)threads;
}

/* The workspaces of one call, one for every thread. */
typedef struct {
    const dnn_mlp *mlp;
    const dnn_root *root;
    char *work;
    int64_t most;
} workspaces;

INLINE workspaces open_workspaces(const dnn_mlp *mlp, const dnn_root *root, void *work)
{
    return (workspaces){mlp, root, work, most_rows(mlp)};
}

static workspace workspace_of(const workspaces *h, int thread)
{
    workspace r;
    size_t bytes = cut_workspace(&r, NULL, h->mlp, h->root, h->most);
    cut_workspace(&r, h->work + bytes * (size_t)thread, h->mlp, h->root, h->most);
    return r;
}

/* Whether threads take whole agents: enough of them, and none holds much more than one thread's share of the rows. */
static int by_agents(const workspaces *h, int team)
{
    int64_t rows = h->mlp->offsets[h->mlp->agents] - h->mlp->offsets[0];
    return h->mlp->agents >= team && h->most * 2 * team <= 3 * rows;
}

/* a_k = phi(a_k-1 W_k + 1 b_k'), last layer linear; the raw output is left in r->a[L].
 * Shapes: x (n, d). Aliasing: none. Serial. */
static void forward_chunk(const workspace *r, const dnn_mlp *mlp, const real *w, const real *x, int64_t n)
{
    const real *input = x;
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        const real *bias = w + d * h;
        real *z = r->z[k + 1];
        for (int64_t m = 0; m < n; m++) memcpy(z + m * h, bias, (size_t)h * sizeof(real));
        product_nn(mlp->blas, z, input, w, n, d, h, 1);
        if (k + 1 < mlp->n_layers) activate(r->a[k + 1], z, n * h, mlp->activation);
        input = r->a[k + 1];
        w = bias + h;
    }
}

/* out <- keep out + sum_m J_m' u_m: dW_k = a_k-1' delta_k, db_k = delta_k' 1, delta_k-1 = (delta_k W_k') phi'(z_k-1).
 * Shapes: w, out (P); x (n, d); u (n, Q) lies in r->delta[0]. Aliasing: none. After forward_chunk. Serial. */
static void backward_chunk(
    const workspace *r, const dnn_mlp *mlp, const real *w, const real *x, int64_t n, real keep, real *out)
{
    int64_t start = mlp->params;
    int side = 0;
    for (int64_t k = mlp->n_layers; k-- > 0;) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        const real *input = k ? r->a[k] : x, *delta = r->delta[side];
        start -= d * h + h;
        real *bias = out + start + d * h;
        product_tn(mlp->blas, out + start, input, delta, n, d, h, keep);
        if (keep == 0) memset(bias, 0, (size_t)h * sizeof(real));
        for (int64_t m = 0; m < n; m++) axpy(bias, 1, delta + m * h, h);
        if (k == 0) break;
        side = !side;
        product_nt(mlp->blas, r->delta[side], delta, w + start, n, h, d, 0);
        times_slope(r->delta[side], r->z[k], r->a[k], n * d, mlp->activation);
    }
}

/* t_k = (t_k-1 W_k + a_k-1 V_k + 1 v_k') phi'(z_k), t_0 = 0: J v in the direction (V, v); returns t_L.
 * Shapes: w, v (P); x (n, d); result (n, Q). Aliasing: none. After forward_chunk. Serial. */
static const real *tangent_chunk(
    const workspace *r, const dnn_mlp *mlp, const real *w, const real *v, const real *x, int64_t n)
{
    int64_t start = 0;
    int side = 0;
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        real *tangent = r->tangent[side];
        const real *bias = v + start + d * h;
        for (int64_t m = 0; m < n; m++) memcpy(tangent + m * h, bias, (size_t)h * sizeof(real));
        product_nn(mlp->blas, tangent, k ? r->a[k] : x, v + start, n, d, h, 1);
        if (k) product_nn(mlp->blas, tangent, r->tangent[!side], w + start, n, d, h, 1);
        if (k + 1 < mlp->n_layers) times_slope(tangent, r->z[k + 1], r->a[k + 1], n * h, mlp->activation);
        start += d * h + h;
        side = !side;
    }
    return r->tangent[!side];
}

/* One kernel that adds something up over the rows of each agent. */
typedef struct job {
    const dnn_mlp *mlp;
    const dnn_root *root;
    real *out; /* (A, P) or NULL */
    double *value; /* (A) or NULL */
    int64_t chunk_rows;
    /* out (P) and *value += what rows first .. stop - 1 of the agent, a panel, bring */
    void (*panel)(
        const struct job *, workspace *, int64_t agent, int64_t first, int64_t stop, real *out, double *value);
    /* for sum_chunks: out (P) <- keep out + what the rows of one chunk bring */
    void (*chunk)(
        const struct job *, const workspace *, int64_t agent, int64_t first, int64_t stop, real keep, real *out);
    const real *target, *weight, *direction; /* (M, Q), (M) or NULL; v (A, P) or u (M, Q) */
    const real *feedback; /* (hidden units, Q): see feedback.c */
    const int64_t *blocks;
    int64_t n_blocks;
    double param, scale;
    int loss;
} job;

/* A panel chunk by chunk. Serial. */
static void sum_chunks(const job *j, workspace *r, int64_t agent, int64_t first, int64_t stop, real *out, double *value)
{
    (void)value;
    real keep = 0;
    for (; first < stop; first += j->chunk_rows, keep = 1)
        j->chunk(j, r, agent, first, min_index(stop, first + j->chunk_rows), keep, out);
}

/* The sums over one panel into out (P) and *value. Serial. */
static void sum_panel(const job *j, workspace *r, int64_t agent, int64_t panel, real *out, double *value)
{
    int64_t first = j->mlp->offsets[agent] + panel * j->chunk_rows * PANEL_CHUNKS;
    int64_t stop = min_index(j->mlp->offsets[agent + 1], first + j->chunk_rows * PANEL_CHUNKS);
    *value = 0;
    j->panel(j, r, agent, first, stop, out, value);
}

/* Add panel p to the sums of its agent; called in the order of p. */
static void add_panel(const job *j, int64_t agent, int64_t panel, double value, const real *partial)
{
    if (j->value) j->value[agent] += value;
    if (j->out && panel) axpy(j->out + agent * j->mlp->params, 1, partial, j->mlp->params);
}

/* One agent by one thread. */
static void sum_agent(const job *j, workspace *r, int64_t agent)
{
    int64_t panels = ceil_div(rows_of(j->mlp, agent), j->chunk_rows * PANEL_CHUNKS);
    for (int64_t p = 0; p < panels; p++) {
        double value;
        sum_panel(j, r, agent, p, p || !j->out ? r->partial : j->out + agent * j->mlp->params, &value);
        add_panel(j, agent, p, value, r->partial);
    }
}

/* One agent by the thread of that number. */
static void sum_agent_in(const job *j, const workspaces *h, int64_t agent, int thread)
{
    workspace r = workspace_of(h, thread);
    sum_agent(j, &r, agent);
}

/* One agent by a team: any free thread sums the next panel; panels are added in order. */
static void sum_agent_together(const job *j, const workspaces *h, int64_t agent, int64_t panels, int team)
{
    (void)team; /* without OpenMP */
#pragma omp parallel num_threads(team)
    {
        workspace r = workspace_of(h, thread_number());
#pragma omp for ordered schedule(static, 1)
        for (int64_t p = 0; p < panels; p++) {
            double value;
            sum_panel(j, &r, agent, p, p || !j->out ? r.partial : j->out + agent * j->mlp->params, &value);
#pragma omp ordered
            add_panel(j, agent, p, value, r.partial);
        }
    }
}

/* The sums over the rows of every agent. Shapes: out (A, P), value (A) of the job. Aliasing: none.
 * Agents are parallel, or the panels of one agent after another. */
static void sum_agents(const job *j, double microseconds, int threads, void *work)
{
    const dnn_mlp *mlp = j->mlp;
    workspaces h = open_workspaces(mlp, j->root, work);
    int team = team_size(threads, microseconds);
    int64_t rows = j->chunk_rows * PANEL_CHUNKS;
    if (j->value) memset(j->value, 0, (size_t)mlp->agents * sizeof(double));
    for (int64_t i = 0; i < mlp->agents; i++)
        if (j->out && rows_of(mlp, i) == 0) memset(j->out + i * mlp->params, 0, (size_t)mlp->params * sizeof(real));
    workspace first = workspace_of(&h, 0);
    if (team == 1) {
        for (int64_t i = 0; i < mlp->agents; i++) sum_agent(j, &first, i);
    } else if (by_agents(&h, team)) {
        FOR_EACH(i, mlp->agents, sum_agent_in(j, &h, i, thread))
    } else
        for (int64_t i = 0; i < mlp->agents; i++) {
            int64_t panels = ceil_div(rows_of(mlp, i), rows);
            if (panels > 1)
                sum_agent_together(j, &h, i, panels, team);
            else
                sum_agent(j, &first, i);
        }
    if (j->value)
        for (int64_t i = 0; i < mlp->agents; i++) j->value[i] *= j->scale;
}

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
    sum_agents(&j, guess_work(mlp), threads, work);
}

/* f or J v of one chunk. Shapes: out (M, Q), v (A, P) or NULL for f. Aliasing: none. Serial. */
static void map_chunk(real *out, const workspaces *h, const real *v, int64_t agent, int64_t chunk, int thread)
{
    const dnn_mlp *mlp = h->mlp;
    workspace r = workspace_of(h, thread);
    int64_t step = chunk_rows(mlp), outputs = outputs_of(mlp), first = mlp->offsets[agent] + chunk * step;
    int64_t n = min_index(step, mlp->offsets[agent + 1] - first);
    const real *w = weights_of(mlp, agent), *x = inputs_of(mlp, first), *result = r.a[mlp->n_layers];
    forward_chunk(&r, mlp, w, x, n);
    if (v) result = tangent_chunk(&r, mlp, w, v + agent * mlp->params, x, n);
    memcpy(out + first * outputs, result, (size_t)(n * outputs) * sizeof(real));
}

static void map_agent(real *out, const workspaces *h, const real *v, int64_t agent, int thread)
{
    int64_t chunks = ceil_div(rows_of(h->mlp, agent), chunk_rows(h->mlp));
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
        int64_t chunks = ceil_div(rows_of(mlp, i), chunk_rows(mlp));
        FOR_EACH(c, chunks, map_chunk(out, &h, v, i, c, thread))
    }
}

/* out_m = f(w_i; x_m). Shapes: out (M, Q). Aliasing: none. Agents are parallel, or chunks of one after another. */
static void mlp_forward(void *out, const dnn_mlp *mlp, int threads, void *work)
{
    map_agents(out, mlp, NULL, guess_work(mlp) * 0.4, threads, work);
}

/* out_m = J_m(w_i) v_i. Shapes: out (M, Q), v (A, P). Aliasing: none. Agents are parallel, or chunks of one. */
static void mlp_jv(void *out, const dnn_mlp *mlp, const void *v, int threads, void *work)
{
    map_agents(out, mlp, v, guess_work(mlp), threads, work);
}
