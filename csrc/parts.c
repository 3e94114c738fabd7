/* parts.c: sums over the rows of every agent, part by part.
 *
 * The rows of an agent are cut into parts, a number that follows from its own rows and the layer sizes alone. A part is
 * what a thread takes. The first one is summed in the place of the result, each other in a place of its own; these are
 * added in order. So no bit depends on `threads`, nor on the other agents.
 */

enum {
    PART_MOST = 32, /* parts of an agent */
    PART_ROWS = 16, /* rows of a part are a multiple of this */
    PART_NS = 64000, /* a part is worth so many nanoseconds, */
    PART_NUMBER_NS = 24, /* and so many for each number of its result, which must be added to the others' */
    WAVE_AGENTS = 64, /* agents whose parts are shared out together */
    ADD_STRIP = 256 /* numbers of a result that a thread adds up at a time */
};

/* One call: what to sum, and where. */
typedef struct {
    const workspaces *h;
    const void *call;
    int64_t (*parts)(const void *call, int64_t agent); /* 0 without rows */
    /* out (numbers) and *value = what one part brings; out is NULL if the result is */
    void (*part)(const void *call, workspace *r, int64_t agent, int64_t part, real *out, double *value);
    real *out; /* (A, numbers) or NULL */
    double *value; /* (A) or NULL */
    double scale; /* of the values */
    int64_t numbers;
    int64_t n_places;
    real *places; /* (n_places, numbers), each from a cache line on */
    double *values; /* (n_places) */
} summing;

INLINE int64_t place_stride(int64_t numbers) { return (int64_t)(lines(numbers, sizeof(real)) / sizeof(real)); }

/* Places that are cut from *work, or only measured, where an agent has as many parts as `most`. */
static void cut_places(summing *s, char **work, int64_t most, int threads)
{
    s->n_places = most <= 1 ? 0 : threads == 1 ? 1 : max_index(threads, most - 1);
    s->values = carve(work, s->n_places, sizeof(double));
    s->places = carve(work, s->n_places * place_stride(s->numbers), sizeof(real));
}

INLINE real *result_of(const summing *s, int64_t agent) { return s->out ? s->out + agent * s->numbers : NULL; }

/* What an agent without parts has. */
static void sum_nothing(const summing *s, int64_t agent)
{
    if (s->value) s->value[agent] = 0;
    if (s->out) memset(result_of(s, agent), 0, (size_t)s->numbers * sizeof(real));
}

/* One agent, its further parts in the place given. Serial. */
static void sum_agent(const summing *s, workspace *r, int64_t agent, real *place)
{
    int64_t parts = s->parts(s->call, agent);
    double sum = 0;
    if (parts == 0) sum_nothing(s, agent);
    for (int64_t p = 0; p < parts; p++) {
        double value = 0;
        s->part(s->call, r, agent, p, p && s->out ? place : result_of(s, agent), &value);
        sum += value;
        if (s->out && p) axpy(result_of(s, agent), 1, place, s->numbers);
    }
    if (s->value) s->value[agent] = s->scale * sum;
}

/* One agent by the thread of that number. */
static void sum_agent_in(const summing *s, int64_t agent, int thread)
{
    workspace r = workspace_of(s->h, thread);
    sum_agent(s, &r, agent, s->places + thread * place_stride(s->numbers));
}

/* Agents first .. result - 1 whose further parts have places enough, and the number of all their parts. */
static int64_t wave_of(const summing *s, int64_t first, int64_t *units)
{
    int64_t agent = first, places = 0, agents = s->h->mlp->agents;
    for (*units = 0; agent < agents && agent < first + WAVE_AGENTS; agent++) {
        int64_t parts = s->parts(s->call, agent), more = parts > 0 ? parts - 1 : 0;
        if (agent > first && places + more > s->n_places) break;
        places += more, *units += parts;
    }
    return agent;
}

/* Part number `unit` of the wave that begins with agent `first`. */
static void sum_unit(const summing *s, workspace *r, int64_t first, int64_t unit)
{
    int64_t agent = first, place = 0, parts = s->parts(s->call, agent);
    for (; unit >= parts; parts = s->parts(s->call, ++agent)) unit -= parts, place += parts > 0 ? parts - 1 : 0;
    double value = 0;
    real *out = result_of(s, agent);
    if (unit && out) out = s->places + (place + unit - 1) * place_stride(s->numbers);
    s->part(s->call, r, agent, unit, out, &value);
    if (unit)
        s->values[place + unit - 1] = value;
    else if (s->value)
        s->value[agent] = value;
}

/* Numbers from `start` on of the results of agents first .. stop - 1, and with start = 0 their values. */
static void add_places(const summing *s, int64_t first, int64_t stop, int64_t start)
{
    int64_t place = 0, n = min_index(ADD_STRIP, s->numbers - start);
    for (int64_t agent = first; agent < stop; agent++)
        for (int64_t p = 1, parts = s->parts(s->call, agent); p < parts; p++, place++) {
            const real *more = s->places + place * place_stride(s->numbers) + start;
            if (s->out) axpy(result_of(s, agent) + start, 1, more, n);
            if (s->value && start == 0) s->value[agent] += s->values[place];
        }
    for (int64_t agent = first; agent < stop && s->value && start == 0; agent++) s->value[agent] *= s->scale;
}

/* Within a parallel region any free thread takes the next part of any agent of a wave, then the next strip of its
 * results. */
