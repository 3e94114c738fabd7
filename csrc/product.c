/* product.c: blocks of J' S S' J times vectors; the blocks are never formed. */

enum { FEW_BYTES = 1 << 18 }; /* of weights in the first caches */
#define TINY ((real)FLT_MIN) /* beside which a sum that is not 0 counts */

/* u_m = q_m t_m - q_m (q_m't_m) / sum(q_m), and 0 where q_m is. Shapes: t, u, q (n, Q). Aliasing: none. Serial. */
static void times_centred(real *restrict u, const real *restrict t, const real *restrict q, int64_t n, int64_t outputs)
{
    for (int64_t m = 0; m < n; m++, q += outputs, t += outputs, u += outputs) {
        real along = 0, sum = TINY;
        for (int64_t k = 0; k < outputs; k++) along += q[k] * t[k], sum += q[k];
        for (int64_t k = 0; k < outputs; k++) u[k] = q[k] * (t[k] - along / sum);
    }
}

/* u_m = S_m S_m' t_m. Shapes: t, u (n, Q). Aliasing: none. Serial. */
static void times_root(
    real *restrict u, const real *restrict t, const dnn_root *root, int64_t first, int64_t n, int64_t outputs)
{
    int64_t columns = root->columns;
    const real *s = (const real *)root->root + first * outputs * (root->diagonal ? 1 : columns);
    if (root->centred) {
        times_centred(u, t, s, n, outputs);
        return;
    }
    if (root->diagonal) {
        for (int64_t k = 0; k < n * outputs; k++) u[k] = s[k] * s[k] * t[k];
        return;
    }
    memset(u, 0, (size_t)(n * outputs) * sizeof(real));
    for (int64_t m = 0; m < n; m++, s += outputs * columns, t += outputs, u += outputs)
        for (int64_t r = 0; r < columns; r++) {
            real along = 0;
            for (int64_t q = 0; q < outputs; q++) along += s[q * columns + r] * t[q];
            for (int64_t q = 0; q < outputs; q++) u[q] += s[q * columns + r] * along;
        }
}

/* What stays from product to product with the same weights and root: hidden activations and S' of the first chunks that
 * fit. */
typedef struct kept {
    real *place;
    int64_t numbers;
    const int64_t *start; /* (A): where those of an agent begin */
    int is_filled;
    const int64_t *n_done; /* (A) or NULL: products made before, with which those of an agent were filled */
} kept_chunks;

/* Numbers of the chunks of so many rows. */
INLINE int64_t chunk_numbers(const job *j, int64_t rows)
{
    int64_t step = j->chunk_rows, left = rows % step;
    return j->held_rows * (rows / step * chunk_ld(step) + (left ? chunk_ld(left) : 0));
}

/* Those of an agent of so many rows, part by part. */
static int64_t agent_numbers(const job *j, int64_t rows)
{
    if (rows == 0) return 0;
    int64_t part = part_rows(j->mlp, rows), left = rows % part;
    return rows / part * chunk_numbers(j, part) + (left ? chunk_numbers(j, left) : 0);
}

/* Where the hidden activations of n samples from row `first` on stand, in s, and S' in the rows behind them: where they
 * are kept if they fit, else in the workspace; returns whether they are kept. `first` begins a chunk. */
static int place_chunk(const job *j, tile_space *s, int64_t agent, int64_t first, int64_t n)
{
    const dnn_mlp *mlp = j->mlp;
    const kept_chunks *kept = j->kept;
    int64_t ld = chunk_ld(n), at = first - mlp->offsets[agent], part = part_rows(mlp, rows_of(mlp, agent));
    int is_kept = 0;
    real *place = s->hidden;
    if (kept) {
        int64_t start = kept->start[agent] + at / part * chunk_numbers(j, part) + chunk_numbers(j, at % part);
        is_kept = start + j->held_rows * ld <= kept->numbers;
        if (is_kept) place = kept->place + start;
    }
    place_hidden(s, mlp, place, ld);
    return is_kept;
}

/* S' of n samples behind their hidden activations, if it stands in tiles; returns its place. */
static real *turn_root(const job *j, const tile_space *s, int64_t first, int64_t n)
{
    const dnn_mlp *mlp = j->mlp;
    int64_t wide = outputs_of(mlp) * j->root->columns;
    real *place = s->held + hidden_rows(mlp) * s->ld;
    if (root_rows(mlp, j->root))
        turn(place, s->ld, (const real *)j->root->root + first * wide, wide, n, wide, whole_vectors(n));
    return place;
}

/* The hidden activations of n samples from row `first` on, and S' behind them, which is returned: made unless they are
 * kept and stand there. `first` begins a chunk. Serial. */
