/* feedback.c: direct feedback alignment, the gradient's direction with a fixed matrix in place of backpropagation.
 *
 * With e the derivative of the loss in the raw output, transposed as in gradient.c (a column for each sample),
 *     delta_L' = e',    delta_k' = (B_k e') phi'(z_k')  for the hidden layers,    dW_k = a_k-1' delta_k.
 * Every hidden layer is one product of B_k (h_k, Q) with e: none waits for the layer above it. With one hidden layer and
 * B_1 = W_2 the bits are those of mlp_loss_grad.
 */

/* W_k' and B_k of one agent in tiles, unless they stand there already. Shapes: w (P), b (hidden units, Q). Serial. */
static void pack_feedback(tile_space *s, const dnn_mlp *mlp, const real *w, const real *b)
{
    const real *own = w, *every = b;
    int64_t outputs = outputs_of(mlp);
    if (s->packed == w) return;
    for (int64_t k = 0; k < mlp->n_layers; k++) {
        int64_t d = mlp->layers[k], h = mlp->layers[k + 1];
        pack_tiles(s->left[k], own, h, d, 1, h);
        own += (d + 1) * h;
        if (k == 0 || s->sent == b) continue; /* all agents have the same */
        pack_tiles(s->back[k], every, d, outputs, outputs, 1);
        every += d * outputs;
    }
    s->packed = w, s->sent = b;
}

/* After forward_tiles, e' in s->delta[0]. Shapes: x (n, d). Serial. */
static void feedback_tiles(const tile_space *s, const dnn_mlp *mlp, int keep, const real *x, int64_t n)
{
    int64_t columns = whole_vectors(n), last = mlp->n_layers - 1;
    real *delta = s->delta[1];
    add_layer(s, mlp, last, keep, s->delta[0], x, n);
    for (int64_t k = last; k > 0; k--) {
        int64_t h = mlp->layers[k];
        packed_product(delta, NULL, 0, s->back[k], s->delta[0], h, outputs_of(mlp), columns, s->ld);
        slope_rows(delta, s->z[k], s->a[k], h, columns, s->ld, mlp->activation);
        add_layer(s, mlp, k - 1, keep, delta, x, n);
    }
}

static void feedback_panel(
    const job *j, workspace *r, int64_t agent, int64_t first, int64_t stop, real *out, double *value)
{
    const dnn_mlp *mlp = j->mlp;
    tile_space *s = &r->tiles;
    const real *w = weights_of(mlp, agent);
    pack_feedback(s, mlp, w, j->feedback);
    for (int keep = 0; first < stop; first += j->chunk_rows, keep = 1) {
        int64_t n = min_index(stop - first, j->chunk_rows);
        const real *x = inputs_of(mlp, first);
        forward_tiles(s, mlp, w, x, n, mlp->n_layers);
        loss_tiles(j, s, first, n, s->delta[0], value);
        feedback_tiles(s, mlp, keep, x, n);
    }
    unpack_sums(s, mlp, out);
}

/* value_i = scale sum_m c_m loss(d_m, f(w_i; x_m)); grad_i: exact for the last layer, by feedback for the others. A
 * loss of -1 says that target holds the derivatives themselves; value is then 0.
 * Shapes: value (A), grad (A, P), feedback (hidden units of all layers, Q), target (M, Q), weight (M) or NULL.
 * Aliasing: none. Agents are parallel, or parts of them. */
static void mlp_feedback(double *value, void *grad, const dnn_mlp *mlp, const void *feedback, const void *target,
    const void *weight, int loss, double param, double scale, int threads, void *work)
{
    job j = {.mlp = mlp,
        .out = grad,
        .value = value,
        .chunk_rows = gradient_rows(mlp),
        .panel = feedback_panel,
        .feedback = feedback,
        .target = target,
        .weight = weight,
        .loss = loss,
        .param = param,
        .scale = scale};
    sum_job(&j, guess_work(mlp) * 0.8, threads, work);
}