static void sum_waves(const summing *s)
{
    const int64_t agents = s->h->mlp->agents;
    workspace r = workspace_of(s->h, thread_number());
    for (int64_t first = 0, stop, units; first < agents; first = stop) {
        stop = wave_of(s, first, &units);
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t i = first; i < stop; i++)
            if (s->parts(s->call, i) == 0) sum_nothing(s, i);
        if (units == 0) { /* no loop follows at whose end the zeros are there */
#pragma omp barrier
            continue;
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t u = 0; u < units; u++) sum_unit(s, &r, first, u);
#pragma omp for schedule(dynamic, 1)
        for (int64_t start = 0; start < s->numbers; start += ADD_STRIP) add_places(s, first, stop, start);
    }
}

/* The sums of all agents. Agents are parallel, or parts of them where agents are few or uneven. */
static void sum_parts(const summing *s, double microseconds, int threads)
{
    const int64_t agents = s->h->mlp->agents;
    int team = team_size(threads, microseconds);
    if (team == 1) {
        workspace r = workspace_of(s->h, 0);
        for (int64_t i = 0; i < agents; i++) sum_agent(s, &r, i, s->places);
    } else if (by_agents(s->h, team == WITHIN ? team_present() : team)) {
        FOR_EACH(i, agents, sum_agent_in(s, i, thread))
    } else if (team == WITHIN)
        sum_waves(s);
    else {
#pragma omp parallel num_threads(team)
        sum_waves(s);
    }
}

/* The parts that an agent of so many rows is worth; it has fewer where their rows are rounded up, so that an agent of
 * more rows may have fewer parts (32 of 64 rows, but 26 of 80), though it is worth no fewer. */
static int64_t worth_parts(const dnn_mlp *mlp, int64_t rows)
{
    double least = PART_NUMBER_NS * (double)mlp->params;
    double worth = (double)rows * row_work(mlp) / (least > PART_NS ? least : PART_NS);
    return worth < PART_MOST ? max_index(1, (int64_t)worth) : PART_MOST;
}

/* Rows of a part of an agent of so many rows. */
static int64_t part_rows(const dnn_mlp *mlp, int64_t rows)
{
    return max_index(1, ceil_div(ceil_div(rows, worth_parts(mlp, rows)), PART_ROWS)) * PART_ROWS;
}

/* One kernel that adds something up over the rows of each agent. */
typedef struct job {
    const dnn_mlp *mlp;
    const dnn_root *root;
    real *out; /* (A, P) or NULL */
    double *value; /* (A) or NULL */
    int64_t chunk_rows;
    /* out (P) and *value += what rows first .. stop - 1 of the agent, a part, bring */
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
    int in_tiles; /* whether panels of a product are made of tiles, without J */
    int repeats; /* whether the same product is made again and again: weights in tiles then pay for any rows */
    int64_t held_rows; /* of a chunk: hidden activations and S' */
    const struct kept *kept; /* or NULL: see product.c */
} job;

/* A part chunk by chunk. Serial. */
static void sum_chunks(const job *j, workspace *r, int64_t agent, int64_t first, int64_t stop, real *out, double *value)
{
    (void)value;
    real keep = 0;
    for (; first < stop; first += j->chunk_rows, keep = 1)
        j->chunk(j, r, agent, first, min_index(stop, first + j->chunk_rows), keep, out);
}

static int64_t job_parts(const void *call, int64_t agent)
{
    const dnn_mlp *mlp = ((const job *)call)->mlp;
    return ceil_div(rows_of(mlp, agent), part_rows(mlp, rows_of(mlp, agent)));
}

static void job_part(const void *call, workspace *r, int64_t agent, int64_t part, real *out, double *value)
{
    const job *j = call;
    int64_t rows = part_rows(j->mlp, rows_of(j->mlp, agent)), first = j->mlp->offsets[agent] + part * rows;
    j->panel(j, r, agent, first, min_index(j->mlp->offsets[agent + 1], first + rows), out, value);
}

/* No agent has more parts of a job. */
static int64_t most_parts(const dnn_mlp *mlp) { return worth_parts(mlp, most_rows(mlp)); }

static size_t mlp_work(const dnn_mlp *mlp, const dnn_root *root, int threads)
{
    workspaces h = open_workspaces(mlp, root, NULL);
    summing s = {.numbers = mlp->params};
    char *next = NULL;
    cut_places(&s, &next, most_parts(mlp), threads);
    size_t bytes = h.bytes;
    if (root) h = open_products(mlp, root, NULL);
    return (bytes > h.bytes ? bytes : h.bytes) * (size_t)threads + (size_t)(uintptr_t)next;
}

static workspaces open_job(const job *j)
{
    return j->in_tiles ? open_products(j->mlp, j->root, NULL) : open_workspaces(j->mlp, j->root, NULL);
}

/* What sum_parts needs for one kernel, in workspaces `h` that are cut from *work, or only measured. */
static summing open_sum(const job *j, workspaces *h, char **work, int threads)
{
    summing s = {.h = h,
        .call = j,
        .parts = job_parts,
        .part = job_part,
        .out = j->out,
        .value = j->value,
        .scale = j->scale,
        .numbers = j->mlp->params};
    h->work = carve(work, (int64_t)(h->bytes * (size_t)threads), 1);
    cut_places(&s, work, most_parts(j->mlp), threads);
    return s;
}

/* The sums of one kernel. Shapes: out (A, P), value (A) of the job. Aliasing: none. Parallel as sum_parts. */
static void sum_job(const job *j, double microseconds, int threads, void *work)
{
    char *next = work;
    workspaces h = open_job(j);
    summing s = open_sum(j, &h, &next, threads_of(threads));
    sum_parts(&s, microseconds, threads);
}