static const real *hold_chunk(
    const job *j, tile_space *s, const real *w, int64_t agent, int64_t first, int64_t n, const real *x)
{
    const kept_chunks *kept = j->kept;
    if (place_chunk(j, s, agent, first, n) && (kept->is_filled || (kept->n_done && kept->n_done[agent] > 0)))
        return s->held + hidden_rows(j->mlp) * s->ld;
    forward_tiles(s, j->mlp, w, x, n, j->mlp->n_layers - 1);
    return turn_root(j, s, first, n);
}

/* S of a part of an agent's rows, times their share, into `root`, at the agent's weights. Hidden activations and S' of
 * chunks that are kept then stand there. Shapes: root (M, Q) or (M, Q, Q), that of the job; share (M). Serial. */
static void root_panel(
    const job *j, workspace *r, int64_t agent, int64_t first, int64_t stop, real *root, const real *share)
{
    const dnn_mlp *mlp = j->mlp;
    tile_space *s = &r->tiles;
    const real *w = weights_of(mlp, agent);
    int64_t outputs = outputs_of(mlp), numbers = outputs * (j->root->diagonal ? 1 : j->root->columns);
    pack_weights(s, mlp, w, 1);
    for (; first < stop; first += j->chunk_rows) {
        int64_t n = min_index(stop - first, j->chunk_rows);
        const real *f = s->a[mlp->n_layers], *target = j->target + first * outputs;
        place_chunk(j, s, agent, first, n);
        forward_tiles(s, mlp, w, inputs_of(mlp, first), n, mlp->n_layers);
        if (outputs > 1) {
            turn(s->rows[0], outputs, f, s->ld, outputs, n, outputs);
            f = s->rows[0];
        }
        roots_of(root + first * numbers, f, target, share + first, n, outputs, j->loss, j->param);
        turn_root(j, s, first, n);
    }
}

/* t_k' = (V_k' a_k-1' + W_k' t_k-1' + v_k 1') phi'(z_k'), t_0 = 0: J v in the direction (V, v), packed in s->move;
 * returns t_L' (Q, ld), in one of the deltas. Shapes: v (P), x (n, d). Hidden activations stand. Serial. */
static const real *tangent_tiles(const tile_space *s, const dnn_mlp *mlp, const real *v, const real *x, int64_t n)
{
    int64_t columns = whole_vectors(n);
    int side = 0;
    for (int64_t k = 0; k < mlp->n_layers; k++, side = !side) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        const real *bias = v + d * h;
        real *t = s->delta[side];
        if (k == 0)
            input_product(s, mlp, t, s->move[0], bias, x, n);
        else {
            packed_product(t, bias, 0, s->move[k], s->a[k], h, d, columns, s->ld);
            packed_product(t, NULL, 1, s->left[k], s->delta[!side], h, d, columns, s->ld);
        }
        if (k + 1 < mlp->n_layers) slope_rows(t, s->z[k + 1], s->a[k + 1], h, columns, s->ld, mlp->activation);
        v = bias + h;
    }
    return s->delta[!side];
}

/* u' = S (S' t'), column by column. Shapes: u, t (Q, ld), root (Q R, ld), columns in whole vectors, Q R <= ROOT_MOST.
 * Aliasing: u may be t. Serial. */
static void times_turned_root(
    real *u, const real *t, const real *root, int64_t outputs, int64_t roots, int64_t columns, int64_t ld)
{
    vector from[ROOT_MOST], sum[ROOT_MOST];
    for (int64_t m = 0; m < columns; m += LANES) {
        for (int64_t q = 0; q < outputs; q++) from[q] = load(t + q * ld + m), sum[q] = (vector){0};
        for (int64_t r = 0; r < roots; r++) {
            const real *column = root + r * ld + m;
            vector along = {0};
            for (int64_t q = 0; q < outputs; q++) along += load(column + q * roots * ld) * from[q];
            for (int64_t q = 0; q < outputs; q++) sum[q] += load(column + q * roots * ld) * along;
        }
        for (int64_t q = 0; q < outputs; q++) store(u + q * ld + m, sum[q]);
    }
}

/* u' = q' t' - q' (sum q't') / sum(q'), column by column. Shapes: u, t, q (Q, ld), columns in whole vectors. Aliasing: u
 * may be t. Serial. */
