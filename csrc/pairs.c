/* pairs.c: blocks of J' S S' J from pair features; J is never made.
 *
 * Row (m, r) of S' J is, layer by layer, the outer product of a~_u = (inputs of layer u, 1) and delta_u,r. So
 *     block (u, v)[(i, j), (i', k)] = sum_m (a~_u,mi a~_v,mi') (sum_r delta_u,mrj delta_v,mrk),
 * one product of left features, made in panels of pairs (i, i'), with right features, kept for a chunk of samples. It
 * takes 2 M |left| |right| flops however many columns S has, and a quarter of all pairs where u = v (i <= i', j <= k):
 * J' J takes R times as many, and twice that where u = v.
 */

enum { PANEL_PAIRS = 96, PAIR_GROUP = 32, PAIR_NUMBERS = 1 << 19, PAIR_MOST = 1024, PAIR_WIDEST = 1 << 22 };

/* What of a block lies in layer u: parameters lo .. hi - 1, counted from the layer's first, inputs i0 .. i1 - 1. */
typedef struct {
    int64_t start, h, lo, hi, i0, i1;
} part;

static part part_of(const dnn_mlp *mlp, int64_t u, int64_t lo, int64_t hi)
{
    part p = {0};
    for (int64_t k = 0; k < u; k++) p.start += (mlp->layers[k] + 1) * mlp->layers[k + 1];
    p.h = mlp->layers[u + 1];
    int64_t size = (mlp->layers[u] + 1) * p.h;
    p.lo = min_index(size, max_index(0, lo - p.start));
    p.hi = min_index(size, max_index(0, hi - p.start));
    p.i0 = p.lo / p.h;
    p.i1 = p.hi > p.lo ? ceil_div(p.hi, p.h) : p.i0;
    return p;
}

INLINE int64_t triangle(int64_t n) { return n * (n + 1) / 2; }

/* Right features of layers u <= v. */
INLINE int64_t right_size(const dnn_mlp *mlp, int64_t u, int64_t v)
{
    return u == v ? triangle(mlp->layers[u + 1]) : mlp->layers[u + 1] * mlp->layers[v + 1];
}

static int64_t widest_right(const dnn_mlp *mlp)
{
    int64_t widest = 1;
    for (int64_t u = 0; u < mlp->n_layers; u++)
        for (int64_t v = u; v < mlp->n_layers; v++) widest = max_index(widest, right_size(mlp, u, v));
    return widest;
}

/* Wider networks go by J: no workspace is cut for their features, nor would 32-bit BLAS count them. */
INLINE int pairs_fit(const dnn_mlp *mlp) { return widest_right(mlp) <= PAIR_WIDEST; }

/* Samples of a chunk. */
static int64_t pair_samples(const dnn_mlp *mlp, const dnn_root *root)
{
    int64_t numbers = PAIR_NUMBERS / max_index(widest_right(mlp), mlp->layers[0] + root->columns);
    return max_index(1, min_index(PAIR_MOST, numbers));
}

static void cut_pairs(pair_space *space, char **next, const dnn_mlp *mlp, const dnn_root *root, int64_t most)
{
    if (!pairs_fit(mlp)) return;
    int64_t samples = min_index(most, pair_samples(mlp, root)), right = widest_right(mlp);
    for (int64_t u = 0; u < mlp->n_layers; u++) {
        space->input[u] = carve(next, samples * (mlp->layers[u] + 1), sizeof(real));
        space->delta[u] = carve(next, samples * root->columns * mlp->layers[u + 1], sizeof(real));
    }
    space->right = carve(next, samples * right, sizeof(real));
    space->left = carve(next, samples * PANEL_PAIRS, sizeof(real));
    space->sums = carve(next, PANEL_PAIRS * right, sizeof(real));
}

/* One call of mlp_gauss_newton. */
typedef struct {
    workspaces h;
    real *out;
    const int64_t *blocks;
    int64_t n_blocks, packed;
    double per_sample[2], per_chunk[2]; /* nanoseconds, from J and from pairs */
} curvature;

/* Some rows of an agent, and who is at them: `thread` of `team`. */
typedef struct {
    int64_t agent, first, stop;
    int thread, team;
} stretch;

/* The model behind the choice, in nanoseconds per sample and per chunk of samples of one agent: 50 flops per ns in
 * products, 1 ns for a number of J, 0.3 for a left or right feature, 1 for a number added to the result. */
