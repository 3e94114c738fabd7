/* residual.c: chains of residual layers, for training in depth and for all intervals of a multigrid level at once.
 *
 * A state stands transposed as in gradient.c: (width, columns), a column for each sample, columns in whole vectors.
 * Chain s makes `steps` layers one after another, layer[s, k] of size size[s, k]:
 *     forward  u_k+1 = u_k + size phi(z_k),  z_k = W' u_k + b 1';    tangent  du_k+1 = du_k + size phi'(z_k) dz_k;
 *     backward pushed_k = size phi'(z_k) adjoint_k,  adjoint_k+1 = adjoint_k + W pushed_k.
 * Columns are taken in tiles of a fixed number, so that the states of a tile pass through all layers of its chain in a
 * cache; a unit of work is one tile of one chain, and no number depends on another unit.
 */

enum { RESIDUAL_NUMBERS = 12288, RESIDUAL_MOST = 192 };

/* Columns of a tile: what a thread holds of it in its caches, pieces of rows long enough to be; narrow layers gain
 * nothing from more than RESIDUAL_MOST. */
INLINE int64_t residual_columns(int64_t width)
{
    int64_t tile = TILE_VECTORS * LANES;
    return max_index(1, min_index(RESIDUAL_MOST, RESIDUAL_NUMBERS / max_index(1, width)) / tile) * tile;
}

typedef struct {
    const dnn_chains *c;
    real *packed[3]; /* of every layer of every chain: W', W, V' in tiles */
    real *scratch; /* of a thread: 4 (width, columns of a tile), the tile's state or adjoint first */
    int64_t tile, tiles;
} residual_job;

INLINE const real *residual_weights(const dnn_chains *c, const void *layers, int64_t at)
{
    return (const real *)layers + c->layer[at] * (c->width + 1) * c->width;
}

static size_t cut_residual(residual_job *j, char *work, const dnn_chains *c, int packs, int threads)
{
    char *next = work;
    int64_t numbers = c->chains * c->steps * square(c->width);
    j->c = c;
    j->tile = min_index(residual_columns(c->width), max_index(LANES, c->columns));
    j->tiles = ceil_div(c->columns, j->tile);
    for (int i = 0; i < 3; i++) j->packed[i] = i < packs ? carve(&next, numbers, sizeof(real)) : NULL;
    j->scratch = carve(&next, 4 * c->width * j->tile * threads, sizeof(real));
    return (size_t)((uintptr_t)next - (uintptr_t)work);
}

static size_t residual_work(const dnn_chains *c, int threads)
{
    residual_job j;
    return cut_residual(&j, NULL, c, 3, threads);
}

INLINE int residual_team(const dnn_chains *c, double products, int threads)
{
    double layers = (double)(c->chains * c->steps) * (double)c->columns;
    return team_size(threads, layers * (double)c->width * (products * (double)c->width / 15 + 3) * 1e-3);
}

static void pack_residual(const residual_job *j, real *packed, const void *layers, int64_t at, int turned)
{
    int64_t d = j->c->width;
    pack_tiles(packed + at * d * d, residual_weights(j->c, layers, at), d, d, turned ? 1 : d, turned ? d : 1);
}

/* The scratch of a thread: four tiles, one after another. */
INLINE real *residual_tile(const residual_job *j, int thread, int number)
{
    return j->scratch + (4 * thread + number) * j->c->width * j->tile;
}

/* One tile of a state (width, n) from rows of length columns to rows of length tile. Serial. */
INLINE void residual_take(const residual_job *j, real *restrict tile, const real *restrict state, int64_t n)
{
    for (int64_t r = 0; r < j->c->width; r++)
        memcpy(tile + r * j->tile, state + r * j->c->columns, (size_t)n * sizeof(real));
}

/* The same back. Serial. */
INLINE void residual_give(const residual_job *j, real *restrict state, const real *restrict tile, int64_t n)
{
    for (int64_t r = 0; r < j->c->width; r++)
        memcpy(state + r * j->c->columns, tile + r * j->tile, (size_t)n * sizeof(real));
}

