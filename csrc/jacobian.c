/* jacobian.c: rows S' J, made in groups of samples that depend on the layer sizes alone. */

enum { HELD_NUMBERS = 1 << 19, HELD_LEAST = 64, HELD_MOST = 1024, HELD_GROUPS = 16 };

static int64_t held_target(const dnn_mlp *mlp, const dnn_root *root)
{
    int64_t rows = min_index(HELD_MOST, max_index(HELD_LEAST, HELD_NUMBERS / max_index(1, mlp->params)));
    return max_index(1, rows / max_index(1, root->columns));
}

static int64_t jacobian_group(const dnn_mlp *mlp, const dnn_root *root)
{
    return min_index(chunk_rows(mlp), max_index(1, held_target(mlp, root) / HELD_GROUPS));
}

static int64_t stacked_samples(const dnn_mlp *mlp, const dnn_root *root)
{
    int64_t width = 0;
    for (int64_t k = 1; k <= mlp->n_layers; k++) width += mlp->layers[k];
    int64_t fit = min_index(HELD_LEAST, HELD_NUMBERS / max_index(1, width * root->columns));
    return min_index(chunk_rows(mlp), max_index(fit, jacobian_group(mlp, root)));
}

static int64_t jacobian_samples(const dnn_mlp *mlp, const dnn_root *root)
{
    int64_t group = jacobian_group(mlp, root);
    return group * (held_target(mlp, root) / group);
}

/* The columns of S_m' as the output's delta: delta (n R, Q), row (m, r) = S_m[:, r]. Aliasing: none. Serial. */
static void root_columns(real *delta, const dnn_root *root, int64_t first, int64_t n, int64_t outputs)
{
    int64_t columns = root->columns;
    const real *s = (const real *)root->root + first * outputs * (root->diagonal ? 1 : columns);
    if (root->diagonal) memset(delta, 0, (size_t)(n * columns * outputs) * sizeof(real));
    for (int64_t m = 0; m < n; m++)
        for (int64_t r = 0; r < columns; r++) {
            real *row = delta + (m * columns + r) * outputs;
            if (root->diagonal)
                row[r] = s[m * outputs + r];
            else
                for (int64_t q = 0; q < outputs; q++) row[q] = s[(m * outputs + q) * columns + r];
        }
}

/* The columns of one layer: weights a_i delta_j, then biases delta_j, for n samples of R rows each.
 * Shapes: out has row length P; input (n, d), delta (n R, h). Aliasing: none. Serial. */
static void layer_columns(real *restrict out, const real *restrict input, const real *restrict delta, int64_t n,
    int64_t columns, int64_t d, int64_t h, int64_t params)
{
    for (int64_t m = 0; m < n; m++)
        for (int64_t r = 0; r < columns; r++) {
            const real *a = input + m * d, *e = delta + (m * columns + r) * h;
            real *row = out + (m * columns + r) * params;
            if (h == 1)
                for (int64_t i = 0; i < d; i++) row[i] = a[i] * e[0];
            else
                for (int64_t i = 0; i < d; i++)
                    for (int64_t j = 0; j < h; j++) row[i * h + j] = a[i] * e[j];
            memcpy(row + d * h, e, (size_t)h * sizeof(real));
        }
}

/* delta[k] (n R, layers[k + 1]) of every layer k, row (m, r) from column r of S_m:
 * delta_k-1 = (delta_k W_k') phi'(z_k-1).
 * Leaves the activations in r->a. Shapes: w (P), n <= chunk_rows(). Aliasing: none. Serial. */
static void stacked_deltas(const workspace *r, const dnn_mlp *mlp, const dnn_root *root, const real *w, int64_t first,
    int64_t n, real *const *delta)
{
    real *slope = r->tangent[0];
    int64_t start = mlp->params, columns = root->columns;
    forward_chunk(r, mlp, w, inputs_of(mlp, first), n);
    root_columns(delta[mlp->n_layers - 1], root, first, n, outputs_of(mlp));
    for (int64_t k = mlp->n_layers - 1; k > 0; k--) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        start -= d * h + h;
        product_nt(mlp->blas, delta[k - 1], delta[k], w + start, n * columns, h, d, 0);
        for (int64_t i = 0; i < n * d; i++) slope[i] = 1;
        times_slope(slope, r->z[k], r->a[k], n * d, mlp->activation);
        for (int64_t m = 0; m < n; m++)
            for (int64_t c = 0; c < columns; c++) {
                real *row = delta[k - 1] + (m * columns + c) * d;
                for (int64_t i = 0; i < d; i++) row[i] *= slope[m * d + i];
            }
    }
}

/* Rows S_m' J_m of samples first .. first + n - 1 into out (n R, P). Aliasing: none. Serial. */
static void jacobian_rows(
    const workspace *r, const dnn_mlp *mlp, const dnn_root *root, const real *w, int64_t first, int64_t n, real *out)
{
    const real *input = inputs_of(mlp, first);
    stacked_deltas(r, mlp, root, w, first, n, r->stack);
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        layer_columns(out, input, r->stack[k], n, root->columns, d, h, mlp->params);
        out += d * h + h;
        input = r->a[k + 1];
    }
}

static void jacobian_of_group(real *out, const workspaces *h, int64_t first, int64_t n, int thread)
{
    workspace r = workspace_of(h, thread);
    real *place = out + first * h->root->columns * h->mlp->params;
    jacobian_rows(&r, h->mlp, h->root, weights_of(h->mlp, 0), first, n, place);
}

/* out (M R, P) = rows S_m' J_m of the only agent. Shapes: w (1, P), x (M, d). Aliasing: none. Groups are parallel. */
static void mlp_jacobian(void *out, const dnn_mlp *mlp, const dnn_root *root, int threads, void *work)
{
    workspaces h = open_workspaces(mlp, root, work);
    int64_t group = jacobian_group(mlp, root), rows = rows_of(mlp, 0), groups = ceil_div(rows, group);
    double numbers = (double)(rows * root->columns) * (double)mlp->params;
    int team = team_size(threads, guess_work(mlp) * 0.4 + numbers * 1e-3);
    FOR_EACH(g, groups, jacobian_of_group(out, &h, g * group, min_index(group, rows - g * group), thread))
}