static void model_costs(curvature *c)
{
    const dnn_mlp *mlp = c->h.mlp;
    double columns = (double)c->h.root->columns;
    c->per_sample[0] = columns * ((double)c->packed / 50 + (double)mlp->params);
    for (int64_t b = 0; b < c->n_blocks; b++)
        for (int64_t u = 0; u < mlp->n_layers; u++) {
            part p = part_of(mlp, u, c->blocks[b], c->blocks[b + 1]);
            for (int64_t v = u; v < mlp->n_layers && p.i1 > p.i0; v++) {
                part q = part_of(mlp, v, c->blocks[b], c->blocks[b + 1]);
                int64_t pairs = u == v ? triangle(p.i1 - p.i0) : (p.i1 - p.i0) * (q.i1 - q.i0);
                double left = (double)pairs, right = (double)right_size(mlp, u, v);
                c->per_sample[1] += left * (2 * right / 50 + 0.3);
                c->per_chunk[1] += left * (double)(p.h * q.h) + 1000;
            }
        }
    for (int64_t u = 0; u < mlp->n_layers; u++)
        for (int64_t v = u; v < mlp->n_layers; v++) c->per_sample[1] += 0.3 * columns * (double)right_size(mlp, u, v);
}

INLINE double agent_cost(const curvature *c, int64_t rows, int pairs)
{
    int64_t samples = pairs ? pair_samples(c->h.mlp, c->h.root) : jacobian_samples(c->h.mlp, c->h.root);
    return (double)rows * c->per_sample[pairs] + (double)ceil_div(rows, samples) * c->per_chunk[pairs];
}

INLINE int pairs_pay(const curvature *c, int64_t rows)
{
    return pairs_fit(c->h.mlp) && agent_cost(c, rows, 1) < agent_cost(c, rows, 0);
}

/* Inputs and deltas of n samples into their places `at` in the space. Serial. */
static void fill_space(const pair_space *space, const workspace *r, const curvature *c, int64_t agent, int64_t first,
    int64_t at, int64_t n)
{
    const dnn_mlp *mlp = c->h.mlp;
    real *delta[DNN_MAX_LAYERS];
    for (int64_t u = 0; u < mlp->n_layers; u++)
        delta[u] = space->delta[u] + at * c->h.root->columns * mlp->layers[u + 1];
    stacked_deltas(r, mlp, c->h.root, weights_of(mlp, agent), first, n, delta);
    for (int64_t u = 0; u < mlp->n_layers; u++) {
        int64_t d = mlp->layers[u];
        const real *a = u ? r->a[u] : inputs_of(mlp, first);
        real *row = space->input[u] + at * (d + 1);
        for (int64_t m = 0; m < n; m++, row += d + 1, a += d) {
            memcpy(row, a, (size_t)d * sizeof(real));
            row[d] = 1;
        }
    }
}

/* right[m, (j, k)] = sum_r delta_u,mrj delta_v,mrk, only j <= k if u = v, of samples at .. at + n - 1. Serial. */
static void fill_right(const pair_space *space, const curvature *c, int64_t u, int64_t v, int64_t at, int64_t n)
{
    const dnn_mlp *mlp = c->h.mlp;
    int64_t columns = c->h.root->columns, h = mlp->layers[u + 1], g = mlp->layers[v + 1], width = right_size(mlp, u, v);
    memset(space->right + at * width, 0, (size_t)(n * width) * sizeof(real));
    for (int64_t m = at; m < at + n; m++)
        for (int64_t r = 0; r < columns; r++) {
            const real *e = space->delta[u] + (m * columns + r) * h, *f = space->delta[v] + (m * columns + r) * g;
            real *row = space->right + m * width;
            for (int64_t j = 0; j < h; j++) {
                int64_t skipped = u == v ? j : 0;
                axpy(row, e[j], f + skipped, g - skipped);
                row += g - skipped;
            }
        }
}

/* A panel: `count` pairs (a, b) from (a, b) on, b running from b0 (or a, if u = v) to b1 - 1 for every a. */
typedef struct {
    int64_t a, b, count;
} panel;

/* left[m, c] = a~_u,ma a~_v,mb of the panel's c-th pair. Shapes: left (n, count). Aliasing: none. Serial. */
static void fill_left(real *restrict left, const real *restrict x, int64_t wide, const real *restrict y, int64_t tall,
    int64_t n, panel p, int64_t b0, int64_t b1, int same)
{
    for (int64_t m = 0; m < n; m++, x += wide, y += tall) {
        int64_t a = p.a, b = p.b, run;
        for (int64_t done = 0; done < p.count; done += run) {
            run = min_index(p.count - done, b1 - b);
            for (int64_t k = 0; k < run; k++) *left++ = x[a] * y[b + k];
            a++;
            b = same ? a : b0;
        }
    }
}