static void times_turned_centred(real *u, const real *t, const real *q, int64_t outputs, int64_t columns, int64_t ld)
{
    for (int64_t m = 0; m < columns; m += LANES) {
        vector along = {0}, sum = (vector){0} + TINY;
        for (int64_t k = 0; k < outputs; k++) {
            vector weight = load(q + k * ld + m);
            along += weight * load(t + k * ld + m), sum += weight;
        }
        vector mean = along / sum;
        for (int64_t k = 0; k < outputs; k++)
            store(u + k * ld + m, load(q + k * ld + m) * (load(t + k * ld + m) - mean));
    }
}

/* delta[0]' = S S' t' of n samples, zeros in the columns that pad it. Shapes: t (Q, ld), root (Q R, ld) where S' stands
 * in tiles. Aliasing: t may be delta[0]. Serial. */
static void root_tiles(const tile_space *s, const job *j, const real *t, const real *root, int64_t first, int64_t n)
{
    int64_t outputs = outputs_of(j->mlp), columns = whole_vectors(n);
    if (root_rows(j->mlp, j->root) && j->root->centred)
        times_turned_centred(s->delta[0], t, root, outputs, columns, s->ld);
    else if (root_rows(j->mlp, j->root))
        times_turned_root(s->delta[0], t, root, outputs, j->root->columns, columns, s->ld);
    else {
        if (outputs > 1) turn(s->rows[0], outputs, t, s->ld, outputs, n, outputs);
        times_root(s->rows[1], outputs > 1 ? s->rows[0] : t, j->root, first, n, outputs);
        turn(s->delta[0], s->ld, s->rows[1], outputs, n, outputs, n);
    }
    for (int64_t q = 0; q < outputs; q++)
        for (int64_t m = n; m < columns; m++) s->delta[0][q * s->ld + m] = 0;
}

/* Whether the rows of an agent are too few to be worth weights in tiles, for one product: these cost about 3 ns for each
 * number, 6 beyond the first caches, and save for each row 0.04 for each number and 40 in every layer. */
static int few_rows(const dnn_mlp *mlp, int64_t rows)
{
    double params = (double)mlp->params, number = mlp->params * (int64_t)sizeof(real) > FEW_BYTES ? 6 : 3;
    return params * number > (double)rows * (0.04 * params + 40.0 * (double)mlp->n_layers);
}

/* One block of few rows, by products of rows. Serial. */
static void few_rows_panel(const job *j, const workspace *r, int64_t agent, int64_t first, int64_t stop, real *out)
{
    const dnn_mlp *mlp = j->mlp;
    const real *w = weights_of(mlp, agent), *v = j->direction + agent * mlp->params;
    for (int64_t step = chunk_rows(mlp), keep = 0; first < stop; first += step, keep = 1) {
        int64_t n = min_index(stop - first, step);
        const real *x = inputs_of(mlp, first);
        forward_chunk(r, mlp, w, x, n);
        const real *t = tangent_chunk(r, mlp, w, v, x, n);
        times_root(r->delta[0], t, j->root, first, n, outputs_of(mlp));
        backward_chunk(r, mlp, w, x, n, (real)keep, out);
    }
}

/* One block: J is never made. */
static void product_panel(
    const job *j, workspace *r, int64_t agent, int64_t first, int64_t stop, real *out, double *value)
{
    const dnn_mlp *mlp = j->mlp;
    tile_space *s = &r->tiles;
    const real *w = weights_of(mlp, agent), *v = j->direction + agent * mlp->params, *move = v;
    (void)value;
    if (!j->repeats && few_rows(mlp, rows_of(mlp, agent))) {
        few_rows_panel(j, r, agent, first, stop, out);
        return;
    }
    pack_weights(s, mlp, w, 1);
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        pack_tiles(s->move[k], move, h, d, 1, h);
        move += (d + 1) * h;
    }
    for (int keep = 0; first < stop; first += j->chunk_rows, keep = 1) {
        int64_t n = min_index(stop - first, j->chunk_rows);
        const real *x = inputs_of(mlp, first);
        const real *root = hold_chunk(j, s, w, agent, first, n, x);
        root_tiles(s, j, tangent_tiles(s, mlp, v, x, n), root, first, n);
        backward_tiles(s, mlp, keep, x, n);
    }
    unpack_sums(s, mlp, out);
}

/* out_b += j_b (j_b' v_b) for one row j of J. Shapes: (P) each. Aliasing: none. Serial. */
static void add_row_product(
    real *restrict out, const real *restrict j, const real *restrict v, const int64_t *blocks, int64_t n_blocks)
{
    for (int64_t b = 0; b < n_blocks; b++) {
        int64_t lo = blocks[b], size = blocks[b + 1] - lo;
        if (size == 1)
            out[lo] += j[lo] * (j[lo] * v[lo]);
        else
            axpy(out + lo, dot(j + lo, v + lo, size), j + lo, size);
    }
}

