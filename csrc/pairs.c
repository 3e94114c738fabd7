/* pairs.c: blocks of J' S S' J from pair features; J is never made.
 *
 * Row (m, r) of S' J is, layer by layer, the outer product of a~_u = (inputs of layer u, 1) and delta_u,r. So
 *     block (u, v)[(i, j), (i', k)] = sum_m (a~_u,mi a~_v,mi') (sum_r delta_u,mrj delta_v,mrk),
 * one product of left features, made in panels of pairs (i, i'), with right features, kept for a chunk of samples. The
 * products of all chunks are added up as they are, pairs by right features, and put into the block at the end. It takes
 * 2 M |left| |right| flops however many columns S has, and a quarter of all pairs where u = v (i <= i', j <= k):
 * J' J takes R times as many, and twice that where u = v.
 */

enum {
    PANEL_PAIRS = 96, /* of inputs at most, and of right features so many, in a tile of the product */
    PANEL_RIGHT = 480,
    PAIR_GROUP = 32,
    PAIR_NUMBERS = 1 << 19,
    PAIR_MOST = 1024,
    PAIR_WIDEST = 1 << 22
};

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

/* Right features of all pairs of layers before (u, v). */
static int64_t right_before(const dnn_mlp *mlp, int64_t u, int64_t v)
{
    int64_t before = 0;
    for (int64_t k = 0; k < mlp->n_layers; k++)
        for (int64_t l = k; l < mlp->n_layers && (k < u || (k == u && l < v)); l++) before += right_size(mlp, k, l);
    return before;
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
    int64_t samples = min_index(most, pair_samples(mlp, root)), right = right_before(mlp, mlp->n_layers, 0);
    for (int64_t u = 0; u < mlp->n_layers; u++) {
        space->input[u] = carve(next, samples * (mlp->layers[u] + 1), sizeof(real));
        space->delta[u] = carve(next, samples * root->columns * mlp->layers[u + 1], sizeof(real));
    }
    space->samples = samples;
    space->right = carve(next, samples * right, sizeof(real));
    space->left = carve(next, samples * PANEL_PAIRS, sizeof(real));
}

