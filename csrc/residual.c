/* residual.c: chains of residual layers, for training in depth and for all intervals of a multigrid level at once.
 *
 * A state stands transposed as in gradient.c: (width, columns), a column for each sample, columns in whole vectors.
 * Chain s makes `steps` layers one after another, layer[s, k] of size size[s, k]:
 *     forward  u_k+1 = u_k + size phi(z_k),  z_k = W' u_k + b 1';    tangent  du_k+1 = du_k + size phi'(z_k) dz_k;
 *     backward pushed_k = size phi'(z_k) adjoint_k,  adjoint_k+1 = adjoint_k + W pushed_k.
 * Columns are taken in tiles of a fixed number, so that the states of a tile pass through all layers of its chain in a
 * cache; a unit of work is one tile of one chain, and no number depends on another unit.
 */

enum { RESIDUAL_NUMBERS = 4096 };

/* Columns of a tile: a state, its z and its slope in a first-level cache, and whole register tiles. */
INLINE int64_t residual_columns(int64_t width)
{
    int64_t tile = TILE_VECTORS * LANES;
    return max_index(1, RESIDUAL_NUMBERS / max_index(1, width) / tile) * tile;
}

typedef struct {
    const dnn_chains *c;
    real *packed[3]; /* of every layer of every chain: W', W, V' in tiles */
    real *scratch; /* z, dz or phi'(z) of a thread: 2 (width, columns of a tile) */
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
    j->scratch = carve(&next, 2 * c->width * j->tile * threads, sizeof(real));
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

/* z = b 1' or z or 0, + A u of one tile, A packed. Shapes: z (width, n) with row length tile, u (width, n) with row
 * length ld, n whole vectors. Aliasing: none. Serial. */
static void residual_product(const residual_job *j, real *z, const real *packed, const real *bias, int keep,
    const real *u, int64_t ld, int64_t n)
{
    int64_t d = j->c->width, wide = n / LANES, vectors, count;
    for (int64_t start = 0; start < d; start += TILE_DEPTH, bias = NULL, keep = 1)
        for (int64_t s = 0, depth = min_index(d - start, TILE_DEPTH); s < wide; s += vectors) {
            vectors = min_index(TILE_VECTORS, wide - s);
            for (int64_t r = 0; r < d; r += count) {
                count = tile_rows(d - r);
                real *place = z + r * j->tile + s * LANES;
                const real *first = bias ? bias + r : NULL, *left = packed + d * start + r * depth;
                const real *right = u + start * ld + s * LANES;
                TILE_OF(tile_product, count, vectors, place, j->tile, first, keep, left, count, 1, right, ld, depth)
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

static void residual_forward_unit(const residual_job *j, real *u, const real *g, int64_t unit, int thread)
{
    const dnn_chains *c = j->c;
    int64_t d = c->width, s = unit / j->tiles, first = unit % j->tiles * j->tile, size = d * c->columns;
    int64_t n = min_index(j->tile, c->columns - first);
    real *z = j->scratch + 2 * thread * d * j->tile;
    for (int64_t k = 0; k < c->steps; k++) {
        int64_t at = s * c->steps + k, state = (s * c->apart + k) * size + first;
        const real *bias = residual_weights(c, c->layers, at) + d * d;
        real h = (real)c->size[at];
        residual_product(j, z, j->packed[0] + at * d * d, bias, 0, u + state, c->columns, n);
        residual_activate(z, d, n, j->tile, c->activation);
        for (int64_t r = 0; r < d; r++) {
            const real *from = u + state + r * c->columns, *more = g ? g + state + size + r * c->columns : NULL;
            real *to = u + state + size + r * c->columns;
            for (int64_t m = 0; m < n; m++) to[m] = from[m] + h * z[r * j->tile + m];
            if (more)
                for (int64_t m = 0; m < n; m++) to[m] += more[m];
        }
    }
}

/* u[s, k + 1] = u[s, k] + size phi(W' u[s, k] + b 1') (+ g[s, k + 1]), state (s, k) at row s apart + k.
 * Shapes: u, g (rows, width, columns), g may be NULL. Aliasing: g is not u. Tiles of all chains are parallel. */
static void residual_forward(void *u, const dnn_chains *c, const void *g, int threads, void *work)
{
    residual_job j;
    cut_residual(&j, work, c, 1, threads);
    int team = residual_team(c, 2, threads);
    FOR_EACH(at, c->chains * c->steps, pack_residual(&j, j.packed[0], c->layers, at, 1))
    FOR_EACH(unit, c->chains * j.tiles, residual_forward_unit(&j, u, g, unit, thread))
}

static void residual_tangent_unit(
    const residual_job *j, real *u, real *du, const void *direction, int64_t unit, int thread)
{
    const dnn_chains *c = j->c;
    int64_t d = c->width, s = unit / j->tiles, first = unit % j->tiles * j->tile, size = d * c->columns;
    int64_t n = min_index(j->tile, c->columns - first);
    real *z = j->scratch + 2 * thread * d * j->tile, *dz = z + d * j->tile;
    for (int64_t k = 0; k < c->steps; k++) {
        int64_t at = s * c->steps + k, state = (s * c->apart + k) * size + first;
        real h = (real)c->size[at];
        residual_product(
            j, z, j->packed[0] + at * d * d, residual_weights(c, c->layers, at) + d * d, 0, u + state, c->columns, n);
        residual_product(
            j, dz, j->packed[2] + at * d * d, residual_weights(c, direction, at) + d * d, 0, u + state, c->columns, n);
        residual_product(j, dz, j->packed[0] + at * d * d, NULL, 1, du + state, c->columns, n);
        residual_activate(z, d, n, j->tile, c->activation);
        residual_slope(dz, z, d, n, j->tile, c->activation);
        for (int64_t r = 0; r < d; r++) {
            int64_t row = state + r * c->columns;
            for (int64_t m = 0; m < n; m++) u[row + size + m] = u[row + m] + h * z[r * j->tile + m];
            for (int64_t m = 0; m < n; m++) du[row + size + m] = du[row + m] + h * dz[r * j->tile + m];
        }
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

static void residual_backward_unit(
    const residual_job *j, real *adjoint, real *pushed, const real *u, const real *g, int64_t unit, int thread)
{
    const dnn_chains *c = j->c;
    int64_t d = c->width, s = unit / j->tiles, first = unit % j->tiles * j->tile, size = d * c->columns;
    int64_t n = min_index(j->tile, c->columns - first);
    real *z = j->scratch + 2 * thread * d * j->tile, *push = z + d * j->tile;
    for (int64_t k = 0; k < c->steps; k++) {
        int64_t at = s * c->steps + k, state = (s * c->apart + k) * size + first;
        real h = (real)c->size[at];
        const real *bias = residual_weights(c, c->layers, at) + d * d;
        residual_product(j, z, j->packed[0] + at * d * d, bias, 0, u + c->state[at] * size + first, c->columns, n);
        residual_activate(z, d, n, j->tile, c->activation);
        for (int64_t r = 0; r < d; r++)
            for (int64_t m = 0; m < n; m++) push[r * j->tile + m] = h * adjoint[state + r * c->columns + m];
        residual_slope(push, z, d, n, j->tile, c->activation);
        for (int64_t r = 0; r < d && pushed; r++)
            memcpy(pushed + at * size + first + r * c->columns, push + r * j->tile, (size_t)n * sizeof(real));
        residual_product(j, z, j->packed[1] + at * d * d, NULL, 0, push, j->tile, n);
        for (int64_t r = 0; r < d; r++) {
            int64_t row = state + r * c->columns;
            const real *more = g ? g + row + size : NULL;
            for (int64_t m = 0; m < n; m++) adjoint[row + size + m] = adjoint[row + m] + z[r * j->tile + m];
            if (more)
                for (int64_t m = 0; m < n; m++) adjoint[row + size + m] += more[m];
        }
    }
}

static void pack_both(const residual_job *j, int64_t at)
{
    pack_residual(j, j->packed[0], j->c->layers, at, 1);
    pack_residual(j, j->packed[1], j->c->layers, at, 0);
}

/* pushed[s, k] = size phi'(z) adjoint[s, k] with z of the state u[state[s, k]], and
 * adjoint[s, k + 1] = adjoint[s, k] + W pushed[s, k] (+ g[s, k + 1]), (s, k) of adjoint and g at row s apart + k.
 * Shapes: adjoint, g (rows, width, columns), pushed (chains, steps, width, columns), u (states, width, columns);
 * pushed and g may be NULL. Aliasing: none. Parallel as residual_forward. */
static void residual_backward(
    void *adjoint, void *pushed, const dnn_chains *c, const void *u, const void *g, int threads, void *work)
{
    residual_job j;
    cut_residual(&j, work, c, 2, threads);
    int team = residual_team(c, 4, threads);
    FOR_EACH(at, c->chains * c->steps, pack_both(&j, at))
    FOR_EACH(unit, c->chains * j.tiles, residual_backward_unit(&j, adjoint, pushed, u, g, unit, thread))
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