/* Add the sums of pair (a, b) to rows (a, j) and columns (b, k) of the block. Serial. */
static void add_pair(real *restrict out, int64_t size, const real *restrict sums, const part *p, const part *q,
    int64_t a, int64_t b, int same)
{
    int64_t j0 = max_index(0, p->lo - a * p->h), j1 = min_index(p->h, p->hi - a * p->h);
    int64_t k0 = max_index(0, q->lo - b * q->h), k1 = min_index(q->h, q->hi - b * q->h);
    for (int64_t j = j0; j < j1; j++) {
        real *row = out + (a * p->h + j) * size + b * q->h;
        if (!same) {
            for (int64_t k = k0; k < k1; k++) row[k] += sums[j * q->h + k];
            continue;
        }
        const real *upper = sums + j * p->h - triangle(j); /* upper[k], k >= j: the packed row j */
        for (int64_t k = k0; k < min_index(j, k1); k++) row[k] += sums[k * p->h - triangle(k) + j];
        for (int64_t k = max_index(j, k0); k < k1; k++) row[k] += upper[k];
    }
}

/* Layers (u, v) of one block: out += sums over n samples, every team-th panel. Shapes: out (size, size) from parameter
 * `lo` on. Aliasing: none. Panels are parallel. `turn` counts panels over all blocks. */
static void add_panels(const pair_space *common, const pair_space *own, const curvature *c, int64_t u, int64_t v,
    int64_t lo, int64_t hi, real *out, int64_t n, int thread, int team, int64_t *turn)
{
    const dnn_mlp *mlp = c->h.mlp;
    int64_t wide = mlp->layers[u] + 1, tall = mlp->layers[v] + 1, right = right_size(mlp, u, v), size = hi - lo;
    part p = part_of(mlp, u, lo, hi), q = part_of(mlp, v, lo, hi);
    int same = u == v;
    int64_t left = same ? triangle(p.i1 - p.i0) : (p.i1 - p.i0) * (q.i1 - q.i0);
    panel now = {p.i0, same ? p.i0 : q.i0, 0};
    out += (p.start - lo) * size + (q.start - lo);
    for (int64_t done = 0; done < left; done += now.count) {
        now.count = min_index(PANEL_PAIRS, left - done);
        int mine = (*turn)++ % team == thread;
        if (mine) {
            fill_left(own->left, common->input[u], wide, common->input[v], tall, n, now, q.i0, q.i1, same);
            product_tn(mlp->blas, own->sums, own->left, common->right, n, now.count, right, 0);
        }
        for (int64_t k = 0; k < now.count; k++) {
            if (mine) add_pair(out, size, own->sums + k * right, &p, &q, now.a, now.b, same);
            if (++now.b == q.i1) {
                now.a++;
                now.b = same ? now.a : q.i0;
            }
        }
    }
}

INLINE void wait_for(int team)
{
    if (team > 1) {
#pragma omp barrier
    }
}

/* Some rows in workspace r; features stand in the workspace `common`, one for the team. */
static void curve_from_pairs(
    const curvature *c, const workspace *r, const workspace *common, const stretch *some, real *out)
{
    const dnn_mlp *mlp = c->h.mlp;
    const int thread = some->thread, team = some->team;
    int64_t samples = pair_samples(mlp, c->h.root), group = min_index(chunk_rows(mlp), PAIR_GROUP);
    for (int64_t first = some->first; first < some->stop; first += samples) {
        int64_t n = min_index(samples, some->stop - first);
        for (int64_t g = thread * group; g < n; g += team * group)
            fill_space(&common->pairs, r, c, some->agent, first + g, g, min_index(group, n - g));
        for (int64_t u = 0; u < mlp->n_layers; u++)
            for (int64_t v = u; v < mlp->n_layers; v++) {
                int64_t turn = 0;
                real *place = out;
                wait_for(team);
                for (int64_t g = thread * group; g < n; g += team * group)
                    fill_right(&common->pairs, c, u, v, g, min_index(group, n - g));
                wait_for(team);
                for (int64_t b = 0; b < c->n_blocks; b++) {
                    int64_t lo = c->blocks[b], hi = c->blocks[b + 1];
                    add_panels(&common->pairs, &r->pairs, c, u, v, lo, hi, place, n, thread, team, &turn);
                    place += square(hi - lo);
                }
            }
        wait_for(team);
    }
}