/* own <- own + size z (+ g), and the same into state. Shapes: own, z tiles (width, n), g and state (width, columns),
 * g may be NULL. Aliasing: none. Serial. */
INLINE void residual_add(const residual_job *j, real *restrict state, real *restrict own, real size,
    const real *restrict z, const real *restrict g, int64_t n)
{
    int64_t ld = j->c->columns;
    for (int64_t r = 0; r < j->c->width; r++, own += j->tile, z += j->tile, state += ld) {
        for (int64_t m = 0; m < n; m++) own[m] += size * z[m];
        if (g)
            for (int64_t m = 0; m < n; m++) own[m] += g[r * ld + m];
        memcpy(state, own, (size_t)n * sizeof(real));
    }
}

/* z = b 1' or z or 0, + A u of one tile, A packed. Shapes: z, u (width, n) with row length tile, n whole vectors.
 * Aliasing: none. Serial. */
static void residual_product(
    const residual_job *j, real *z, const real *packed, const real *bias, int keep, const real *u, int64_t n)
{
    int64_t d = j->c->width, ld = j->tile, wide = n / LANES, vectors, count;
    for (int64_t start = 0; start < d; start += TILE_DEPTH, bias = NULL, keep = 1)
        for (int64_t s = 0, depth = min_index(d - start, TILE_DEPTH); s < wide; s += vectors) {
            vectors = min_index(TILE_VECTORS, wide - s);
            for (int64_t r = 0; r < d; r += count) {
                count = tile_rows(d - r);
                real *place = z + r * ld + s * LANES;
                const real *first = bias ? bias + r : NULL, *left = packed + d * start + r * depth;
                const real *right = u + start * ld + s * LANES;
                TILE_OF(tile_product, count, vectors, place, ld, first, keep, left, count, 1, right, ld, depth)
            }
        }
}

/* z <- phi(z); smooth relu: (z + e)^2 / (4 e) on [-e, e], e = 0.1, and relu elsewhere. Serial. */
static void residual_activate(real *z, int64_t rows, int64_t n, int64_t ld, int activation)
{
    const real e = (real)0.1;
    if (activation != DNN_SMOOTH_RELU)
        activate_rows(z, z, rows, n, ld, activation);
    else
        for (int64_t r = 0; r < rows; r++, z += ld)
            for (int64_t m = 0; m < n; m++) {
                real blend = (z[m] + e) * (z[m] + e) / (4 * e);
                z[m] = z[m] >= e ? z[m] : z[m] <= -e ? 0 : blend;
            }
}

/* delta <- delta phi'(z), written with a = phi(z); smooth relu: sqrt(a / e), at most 1. Serial. */
static void residual_slope(
    real *restrict delta, const real *restrict a, int64_t rows, int64_t n, int64_t ld, int activation)
{
    const real e = (real)0.1;
    if (activation != DNN_SMOOTH_RELU)
        slope_rows(delta, a, a, rows, n, ld, activation);
    else
        for (int64_t r = 0; r < rows; r++, delta += ld, a += ld)
            for (int64_t m = 0; m < n; m++) delta[m] *= a[m] >= e ? 1 : (real)sqrt(a[m] / e);
}

static void residual_forward_unit(const residual_job *j, real *u, real *kept, const real *g, int64_t unit, int thread)
{
    const dnn_chains *c = j->c;
    int64_t d = c->width, s = unit / j->tiles, first = unit % j->tiles * j->tile, size = d * c->columns;
    int64_t n = min_index(j->tile, c->columns - first);
    real *own = residual_tile(j, thread, 0), *z = residual_tile(j, thread, 1);
    residual_take(j, own, u + s * c->apart * size + first, n);
    for (int64_t k = 0; k < c->steps; k++) {
        int64_t at = s * c->steps + k, state = (s * c->apart + k) * size + first, next = state + size;
        residual_product(j, z, j->packed[0] + at * d * d, residual_weights(c, c->layers, at) + d * d, 0, own, n);
        residual_activate(z, d, n, j->tile, c->activation);
        if (kept) residual_give(j, kept + state, z, n);
        residual_add(j, u + next, own, (real)c->size[at], z, g ? g + next : NULL, n);
    }
}

