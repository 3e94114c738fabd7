"""Wrappers of csrc/layers.c and chain.c; reference_layers.py says what each kernel computes."""

from libc.stdint cimport int64_t

from dnnext.kernels._arrays cimport ANY, DOUBLE, INT64, REAL, take
from dnnext.kernels._call cimport Call, begin, check_layers, end, integer, allocate_work, table_of, take_offsets
from dnnext.kernels._dnnext cimport DNN_LOSSES, dnn_chain, dnn_layer


cdef int take_chain(
    Call *c, dnn_chain *chain, object w, object x, object directions, object offsets, object layers, int64_t *outputs
) except -1:
    """Check layers and rows, and describe them to C."""
    cdef Py_buffer *view = take(&c.arrays, layers, "layers", INT64, False, 2, ANY, 15)
    cdef const dnn_layer *last
    cdef int64_t bad
    chain.layers, chain.n_layers = <const dnn_layer *> view.buf, view.shape[0]
    bad = check_layers(chain.layers, chain.n_layers, &chain.params)
    if bad != -1:
        raise ValueError(f"layers must fit one after another, but layer {bad} did not: {layers[bad:bad + 1].tolist()}.")
    chain.inputs = chain.layers[0].channels * chain.layers[0].height * chain.layers[0].width
    view = take(&c.arrays, x, "x", REAL, False, 2, ANY, chain.inputs)
    chain.x, c.rows = view.buf, view.shape[0]
    take_offsets(c, offsets)
    chain.offsets, chain.agents = c.mlp.offsets, c.mlp.agents
    view = take(&c.arrays, w, "w", REAL, False, 2, ANY, chain.params)
    chain.w, chain.w_step = view.buf, chain.params
    if view.shape[0] == 1:
        chain.w_step = 0
    elif view.shape[0] != chain.agents:
        raise ValueError(
            f"w must have one row for each of the {chain.agents} agents of offsets, or one for all, got "
            f"{view.shape[0]}."
        )
    chain.direction, chain.n_directions = NULL, 0
    if directions is not None:
        view = take(&c.arrays, directions, "directions", REAL, False, 3, ANY, c.rows, chain.inputs)
        chain.direction, chain.n_directions = view.buf, view.shape[0]
        if chain.n_directions > 2**10:
            raise ValueError(f"directions must be at most 1024 for each row, got {chain.n_directions}.")
    last = &chain.layers[chain.n_layers - 1]
    outputs[0] = last.filters
    for k in range(2):
        reach = last.dilation[k] * (last.size[k] - 1) + 1
        if last.kind != 0:
            outputs[0] *= ((last.width if k else last.height) + 2 * last.padding[k] - reach) // last.stride[k] + 1
    return 0


def chain_forward(out, tangent, w, x, directions, offsets, layers, n_threads=1):
    """out_m = F(w_i; x_m) and, unless None, tangent_km = DF(x_m) v_km.

    out (M, Q); tangent (K, M, Q); w (A, P) or (1, P); x (M, d); directions v (K, M, d) or None; layers (n, 15) int64,
    see reference_layers.py; the rows of agent i are offsets[i] : offsets[i + 1].

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers = np.array([[0, 0, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0]])  # dense, identity, from 2 inputs to 1 unit
    >>> w, x, offsets = np.array([[1.0, 2.0, 0.5]]), np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([0, 2])
    >>> out, tangent = np.empty((2, 1)), np.empty((1, 2, 1))
    >>> kernels.chain_forward(out, tangent, w, x, np.ones((1, 2, 2)), offsets, layers)
    >>> out.ravel(), tangent.ravel()
    (array([1.5, 8.5]), array([3., 3.]))
    """
    cdef Call c
    cdef dnn_chain chain
    cdef int64_t outputs
    cdef void *tangent_ = NULL
    begin(&c, n_threads)
    try:
        take_chain(&c, &chain, w, x, directions, offsets, layers, &outputs)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.rows, outputs)
        if tangent is not None:
            tangent_ = take(&c.arrays, tangent, "tangent", REAL, True, 3, chain.n_directions, c.rows, outputs).buf
        allocate_work(&c, table_of(&c).chain_work(&chain, c.threads))
        with nogil:
            table_of(&c).chain_forward(out_.buf, tangent_, &chain, c.threads, c.work)
    finally:
        end(&c)


def chain_jv(out, w, x, v, offsets, layers, n_threads=1):
    """out_m = nabla F(w_i; x_m) v_i, the derivative along v (A, P) in the weights.

    out (M, Q); other arguments as in chain_forward.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers = np.array([[0, 0, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0]])  # dense, identity, from 2 inputs to 1 unit
    >>> w, x, offsets = np.array([[1.0, 2.0, 0.5]]), np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([0, 2])
    >>> out = np.empty((2, 1))
    >>> kernels.chain_jv(out, w, x, np.array([[0.0, 1.0, 1.0]]), offsets, layers)
    >>> out.ravel()
    array([1., 4.])
    """
    cdef Call c
    cdef dnn_chain chain
    cdef int64_t outputs
    begin(&c, n_threads)
    try:
        take_chain(&c, &chain, w, x, None, offsets, layers, &outputs)
        v_ = take(&c.arrays, v, "v", REAL, False, 2, chain.agents, chain.params)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.rows, outputs)
        allocate_work(&c, table_of(&c).chain_work(&chain, c.threads))
        with nogil:
            table_of(&c).chain_jv(out_.buf, &chain, v_.buf, c.threads, c.work)
    finally:
        end(&c)