/* Several blocks: row by row of J, made group by group. */
static void block_product_chunk(
    const job *j, const workspace *r, int64_t agent, int64_t first, int64_t stop, real keep, real *out)
{
    const dnn_mlp *mlp = j->mlp;
    int64_t params = mlp->params, group = jacobian_group(mlp, j->root), columns = j->root->columns;
    if (keep == 0) memset(out, 0, (size_t)params * sizeof(real));
    for (; first < stop; first += group) {
        int64_t n = min_index(group, stop - first);
        jacobian_rows(r, mlp, j->root, weights_of(mlp, agent), first, n, r->jacobian);
        for (int64_t m = 0; m < n * columns; m++)
            add_row_product(out, r->jacobian + m * params, j->direction + agent * params, j->blocks, j->n_blocks);
    }
}

/* Several blocks: from the factors of J, a few samples at a time. */
static void piece_product_chunk(
    const job *j, const workspace *r, int64_t agent, int64_t first, int64_t stop, real keep, real *out)
{
    const dnn_mlp *mlp = j->mlp;
    row_factors f = {.blas = mlp->blas, .columns = j->root->columns, .along = r->tangent[1]};
    if (keep == 0) memset(out, 0, (size_t)mlp->params * sizeof(real));
    for (; first < stop; first += f.n) {
        f.n = min_index(stacked_samples(mlp, j->root), stop - first);
        stacked_deltas(r, mlp, j->root, weights_of(mlp, agent), first, f.n, r->stack);
        for (int64_t u = 0; u < mlp->n_layers; u++)
            f.input[u] = u ? r->a[u] : inputs_of(mlp, first), f.delta[u] = r->stack[u];
        for (int64_t b = 0; b < j->n_blocks; b++) {
            piece pieces[MOST_PIECES];
            int count = cut_pieces(pieces, mlp, j->blocks[b], j->blocks[b + 1]);
            rows_times(&f, pieces, count, j->direction + agent * mlp->params, r->jacobian);
            rows_adjoint(&f, pieces, count, r->jacobian, NULL, 0, out);
        }
    }
}

/* Nanoseconds per sample of the product block by block, from the rows of J or from their factors, as measured. */
static double rows_cost(const dnn_mlp *mlp, const dnn_root *root)
{
    return 0.65 * (double)root->columns * (double)mlp->params;
}

static double pieces_cost(const job *j)
{
    double columns = (double)j->root->columns, cost = 0.2 * (double)j->mlp->params;
    if (j->n_blocks > j->mlp->params / 8) return INFINITY;
    for (int64_t b = 0; b < j->n_blocks; b++) {
        piece pieces[MOST_PIECES];
        int count = cut_pieces(pieces, j->mlp, j->blocks[b], j->blocks[b + 1]);
        for (int k = 0; k < count; k++) cost += columns * (0.6 * (double)(pieces[k].j1 - pieces[k].j0) + 10) + 30;
    }
    return cost;
}

/* The product of one call, and the nanoseconds that it takes per sample. */
static job product_job(void *out, const dnn_mlp *mlp, const dnn_root *root, const void *v, const int64_t *blocks,
    int64_t n_blocks, double *each)
{
    job j = {.mlp = mlp,
        .root = root,
        .out = out,
        .direction = v,
        .blocks = blocks,
        .n_blocks = n_blocks,
        .chunk_rows = gradient_rows(mlp),
        .panel = product_panel,
        .in_tiles = n_blocks <= 1,
        .held_rows = hidden_rows(mlp) + root_rows(mlp, root)};
    double by_rows = rows_cost(mlp, root), by_pieces;
    *each = row_work(mlp) * 1.2;
    if (n_blocks > 1) {
        j.chunk_rows = chunk_rows(mlp), j.panel = sum_chunks;
        by_pieces = pieces_cost(&j);
        j.chunk = by_pieces < by_rows ? piece_product_chunk : block_product_chunk;
        *each = by_pieces < by_rows ? by_pieces : by_rows;
    }
    return j;
}

/* Block b of out_i = (J_b' S S' J_b) v_ib. Shapes: out, v (A, P), blocks (n_blocks + 1). Aliasing: none.
 * Agents are parallel, or parts of them. */
static void mlp_gauss_newton_product(void *out, const dnn_mlp *mlp, const dnn_root *root, const void *v,
    const int64_t *blocks, int64_t n_blocks, int threads, void *work)
{
    double each;
    job j = product_job(out, mlp, root, v, blocks, n_blocks, &each);
    sum_job(&j, each * (double)(mlp->offsets[mlp->agents] - mlp->offsets[0]) * 1e-3, threads, work);
}
