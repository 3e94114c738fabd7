/* chain_plan.c: what the sweeps of chain.c need: fields and sizes that follow from the layers, the space of a thread,
 * weights in tiles.
 */

enum { CHAIN_BYTES = 1 << 20 }; /* of a chunk with images */
enum { PANEL_CHUNKS = 8 };

typedef struct { /* what follows from the chain, the same for all threads */
    const dnn_chain *chain;
    int64_t groups, outputs, chunk_rows, panel_rows, most, ld, n_panels, flat_rows;
    int whole_input; /* the input is held as a state; else a dense first layer takes it piece by piece */
    field a[DNN_MAX_LAYERS + 1], d[DNN_MAX_LAYERS + 1]; /* values, deltas */
    int64_t start[DNN_MAX_LAYERS + 1]; /* of the weights in the flat row */
    int64_t *places[DNN_MAX_LAYERS], *back_places[DNN_MAX_LAYERS], *back_index[DNN_MAX_LAYERS];
    int64_t *back_ends[DNN_MAX_LAYERS];
    int64_t *first_panel; /* (A + 1) */
} plan;

typedef struct { /* of one thread */
    const real *packed, *packed_move; /* the weights and directions that stand in tiles */
    real *left[DNN_MAX_LAYERS], *move[DNN_MAX_LAYERS], *back[DNN_MAX_LAYERS];
    real *a[DNN_MAX_LAYERS + 1], *d[DNN_MAX_LAYERS + 1], *sum[DNN_MAX_LAYERS];
    real *rows[2]; /* (samples, widest dense input or Q, padded) */
    real *flat; /* (flat_rows, ld): deltas of a state that is kept with a border */
    real *free; /* (samples) */
    real *partial; /* (P) */
    double *value; /* (samples) */
} chain_space;

static void shape_behind(const dnn_layer *l, int64_t shape[2])
{
    const int64_t before[2] = {l->height, l->width};
    for (int i = 0; i < 2; i++)
        shape[i] = l->kind == DNN_DENSE ? 1
                   : l->kind == DNN_ADD
                       ? before[i]
                       : (before[i] + 2 * l->padding[i] - l->dilation[i] * (l->size[i] - 1) - 1) / l->stride[i] + 1;
}

/* Flops of one sample, forward, each group of columns. */
static double chain_flops(const plan *p)
{
    double flops = 0;
    for (int64_t k = 0; k < p->chain->n_layers; k++)
        flops += 2.0 * (double)((terms_of(p->chain->layers + k) + 10) * p->d[k + 1].channels)
                 * (double)(p->a[k + 1].height * p->a[k + 1].width);
    return flops;
}

/* Chunks of a panel with images: as few as are worth the sum of their gradients, see PART_NS, at 30 flops per ns. */
static int64_t panel_chunks(const plan *p, int64_t rows)
{
    double chunk = 3 * chain_flops(p) * (double)(rows * p->groups) / 30;
    double least = PART_NUMBER_NS * (double)p->chain->params;
    double wanted = (least > PART_NS ? least : PART_NS) / chunk;
    return wanted < PANEL_CHUNKS ? (int64_t)wanted + 1 : PANEL_CHUNKS;
}