/* u[s, k + 1] = u[s, k] + size phi(W' u[s, k] + b 1') (+ g[s, k + 1]), state (s, k) at row s apart + k; a[s, k] is
 * phi there. Shapes: u, a, g (rows, width, columns), a and g may be NULL. Aliasing: none. Tiles of all chains are
 * parallel. */
static void residual_forward(void *u, void *a, const dnn_chains *c, const void *g, int threads, void *work)
{
    residual_job j;
    cut_residual(&j, work, c, 1, threads);
    int team = residual_team(c, 2, threads);
    FOR_EACH(at, c->chains * c->steps, pack_residual(&j, j.packed[0], c->layers, at, 1))
    FOR_EACH(unit, c->chains * j.tiles, residual_forward_unit(&j, u, a, g, unit, thread))
}

static void residual_tangent_unit(
    const residual_job *j, real *u, real *du, const void *direction, int64_t unit, int thread)
{
    const dnn_chains *c = j->c;
    int64_t d = c->width, s = unit / j->tiles, first = unit % j->tiles * j->tile, size = d * c->columns;
    int64_t n = min_index(j->tile, c->columns - first), start = s * c->apart * size + first;
    real *own = residual_tile(j, thread, 0), *moved = residual_tile(j, thread, 1);
    real *z = residual_tile(j, thread, 2), *dz = residual_tile(j, thread, 3);
    residual_take(j, own, u + start, n);
    residual_take(j, moved, du + start, n);
    for (int64_t k = 0; k < c->steps; k++) {
        int64_t at = s * c->steps + k, next = start + (k + 1) * size;
        const real *weight = j->packed[0] + at * d * d, *along = j->packed[2] + at * d * d;
        residual_product(j, z, weight, residual_weights(c, c->layers, at) + d * d, 0, own, n);
        residual_product(j, dz, along, residual_weights(c, direction, at) + d * d, 0, own, n);
        residual_product(j, dz, weight, NULL, 1, moved, n);
        residual_activate(z, d, n, j->tile, c->activation);
        residual_slope(dz, z, d, n, j->tile, c->activation);
        residual_add(j, u + next, own, (real)c->size[at], z, NULL, n);
        residual_add(j, du + next, moved, (real)c->size[at], dz, NULL, n);
    }
}

static void pack_tangent(const residual_job *j, const void *direction, int64_t at)
{
    pack_residual(j, j->packed[0], j->c->layers, at, 1);
    pack_residual(j, j->packed[2], direction, at, 1);
}

/* u as in residual_forward, and du[s, k + 1] = du[s, k] + size phi'(z) (W' du[s, k] + V' u[s, k] + v 1').
 * Shapes: u, du (rows, width, columns), direction like c->layers: V, v of every layer. Aliasing: none. Parallel as
 * residual_forward. */
static void residual_tangent(void *u, void *du, const dnn_chains *c, const void *direction, int threads, void *work)
{
    residual_job j;
    cut_residual(&j, work, c, 3, threads);
    int team = residual_team(c, 6, threads);
    FOR_EACH(at, c->chains * c->steps, pack_tangent(&j, direction, at))
    FOR_EACH(unit, c->chains * j.tiles, residual_tangent_unit(&j, u, du, direction, unit, thread))
}

