/* fuzz.h: one case of the fuzz harness in one precision; shapes and kinds of numbers come from the bytes. */

static void NAME(spoil)(real *a, int64_t n)
{
    static const double odd[] = {0, -0.0, INFINITY, -INFINITY, NAN, 1e300, -1e300, 1e-310, 1e30, -1e-40, 709, -745, 88};
    double value = odd[take(13)];
    if (sizeof(real) < sizeof value && fabs(value) > 3e38) value = copysign(INFINITY, value);
    if (n > 0 && take(3)) a[take(256) % n] = (real)value;
    if (take(4) == 0)
        for (int64_t k = 0; k < n; k++) a[k] = (real)((double)a[k] * (take(2) ? 1e18 : 1e-18));
}

static void NAME(fuzz_case)(const dnn_table *t)
{
    static const int64_t widths[] = {1, 2, 3, 5, 7, 8, 9, 16, 17, 33, 65};
    static const int64_t heights[] = {0, 1, 2, 5, 8, 31, 65, 64, 130, 600};
    int large = take(8) == 0, depth = 1 + take(large ? 2 : 4), agents = 1 + take(4);
    int64_t layers[5], shares[4], rows = 0, columns = take(4);
    int threads = 1 + take(3), activation = take(DNN_ACTIVATIONS), loss = take(DNN_LOSSES), checked = take(2);
    for (int k = 0; k <= depth; k++) layers[k] = widths[take(large ? 11 : 6)];
    for (int i = 0; i < agents; i++) rows += shares[i] = heights[take(large ? 7 : 10)];
    NAME(net) *net = NAME(make_net)(layers, depth, shares, agents, activation);
    NAME(inputs) *in = NAME(make_inputs)(net, columns, loss);
    int64_t p = net->mlp.params;
    if (checked) {
        NAME(test_mlp)(t, net, threads);
        if (p < 300 && rows < 200) NAME(test_curvature)(t, net, columns, threads);
        if (p < 300 && rows < 60) NAME(test_dual)(t, net, columns, threads);
        if (p < 300) NAME(run_every)(t, in, threads, 1);
        NAME(test_rows)(t, 1 + take(200), 1 + take(5), threads);
    } else {
        NAME(spoil)(net->w, agents * p), NAME(spoil)(net->x, rows * net->inputs), NAME(spoil)(net->v, agents * p);
        NAME(spoil)(net->target, rows * net->outputs), NAME(spoil)(net->u, rows * net->outputs);
        NAME(spoil)(in->tau, agents), NAME(spoil)(in->s, rows * net->outputs * (columns ? columns : 1));
        if (p < 600)
            NAME(run_every)(t, in, threads, 0);
        else
            NAME(run_networks)(t, in, threads);
    }
    NAME(free_inputs)(in);
}
