/* product.c: blocks of J' S S' J times vectors; the blocks are never formed. */

/* u_m = S_m S_m' t_m. Shapes: t, u (n, Q). Aliasing: none. Serial. */
static void times_root(
    real *restrict u, const real *restrict t, const dnn_root *root, int64_t first, int64_t n, int64_t outputs)
{
    int64_t columns = root->columns;
    const real *s = (const real *)root->root + first * outputs * (root->diagonal ? 1 : columns);
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

/* One block: J is never made. */
static void product_chunk(
    const job *j, const workspace *r, int64_t agent, int64_t first, int64_t stop, real keep, real *out)
{
    const dnn_mlp *mlp = j->mlp;
    int64_t n = stop - first;
    const real *w = weights_of(mlp, agent), *x = inputs_of(mlp, first);
    forward_chunk(r, mlp, w, x, n);
    const real *t = tangent_chunk(r, mlp, w, j->direction + agent * mlp->params, x, n);
    times_root(r->delta[0], t, j->root, first, n, outputs_of(mlp));
    backward_chunk(r, mlp, w, x, n, keep, out);
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

/* Block b of out_i = (J_b' S S' J_b) v_ib. Shapes: out, v (A, P), blocks (n_blocks + 1). Aliasing: none.
 * Agents are parallel, or parts of them. */
static void mlp_gauss_newton_product(void *out, const dnn_mlp *mlp, const dnn_root *root, const void *v,
    const int64_t *blocks, int64_t n_blocks, int threads, void *work)
{
    job j = {.mlp = mlp,
        .root = root,
        .out = out,
        .direction = v,
        .blocks = blocks,
        .n_blocks = n_blocks,
        .chunk_rows = chunk_rows(mlp),
        .panel = sum_chunks,
        .chunk = product_chunk};
    double each = row_work(mlp) * 1.7, by_rows = rows_cost(mlp, root), by_pieces;
    if (n_blocks > 1) {
        by_pieces = pieces_cost(&j);
        j.chunk = by_pieces < by_rows ? piece_product_chunk : block_product_chunk;
        each = by_pieces < by_rows ? by_pieces : by_rows;
    }
    sum_job(&j, each * (double)(mlp->offsets[mlp->agents] - mlp->offsets[0]) * 1e-3, threads, work);
}