def chain_jtu(out, w, x, directions, u, t, offsets, layers, n_threads=1):
    """out_i = the gradient of sum_m <u_m, F(w_i; x_m)> + sum_km <t_km, DF(x_m) v_km> in w_i; without t the first alone.

    out (A, P); u (M, Q); t (K, M, Q) or None; other arguments as in chain_forward.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers = np.array([[0, 0, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0]])  # dense, identity, from 2 inputs to 1 unit
    >>> w, x, offsets = np.array([[1.0, 2.0, 0.5]]), np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([0, 2])
    >>> out, u = np.empty((1, 3)), np.ones((2, 1))
    >>> kernels.chain_jtu(out, w, x, np.ones((1, 2, 2)), u, np.ones((1, 2, 1)), offsets, layers)
    >>> out
    array([[5., 5., 2.]])
    """
    cdef Call c
    cdef dnn_chain chain
    cdef int64_t outputs
    cdef void *t_ = NULL
    begin(&c, n_threads)
    try:
        take_chain(&c, &chain, w, x, directions, offsets, layers, &outputs)
        u_ = take(&c.arrays, u, "u", REAL, False, 2, c.rows, outputs)
        if t is not None:
            t_ = take(&c.arrays, t, "t", REAL, False, 3, chain.n_directions, c.rows, outputs).buf
        out_ = take(&c.arrays, out, "out", REAL, True, 2, chain.agents, chain.params)
        allocate_work(&c, table_of(&c).chain_work(&chain, c.threads))
        with nogil:
            table_of(&c).chain_jtu(out_.buf, &chain, u_.buf, t_, c.threads, c.work)
    finally:
        end(&c)


def chain_loss_grad(
    value, term, grad, w, x, directions, target, weight, beta, offsets, layers, loss, param, scale, mu, n_threads=1
):
    """value_i = scale sum_m c_m loss(d_m, F(w_i; x_m)), term_i = scale mu / 2 sum_km c_m |DF(x_m) v_km - beta_km|^2.

    value, term (A,) float64; grad (A, P) or None is the gradient of their sum; target (M, Q); weight c (M,) or None for
    ones; beta (K, M, Q) or None for zeros; other arguments as in chain_forward.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers = np.array([[0, 0, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0]])  # dense, identity, from 2 inputs to 1 unit
    >>> w, x, offsets = np.array([[1.0, 2.0, 0.5]]), np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([0, 2])
    >>> value, term, grad = np.empty(1), np.empty(1), np.empty((1, 3))
    >>> rows = (w, x, np.ones((1, 2, 2)), np.zeros((2, 1)), None, None, offsets, layers)
    >>> kernels.chain_loss_grad(value, term, grad, *rows, kernels.LOSSES["squared_error"], 0.0, 1.0, 0.5)
    >>> value, term, grad
    (array([37.25]), array([4.5]), array([[21.5, 28.5, 10. ]]))
    """
    cdef Call c
    cdef dnn_chain chain
    cdef int64_t outputs
    cdef void *grad_ = NULL
    cdef void *weight_ = NULL
    cdef void *beta_ = NULL
    cdef int code = <int> integer("loss", loss, 0, DNN_LOSSES - 1)
    cdef double param_ = param, scale_ = scale, mu_ = mu
    begin(&c, n_threads)
    try:
        take_chain(&c, &chain, w, x, directions, offsets, layers, &outputs)
        target_ = take(&c.arrays, target, "target", REAL, False, 2, c.rows, outputs)
        if weight is not None:
            weight_ = take(&c.arrays, weight, "weight", REAL, False, 1, c.rows).buf
        if beta is not None:
            beta_ = take(&c.arrays, beta, "beta", REAL, False, 3, chain.n_directions, c.rows, outputs).buf
        if grad is not None:
            grad_ = take(&c.arrays, grad, "grad", REAL, True, 2, chain.agents, chain.params).buf
        value_ = take(&c.arrays, value, "value", DOUBLE, True, 1, chain.agents)
        term_ = take(&c.arrays, term, "term", DOUBLE, True, 1, chain.agents)
        allocate_work(&c, table_of(&c).chain_work(&chain, c.threads))
        with nogil:
            table_of(&c).chain_loss_grad(
                <double *> value_.buf, <double *> term_.buf, grad_, &chain, target_.buf, weight_, beta_, code, param_,
                scale_, mu_, c.threads, c.work)
    finally:
        end(&c)