static void residual_backward_unit(const residual_job *j, real *adjoint, real *pushed, const real *u, const real *a,
    const real *g, int64_t unit, int thread)
{
    const dnn_chains *c = j->c;
    int64_t d = c->width, s = unit / j->tiles, first = unit % j->tiles * j->tile, size = d * c->columns;
    int64_t n = min_index(j->tile, c->columns - first), start = s * c->apart * size + first;
    real *own = residual_tile(j, thread, 0), *z = residual_tile(j, thread, 1), *push = residual_tile(j, thread, 2);
    residual_take(j, own, adjoint + start, n);
    for (int64_t k = 0; k < c->steps; k++) {
        int64_t at = s * c->steps + k, state = c->state[at] * size + first, next = start + (k + 1) * size;
        real h = (real)c->size[at];
        if (a)
            residual_take(j, z, a + state, n);
        else {
            residual_take(j, push, u + state, n);
            residual_product(j, z, j->packed[0] + at * d * d, residual_weights(c, c->layers, at) + d * d, 0, push, n);
            residual_activate(z, d, n, j->tile, c->activation);
        }
        for (int64_t r = 0; r < d; r++)
            for (int64_t m = 0; m < n; m++) push[r * j->tile + m] = h * own[r * j->tile + m];
        residual_slope(push, z, d, n, j->tile, c->activation);
        if (pushed) residual_give(j, pushed + at * size + first, push, n);
        residual_product(j, z, j->packed[1] + at * d * d, NULL, 0, push, n);
        residual_add(j, adjoint + next, own, 1, z, g ? g + next : NULL, n);
    }
}

static void pack_both(const residual_job *j, int64_t at)
{
    pack_residual(j, j->packed[0], j->c->layers, at, 1);
    pack_residual(j, j->packed[1], j->c->layers, at, 0);
}

/* pushed[s, k] = size phi'(z) adjoint[s, k] with z of the state u[state[s, k]], and
 * adjoint[s, k + 1] = adjoint[s, k] + W pushed[s, k] (+ g[s, k + 1]), (s, k) of adjoint and g at row s apart + k.
 * With a[state[s, k]] = phi(z) from residual_forward z is not formed again. Shapes: adjoint, g (rows, width, columns),
 * pushed (chains, steps, width, columns), u, a (states, width, columns); pushed, a and g may be NULL. Aliasing: none.
 * Parallel as residual_forward. */
static void residual_backward(void *adjoint, void *pushed, const dnn_chains *c, const void *u, const void *a,
    const void *g, int threads, void *work)
{
    residual_job j;
    cut_residual(&j, work, c, 2, threads);
    int team = residual_team(c, a ? 2 : 4, threads);
    FOR_EACH(at, c->chains * c->steps, pack_both(&j, at))
    FOR_EACH(unit, c->chains * j.tiles, residual_backward_unit(&j, adjoint, pushed, u, a, g, unit, thread))
}

static void residual_gradient_layer(
    const dnn_chains *c, real *grad, const real *u, const real *pushed, const dnn_blas *blas, int64_t at)
{
    int64_t d = c->width, size = d * c->columns;
    real *out = grad + at * (d + 1) * d;
    const real *push = pushed + at * size;
    product_nt(blas, out, u + c->state[at] * size, push, d, c->columns, d, 0);
    for (int64_t r = 0; r < d; r++) {
        real sums[LANES];
        add_rows(sums, 0, push + r * c->columns, 1, c->columns, c->columns);
        out[d * d + r] = sum_lanes(load(sums));
    }
}

/* grad[s, k] = (u[state[s, k]] pushed[s, k]', sum of pushed[s, k] over columns).
 * Shapes: grad (chains, steps, width^2 + width), u (states, width, columns), pushed (chains, steps, width, columns).
 * Aliasing: none. Layers are parallel. */
static void residual_gradient(
    void *grad, const dnn_chains *c, const void *u, const void *pushed, const dnn_blas *blas, int threads)
{
    int team = residual_team(c, 2, threads);
    FOR_EACH(at, c->chains * c->steps, residual_gradient_layer(c, grad, u, pushed, blas, at))
}