/* One call of mlp_gauss_newton. */
typedef struct {
    workspaces h;
    real *out;
    const int64_t *blocks;
    int64_t n_blocks, packed;
    double per_sample[2], per_chunk[2]; /* nanoseconds, from J and from pairs */
    real *sums; /* of pairs, for every thread that makes whole matrices */
    int64_t n_sums; /* numbers of each */
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
                c->n_sums += pairs * right_size(mlp, u, v);
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
    real *right = space->right + right_before(mlp, u, v) * space->samples;
    memset(right + at * width, 0, (size_t)(n * width) * sizeof(real));
    for (int64_t m = at; m < at + n; m++)
        for (int64_t r = 0; r < columns; r++) {
            const real *e = space->delta[u] + (m * columns + r) * h, *f = space->delta[v] + (m * columns + r) * g;
            real *row = right + m * width;
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

/* The sums of pair (a, b) into rows (a, j) and columns (b, k) of the block. Serial. */
static void put_pair(real *restrict out, int64_t size, const real *restrict sums, const part *p, const part *q,
    int64_t a, int64_t b, int same)
{
    int64_t j0 = max_index(0, p->lo - a * p->h), j1 = min_index(p->h, p->hi - a * p->h);
    int64_t k0 = max_index(0, q->lo - b * q->h), k1 = min_index(q->h, q->hi - b * q->h);
    for (int64_t j = j0; j < j1; j++) {
        real *row = out + (a * p->h + j) * size + b * q->h;
        if (!same) {
            for (int64_t k = k0; k < k1; k++) row[k] = sums[j * q->h + k];
            continue;
        }
        const real *upper = sums + j * p->h - triangle(j); /* upper[k], k >= j: the packed row j */
        for (int64_t k = k0; k < min_index(j, k1); k++) row[k] = sums[k * p->h - triangle(k) + j];
        for (int64_t k = max_index(j, k0); k < k1; k++) row[k] = upper[k];
    }
}

/* Layers (u, v) of one block, parameters lo .. hi - 1: where their sums stand (pairs, right), and their pairs of inputs. */
typedef struct {
    const curvature *c;
    int64_t u, v, lo, hi, pairs, right;
    part p, q;
    real *sums;
} pair_block;

/* The first one in `sums`; the next ones by next_pairs, which returns 0 at the end. */
static pair_block first_pairs(const curvature *c, real *sums)
{
    return (pair_block){.c = c, .u = 0, .v = -1, .hi = -1, .sums = sums};
}

static int next_pairs(pair_block *f, int64_t *block)
{
    const curvature *c = f->c;
    const dnn_mlp *mlp = c->h.mlp;
    f->sums += f->pairs * f->right;
    if (f->v < 0)
        *block = 0, f->v = 0;
    else if (++*block == c->n_blocks) {
        *block = 0;
        if (++f->v == mlp->n_layers) f->v = ++f->u;
    }
    if (f->u == mlp->n_layers || c->n_blocks == 0) return 0;
    f->lo = c->blocks[*block], f->hi = c->blocks[*block + 1];
    f->p = part_of(mlp, f->u, f->lo, f->hi), f->q = part_of(mlp, f->v, f->lo, f->hi);
    int64_t rows = f->p.i1 - f->p.i0;
    f->right = right_size(mlp, f->u, f->v);
    f->pairs = f->u == f->v ? triangle(rows) : rows * (f->q.i1 - f->q.i0);
    return 1;
}

/* The panel that begins with pair number `done`. */
static panel panel_of(const pair_block *f, int64_t done)
{
    int64_t rows = f->q.i1 - f->q.i0;
    panel now = {f->p.i0, f->q.i0, min_index(PANEL_PAIRS, f->pairs - done)};
    if (f->u != f->v) {
        now.a += done / rows, now.b += done % rows;
        return now;
    }
    for (; done >= f->p.i1 - now.a; now.a++) done -= f->p.i1 - now.a;
    now.b = now.a + done;
    return now;
}

INLINE int64_t pieces_of(const pair_block *f) { return ceil_div(f->right, PANEL_RIGHT); }
INLINE int64_t tiles_of(const pair_block *f) { return ceil_div(f->pairs, PANEL_PAIRS) * pieces_of(f); }

/* Tile t of a pair of layers: sums <- (sums or 0) + what n samples bring. *filled: the first pair of the panel whose left
 * features stand in the space. Serial. */
static void add_tile_of_pairs(const pair_block *f, const pair_space *common, const pair_space *own, int64_t t,
    int64_t n, int keep, int64_t *filled)
{
    const dnn_mlp *mlp = f->c->h.mlp;
    int64_t pieces = pieces_of(f), done = t / pieces * PANEL_PAIRS, piece = ceil_div(ceil_div(f->right, pieces), 8) * 8;
    int64_t from = t % pieces * piece, width = min_index(piece, f->right - from);
    const real *right = common->right + right_before(mlp, f->u, f->v) * common->samples + from;
    panel now = panel_of(f, done);
    if (width <= 0) return;
    if (*filled != done)
        fill_left(own->left, common->input[f->u], mlp->layers[f->u] + 1, common->input[f->v], mlp->layers[f->v] + 1, n,
            now, f->q.i0, f->q.i1, f->u == f->v);
    *filled = done;
    gemm(mlp->blas, 'N', 'T', width, now.count, n, right, f->right, own->left, now.count, (real)keep,
        f->sums + done * f->right + from, f->right);
}

/* The panel that begins with pair `done` into the block `out`. Serial. */
static void put_panel(const pair_block *f, int64_t done, real *out)
{
    panel now = panel_of(f, done);
    int64_t size = f->hi - f->lo;
    out += (f->p.start - f->lo) * size + (f->q.start - f->lo);
    for (int64_t k = done; k < done + now.count; k++) {
        put_pair(out, size, f->sums + k * f->right, &f->p, &f->q, now.a, now.b, f->u == f->v);
        if (++now.b == f->q.i1) {
            now.a++;
            now.b = f->u == f->v ? now.a : f->q.i0;
        }
    }
}

INLINE void wait_for(int team)
{
    if (team > 1) {
#pragma omp barrier
    }
}

/* A loop as FOR_EACH, whose threads do not wait for one another at its end. */
#define FOR_EACH_GOING_ON(i, n, ...)                                                                                   \
    if (team == WITHIN) {                                                                                              \
        _Pragma("omp for schedule(dynamic, 1) nowait") for (int64_t i = 0; i < (n); i++) { __VA_ARGS__; }              \
    } else                                                                                                             \
        for (int64_t i = 0; i < (n); i++) {                                                                            \
            __VA_ARGS__;                                                                                               \
        }

/* Some rows in workspace r; features stand in the workspace `common`, and the products in `sums`, one for the team. */
static void curve_from_pairs(
    const curvature *c, const workspace *r, const workspace *common, const stretch *some, real *sums, real *out)
{
    const dnn_mlp *mlp = c->h.mlp;
    const pair_space *space = &common->pairs;
    const int team = some->team > 1 ? WITHIN : 1;
    int64_t samples = pair_samples(mlp, c->h.root), group = min_index(chunk_rows(mlp), PAIR_GROUP), block;
    for (int64_t first = some->first; first < some->stop; first += samples) {
        int64_t n = min_index(samples, some->stop - first), groups = ceil_div(n, group);
        FOR_EACH(g, groups, {
            int64_t at = g * group, count = min_index(group, n - at);
            fill_space(space, r, c, some->agent, first + at, at, count);
            for (int64_t u = 0; u < mlp->n_layers; u++)
                for (int64_t v = u; v < mlp->n_layers; v++) fill_right(space, c, u, v, at, count);
        })
        for (pair_block f = first_pairs(c, sums); next_pairs(&f, &block);) {
            int64_t filled = -1;
            FOR_EACH_GOING_ON(
                t, tiles_of(&f), add_tile_of_pairs(&f, space, &r->pairs, t, n, first > some->first, &filled))
        }
        wait_for(some->team);
    }
    for (pair_block f = first_pairs(c, sums); next_pairs(&f, &block);) {
        real *place = out;
        for (int64_t b = 0; b < block; b++) place += square(c->blocks[b + 1] - c->blocks[b]);
        FOR_EACH_GOING_ON(k, ceil_div(f.pairs, PANEL_PAIRS), put_panel(&f, k * PANEL_PAIRS, place))
    }
    wait_for(some->team);
}