/* Fields and sizes; `groups` columns for every sample. */
static void lay_out(plan *p, const dnn_chain *chain, int64_t groups)
{
    const dnn_layer *layers = chain->layers;
    int64_t none[2] = {0, 0}, n = chain->n_layers, numbers = 0, dense_only = 1;
    p->chain = chain, p->groups = groups, p->whole_input = layers[0].kind != DNN_DENSE;
    p->start[0] = p->flat_rows = 0;
    for (int64_t k = 0; k < n; k++) {
        const dnn_layer *l = layers + k;
        int64_t before[2] = {l->height, l->width}, behind[2], low[2] = {0, 0}, high[2] = {0, 0};
        shape_behind(l, behind);
        if (k == 0) p->a[0] = p->d[0] = make_field(l->channels, before, none, none);
        const int64_t shape[2] = {p->a[k].height, p->a[k].width}; /* as the layer before left it */
        p->a[k] = make_field(p->a[k].channels, shape, l->padding, l->padding);
        if (k && l->kind == DNN_CONV) delta_border(l, behind, low, high);
        p->d[k + 1] = make_field(l->filters, behind, low, high);
        p->a[k + 1] = make_field(l->filters, behind, none, none);
        p->start[k + 1] = p->start[k] + (has_weights(l) ? l->filters * (terms_of(l) + 1) : 0);
        if (l->kind == DNN_ADD && l->from == 0) p->whole_input = 1;
        dense_only = dense_only && (l->kind == DNN_DENSE || l->kind == DNN_ADD);
        numbers += p->d[k + 1].rows + (k ? p->a[k].rows : 0);
        if (k && l->kind == DNN_DENSE && !is_dense(&p->d[k])) p->flat_rows = max_index(p->flat_rows, p->d[k].rows);
    }
    p->outputs = layers[n - 1].filters * p->a[n].height * p->a[n].width;
    numbers += p->outputs + (p->whole_input ? p->a[0].rows : min_index(p->a[0].rows, TILE_DEPTH));
    int64_t bytes = numbers * groups * (int64_t)sizeof(real), tile = TILE_VECTORS * LANES;
    if (dense_only) { /* as the multilayer perceptron, see gradient_rows */
        int64_t rows = GRADIENT_BYTES / (bytes / groups) / tile * tile; /* short chunks add to the sums too often */
        p->chunk_rows = min_index(GRADIENT_MOST / tile * tile, max_index(2 * tile, rows));
        p->panel_rows = p->chunk_rows * PANEL_CHUNKS;
    } else {
        p->chunk_rows = min_index(GRADIENT_MOST, max_index(LANES, CHAIN_BYTES / bytes / LANES * LANES));
        p->panel_rows = p->chunk_rows * panel_chunks(p, p->chunk_rows);
    }
    p->most = 0;
    for (int64_t i = 0; i < chain->agents; i++) p->most = max_index(p->most, chain->offsets[i + 1] - chain->offsets[i]);
    p->most = min_index(p->most, p->chunk_rows);
    p->ld = ceil_div(p->most, LANES) * groups;
    p->ld = (dense_only ? p->ld | 1 : max_index(p->ld, 1)) * LANES; /* odd, see cut_tiles; images need no gaps */
}

/* Lists of rows for every convolution, and the panels of every agent; only measured where work starts at NULL. */
static void list_rows(plan *p, char **work)
{
    int fill = *work != NULL;
    const dnn_chain *chain = p->chain;
    p->first_panel = carve(work, chain->agents + 1, sizeof(int64_t));
    for (int64_t k = 0; k < chain->n_layers; k++) {
        const dnn_layer *l = chain->layers + k;
        if (l->kind != DNN_CONV) continue;
        int64_t terms = terms_of(l), area = l->size[0] * l->size[1], n = 0, number = 0;
        p->places[k] = carve(work, terms, sizeof(int64_t));
        p->back_places[k] = carve(work, l->filters * area, sizeof(int64_t));
        p->back_index[k] = carve(work, l->filters * area, sizeof(int64_t));
        p->back_ends[k] = carve(work, l->stride[0] * l->stride[1], sizeof(int64_t));
        if (!fill) continue;
        for (int64_t i = 0; i < terms; i++)
            p->places[k][i] = p->ld
                              * (i / area * p->a[k].plane + i % area / l->size[1] * l->dilation[0] * p->a[k].pitch
                                  + i % l->size[1] * l->dilation[1]);
        const field *d = &p->d[k + 1];
        for (int64_t cy = 0; cy < l->stride[0]; cy++)
            for (int64_t cx = 0; cx < l->stride[1]; cx++) {
                for (int64_t i = 0; i < l->filters * area; i++) {
                    int64_t o = i / area, y = i % area / l->size[1], x = i % l->size[1];
                    if (!class_sees(l, 0, cy, y) || !class_sees(l, 1, cx, x)) continue;
                    p->back_index[k][n] = o * terms + i % area;
                    p->back_places[k][n++] =
                        p->ld * (o * d->plane + shift_of(l, 0, cy, y) * d->pitch + shift_of(l, 1, cx, x));
                }
                p->back_ends[k][number++] = n;
            }
    }
    if (!fill) return;
    p->first_panel[0] = 0;
    for (int64_t i = 0; i < chain->agents; i++)
        p->first_panel[i + 1] = p->first_panel[i] + ceil_div(chain->offsets[i + 1] - chain->offsets[i], p->panel_rows);
    p->n_panels = p->first_panel[chain->agents];
}

/* The space of one thread, cut from *work. */
static void cut_chain(chain_space *s, const plan *p, char **work)
{
    const dnn_chain *chain = p->chain;
    int64_t widest = p->outputs;
    s->packed = s->packed_move = NULL;
    for (int64_t k = 0; k <= chain->n_layers; k++) {
        int64_t held = k ? p->a[k].rows : p->whole_input ? p->a[0].rows : min_index(p->a[0].rows, TILE_DEPTH);
        s->a[k] = carve(work, held * p->ld, sizeof(real));
        s->d[k] = carve(work, k ? p->d[k].rows * p->ld : 0, sizeof(real));
        if (k == chain->n_layers) break;
        const dnn_layer *l = chain->layers + k;
        int64_t h = l->filters, terms = terms_of(l), weights = has_weights(l) ? h * terms : 0;
        int64_t sums = l->kind == DNN_DENSE ? sum_size(terms, h) : weights * LANES;
        if (l->kind == DNN_DENSE) widest = max_index(widest, whole_vectors(terms));
        s->left[k] = carve(work, weights, sizeof(real));
        s->move[k] = carve(work, weights, sizeof(real));
        s->back[k] = carve(work, k ? weights : 0, sizeof(real));
        s->sum[k] = carve(work, has_weights(l) ? sums + h * LANES : 0, sizeof(real));
    }
    for (int j = 0; j < 2; j++) s->rows[j] = carve(work, max_index(p->most, 1) * whole_vectors(widest), sizeof(real));
    s->flat = carve(work, p->flat_rows * p->ld, sizeof(real));
    s->free = carve(work, whole_vectors(p->most), sizeof(real));
    s->partial = carve(work, chain->params, sizeof(real));
    s->value = carve(work, p->most, sizeof(double));
}

static size_t space_bytes(const plan *p)
{
    chain_space s;
    char *next = NULL;
    cut_chain(&s, p, &next);
    return (size_t)(uintptr_t)next;
}

static size_t chain_work(const dnn_chain *chain, int threads)
{
    plan p;
    char *next = NULL;
    int64_t most = 0, groups[3] = {1, 2, 1 + chain->n_directions}; /* values; those of chain_jv; with all directions */
    for (int i = 0; i < 3; i++) { /* fewer groups, longer chunks: any of them may need the most */
        lay_out(&p, chain, groups[i]);
        most = max_index(most, (int64_t)space_bytes(&p));
    }
    list_rows(&p, &next);
    return (size_t)(uintptr_t)next + (size_t)most * (size_t)threads + 64;
}

/* The weights of one agent in tiles, for one direction of the sweep; w may be a direction of the weights. */
static void pack_forward(const plan *p, real *const *left, const real *w)
{
    for (int64_t k = 0; k < p->chain->n_layers; k++) {
        const dnn_layer *l = p->chain->layers + k;
        const real *own = w + p->start[k];
        if (l->kind == DNN_DENSE) pack_tiles(left[k], own, l->filters, l->channels, 1, l->filters);
        if (l->kind == DNN_CONV) pack_tiles(left[k], own, l->filters, terms_of(l), terms_of(l), 1);
    }
}

static void pack_backward(const plan *p, real *const *back, const real *w)
{
    for (int64_t k = 1; k < p->chain->n_layers; k++) {
        const dnn_layer *l = p->chain->layers + k;
        const real *own = w + p->start[k];
        if (l->kind == DNN_DENSE) pack_tiles(back[k], own, l->channels, l->filters, l->filters, 1);
        if (l->kind != DNN_CONV) continue;
        for (int64_t number = 0, start = 0; number < l->stride[0] * l->stride[1]; number++) {
            int64_t stop = p->back_ends[k][number];
            pack_listed(back[k] + start * l->channels, own, l->channels, stop - start, l->size[0] * l->size[1],
                p->back_index[k] + start);
            start = stop;
        }
    }
}

/* Zeros in the border of a state, which nothing else writes. */
static void clear_border(const field *f, real *a, int64_t ld)
{
    if (is_dense(f)) return;
    for (int64_t c = 0; c < f->channels; c++)
        for (int64_t i = 0; i < f->plane; i++) {
            int64_t y = i / f->pitch - f->low[0], x = i % f->pitch - f->low[1];
            if (y < 0 || y >= f->height || x < 0 || x >= f->width)
                memset(a + (c * f->plane + i) * ld, 0, (size_t)ld * sizeof(real));
        }
}

static void begin_panel(const plan *p, chain_space *s, const real *w, int backward)
{
    for (int64_t k = p->whole_input ? 0 : 1; k <= p->chain->n_layers; k++) {
        clear_border(&p->a[k], s->a[k], p->ld);
        if (k && backward) clear_border(&p->d[k], s->d[k], p->ld);
    }
    if (s->packed == w) return;
    s->packed = w;
    pack_forward(p, s->left, w);
    if (backward) pack_backward(p, s->back, w);
}
