"""Chains of residual layers: csrc/residual.c; reference_residual.py says what each kernel computes."""

from libc.stdint cimport int64_t

from dnnext.kernels._arrays cimport DOUBLE, INT64, REAL, overlap, take
from dnnext.kernels._call cimport Call, begin, blas_of, end, integer, allocate_work, table_of
from dnnext.kernels._dnnext cimport (
    DNN_FIXED, DNN_LOSSES, DNN_OPENINGS, DNN_PADDING, DNN_SMOOTH_RELU, DNN_SOFTPLUS, DNN_TRAINED, dnn_chains,
    dnn_residual,
)

cdef enum:
    WHOLE = 16  # columns of a state come in multiples of this: whole vectors of either precision on every CPU path


cdef int take_activation(object activation) except -1:
    """The number of an activation whose slope follows from its value."""
    code = integer("activation", activation, 0, DNN_SMOOTH_RELU)
    return <int> (code if code == DNN_SMOOTH_RELU else integer("activation", code, 0, DNN_SOFTPLUS))


cdef int take_network(
    Call *c, dnn_residual *d, object w, object fixed, object x, object width, object n_layers, int64_t outputs,
    double h, object opening, object activation
) except -1:
    """Describe a whole network and its rows."""
    d.width, d.n_layers = integer("width", width, 1, 2**20), integer("n_layers", n_layers, 1, 2**22)
    d.opening = <int> integer("opening", opening, 0, DNN_OPENINGS - 1)
    d.activation, d.h = take_activation(activation), h
    d.outputs = integer("the number of outputs", outputs, 1, 2**31 - 1)
    x_ = take(&c.arrays, x, "x", REAL, False, 2)
    d.rows, d.x, d.fixed = x_.shape[0], x_.buf, NULL
    d.inputs = integer("the number of columns of x", x_.shape[1], 1, 2**31 - 1)
    if d.opening == DNN_PADDING and d.inputs > d.width:
        raise ValueError(f"x must have at most the {d.width} columns of a state to be padded, got {d.inputs}.")
    if d.opening == DNN_FIXED:
        d.fixed = take(&c.arrays, fixed, "fixed", REAL, False, 2, d.inputs, d.width).buf
    params = (d.inputs + 1) * d.width if d.opening == DNN_TRAINED else 0
    params += d.n_layers * d.width * (d.width + 1) + (d.width + 1) * outputs
    d.w = take(&c.arrays, w, "w", REAL, False, 1, params).buf
    return 0


cdef int take_chains(
    Call *c, dnn_chains *d, object layers, object layer, object size, int64_t width, int64_t columns, object apart,
    object activation, int64_t rows
) except -1:
    """Describe the chains, and check every number that a kernel trusts."""
    if columns % WHOLE:
        raise ValueError(f"states must have a multiple of {WHOLE} columns, got {columns}: pad them with zeros.")
    layers_ = take(&c.arrays, layers, "layers", REAL, False, 2, -1, width * (width + 1))
    layer_ = take(&c.arrays, layer, "layer", INT64, False, 2)
    size_ = take(&c.arrays, size, "size", DOUBLE, False, 2, layer_.shape[0], layer_.shape[1])
    d.chains, d.steps = layer_.shape[0], layer_.shape[1]
    d.width, d.columns = width, columns
    d.layers, d.layer, d.size = layers_.buf, <const int64_t *> layer_.buf, <const double *> size_.buf
    d.state = NULL
    d.activation = take_activation(activation)
    d.apart = integer("apart", apart, 0, 2**40)
    if d.chains > 1 and d.apart <= d.steps:
        raise ValueError(f"apart must be more than the {d.steps} steps of a chain, got {d.apart}: else chains overlap.")
    if rows >= 0 and d.chains and (d.chains - 1) * d.apart + d.steps >= rows:
        raise ValueError(
            f"the chains must end within the {rows} states, got {d.chains} of {d.steps} steps, {d.apart} apart.")
    for at in range(d.chains * d.steps):
        if not 0 <= d.layer[at] < layers_.shape[0]:
            raise ValueError(f"layer must lie in 0 .. {layers_.shape[0] - 1}, got {d.layer[at]}.")
    return 0


cdef int take_state(Call *c, dnn_chains *d, object state, int64_t states) except -1:
    """Where the state of every layer stands among so many."""
    state_ = take(&c.arrays, state, "state", INT64, False, 2, d.chains, d.steps)
    d.state = <const int64_t *> state_.buf
    for at in range(d.chains * d.steps):
        if not 0 <= d.state[at] < states:
            raise ValueError(f"state must lie in 0 .. {states - 1}, got {d.state[at]}.")
    return 0


def residual_forward(u, layers, layer, size, apart, activation, g=None, a=None, n_threads=1):
    """u[s, k + 1] = u[s, k] + size phi(W' u[s, k] + b 1') (+ g[s, k + 1]), state (s, k) in row ``s apart + k`` of u.

    u (rows, width, columns), columns a multiple of 16; layers (n, width^2 + width); layer, size (chains, steps); g like
    u or None, of its own memory; a like u or None: row ``s apart + k`` becomes phi of layer k of chain s.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> u = np.ones((3, 1, 16))
    >>> layers = np.array([[2.0, 1.0]])  # z = 2 u + 1
    >>> number, size = np.zeros((1, 2), np.int64), np.full((1, 2), 0.5)
    >>> kernels.residual_forward(u, layers, number, size, 3, kernels.ACTIVATIONS["relu"])
    >>> u[:, 0, 0]
    array([1. , 2.5, 5.5])
    """
    cdef Call c
    cdef dnn_chains d
    cdef const void *more = NULL
    cdef void *kept = NULL
    cdef Py_buffer *g_ = NULL
    begin(&c, n_threads)
    try:
        u_ = take(&c.arrays, u, "u", REAL, True, 3)
        take_chains(&c, &d, layers, layer, size, u_.shape[1], u_.shape[2], apart, activation, u_.shape[0])
        if g is not None:
            g_ = take(&c.arrays, g, "g", REAL, False, 3, u_.shape[0], u_.shape[1], u_.shape[2])
            if overlap(u_, g_):
                raise ValueError("u and g must not share memory: give u an array of its own.")
            more = g_.buf
        if a is not None:
            a_ = take(&c.arrays, a, "a", REAL, True, 3, u_.shape[0], u_.shape[1], u_.shape[2])
            if overlap(u_, a_) or (g is not None and overlap(g_, a_)):
                raise ValueError("a must not share memory with u or g: give it an array of its own.")
            kept = a_.buf
        allocate_work(&c, table_of(&c).residual_work(&d, c.threads))
        with nogil:
            table_of(&c).residual_forward(u_.buf, kept, &d, more, c.threads, c.work)
    finally:
        end(&c)


def residual_tangent(u, du, layers, direction, layer, size, apart, activation, n_threads=1):
    """u as in `residual_forward`, and du[s, k + 1] = du[s, k] + size phi'(z) (W' du[s, k] + V' u[s, k] + v 1').

    u, du (rows, width, columns); layers, direction (n, width^2 + width): W, b and V, v; the rest as there.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> u, du = np.ones((2, 1, 16)), np.zeros((2, 1, 16))
    >>> one, size = np.zeros((1, 1), np.int64), np.ones((1, 1))
    >>> layers, direction = np.array([[2.0, 1.0]]), np.array([[0.0, 1.0]])
    >>> kernels.residual_tangent(u, du, layers, direction, one, size, 2, kernels.ACTIVATIONS["relu"])
    >>> du[:, 0, 0]
    array([0., 1.])
    """
    cdef Call c
    cdef dnn_chains d
    begin(&c, n_threads)
    try:
        u_ = take(&c.arrays, u, "u", REAL, True, 3)
        du_ = take(&c.arrays, du, "du", REAL, True, 3, u_.shape[0], u_.shape[1], u_.shape[2])
        take_chains(&c, &d, layers, layer, size, u_.shape[1], u_.shape[2], apart, activation, u_.shape[0])
        size_of_layer = u_.shape[1] * (u_.shape[1] + 1)
        direction_ = take(&c.arrays, direction, "direction", REAL, False, 2, len(layers), size_of_layer)
        if overlap(u_, du_):
            raise ValueError("u and du must not share memory: give each an array of its own.")
        allocate_work(&c, table_of(&c).residual_work(&d, c.threads))
        with nogil:
            table_of(&c).residual_tangent(u_.buf, du_.buf, &d, direction_.buf, c.threads, c.work)
    finally:
        end(&c)


def residual_backward(adjoint, pushed, u, layers, layer, size, state, apart, activation, g=None, a=None, n_threads=1):
    """adjoint[s, k + 1] = adjoint[s, k] + W pushed[s, k] (+ g[s, k + 1]), pushed[s, k] = size phi'(z) adjoint[s, k].

    adjoint, g (rows, width, columns), (s, k) in row ``s apart + k``; pushed (chains steps, width, columns) or None;
    u (states, width, columns); state (chains, steps): the row of u that z is taken at; a like u or None: phi of those
    states, as `residual_forward` leaves it, which saves forming z again; the rest as there.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> adjoint, pushed, u = np.ones((2, 1, 16)), np.empty((1, 1, 16)), np.ones((1, 1, 16))
    >>> one, size = np.zeros((1, 1), np.int64), np.ones((1, 1))
    >>> relu = kernels.ACTIVATIONS["relu"]
    >>> kernels.residual_backward(adjoint, pushed, u, np.array([[2.0, 1.0]]), one, size, one, 2, relu)
    >>> adjoint[:, 0, 0], pushed[0, 0, 0]
    (array([1., 3.]), np.float64(1.0))
    """
    cdef Call c
    cdef dnn_chains d
    cdef const void *more = NULL
    cdef void *kept = NULL
    cdef const void *known = NULL
    cdef Py_buffer *pushed_ = NULL
    begin(&c, n_threads)
    try:
        a_ = take(&c.arrays, adjoint, "adjoint", REAL, True, 3)
        u_ = take(&c.arrays, u, "u", REAL, False, 3, -1, a_.shape[1], a_.shape[2])
        take_chains(&c, &d, layers, layer, size, a_.shape[1], a_.shape[2], apart, activation, a_.shape[0])
        take_state(&c, &d, state, u_.shape[0])
        if overlap(a_, u_):
            raise ValueError("adjoint and u must not share memory: give each an array of its own.")
        if pushed is not None:
            pushed_ = take(&c.arrays, pushed, "pushed", REAL, True, 3, d.chains * d.steps, a_.shape[1], a_.shape[2])
            if overlap(pushed_, a_) or overlap(pushed_, u_):
                raise ValueError("pushed must not share memory with adjoint or u: give it an array of its own.")
            kept = pushed_.buf
        if g is not None:
            g_ = take(&c.arrays, g, "g", REAL, False, 3, a_.shape[0], a_.shape[1], a_.shape[2])
            if overlap(a_, g_):
                raise ValueError("adjoint and g must not share memory: give adjoint an array of its own.")
            more = g_.buf
        if a is not None:
            known_ = take(&c.arrays, a, "a", REAL, False, 3, u_.shape[0], u_.shape[1], u_.shape[2])
            if overlap(known_, a_) or (pushed is not None and overlap(known_, pushed_)):
                raise ValueError("a must not share memory with adjoint or pushed: give it an array of its own.")
            known = known_.buf
        allocate_work(&c, table_of(&c).residual_work(&d, c.threads))
        with nogil:
            table_of(&c).residual_backward(a_.buf, kept, &d, u_.buf, known, more, c.threads, c.work)
    finally:
        end(&c)


def residual_gradient(grad, u, pushed, state, n_threads=1):
    """grad[k] = (u[state[k]] pushed[k]', the sum of pushed[k] over columns), row by row.

    grad (n, width^2 + width); u (states, width, columns), pushed (n, width, columns), state (n, 1).

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> grad = np.empty((1, 2))
    >>> u, pushed = np.full((1, 1, 16), 2.0), np.full((1, 1, 16), 0.5)
    >>> kernels.residual_gradient(grad, u, pushed, np.zeros((1, 1), np.int64))
    >>> grad
    array([[16.,  8.]])
    """
    cdef Call c
    cdef dnn_chains d
    begin(&c, n_threads)
    try:
        pushed_ = take(&c.arrays, pushed, "pushed", REAL, False, 3)
        n, width, columns = pushed_.shape[0], pushed_.shape[1], pushed_.shape[2]
        u_ = take(&c.arrays, u, "u", REAL, False, 3, -1, width, columns)
        grad_ = take(&c.arrays, grad, "grad", REAL, True, 2, n, width * (width + 1))
        if columns % WHOLE:
            raise ValueError(f"states must have a multiple of {WHOLE} columns, got {columns}: pad them with zeros.")
        if overlap(grad_, u_) or overlap(grad_, pushed_):
            raise ValueError("grad must not share memory with u or pushed: give it an array of its own.")
        d.chains, d.steps, d.width, d.columns, d.apart, d.activation = n, 1, width, columns, 2, 0
        d.layers, d.layer, d.size = NULL, NULL, NULL
        take_state(&c, &d, state, u_.shape[0])
        with nogil:
            table_of(&c).residual_gradient(grad_.buf, &d, u_.buf, pushed_.buf, blas_of(&c), c.threads)
    finally:
        end(&c)


def residual_outputs(out, w, fixed, x, width, n_layers, h, opening, activation, n_threads=1):
    """out = u_N C + c: u_0 the opening of x, u_k+1 = u_k + h phi(u_k W_k + b_k).

    out (M, Q); w (P,): the opening's K and k if it is trained, W and b of every layer, C and c; x (M, d); opening 0:
    phi(x K + k), 1: phi(x K) with K = fixed (d, width), 2: x, then zeros; fixed else None.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> out, w = np.empty((1, 1)), np.array([2.0, 1.0, 10.0, 3.0])  # z = 2 u + 1, f = 10 u + 3
    >>> kernels.residual_outputs(out, w, None, np.ones((1, 1)), 1, 1, 0.5, 2, kernels.ACTIVATIONS["relu"])
    >>> out
    array([[28.]])
    """
    cdef Call c
    cdef dnn_residual d
    begin(&c, n_threads)
    try:
        out_ = take(&c.arrays, out, "out", REAL, True, 2)
        take_network(&c, &d, w, fixed, x, width, n_layers, out_.shape[1], h, opening, activation)
        if out_.shape[0] != d.rows:
            raise ValueError(f"out must have the {d.rows} rows of x, got {out_.shape[0]}.")
        allocate_work(&c, table_of(&c).residual_pass_work(&d, False, c.threads))
        with nogil:
            table_of(&c).residual_outputs(out_.buf, &d, c.threads, c.work)
    finally:
        end(&c)


def residual_loss_grad(
    value, grad, w, fixed, x, target, weight, width, n_layers, h, opening, activation, loss, param, scale, n_threads=1,
):
    """value = scale sum_m c_m loss(d_m, f(w; x_m)) and grad = its gradient in w.

    value (1,) float64, grad (P,) or None; target (M, Q); weight c (M,) or None for ones; loss -1: target holds the
    derivatives in f themselves, and value is 0; all else as in `residual_outputs`.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> value, grad, w = np.empty(1), np.empty(4), np.array([2.0, 1.0, 10.0, 3.0])  # u_1 = 2.5, f = 28
    >>> net, tail = (1, 1, 0.5, 2, kernels.ACTIVATIONS["relu"]), (kernels.LOSSES["squared_error"], 0.0, 1.0)
    >>> kernels.residual_loss_grad(value, grad, w, None, np.ones((1, 1)), np.array([[26.0]]), None, *net, *tail)
    >>> value, grad
    (array([2.]), array([10., 10.,  5.,  2.]))
    """
    cdef Call c
    cdef dnn_residual d
    cdef void *grad_ = NULL
    cdef void *weight_ = NULL
    cdef int code = <int> integer("loss", loss, -1, DNN_LOSSES - 1)
    cdef double param_ = param, scale_ = scale
    begin(&c, n_threads)
    try:
        target_ = take(&c.arrays, target, "target", REAL, False, 2)
        take_network(&c, &d, w, fixed, x, width, n_layers, target_.shape[1], h, opening, activation)
        if target_.shape[0] != d.rows:
            raise ValueError(f"target must have the {d.rows} rows of x, got {target_.shape[0]}.")
        if weight is not None:
            weight_ = take(&c.arrays, weight, "weight", REAL, False, 1, d.rows).buf
        if grad is not None:
            grad_ = take(&c.arrays, grad, "grad", REAL, True, 1, len(w)).buf
        value_ = take(&c.arrays, value, "value", DOUBLE, True, 1, 1)
        allocate_work(&c, table_of(&c).residual_pass_work(&d, grad is not None, c.threads))
        with nogil:
            table_of(&c).residual_loss_grad(
                <double *> value_.buf, grad_, &d, target_.buf, weight_, code, param_, scale_, c.threads, c.work)
    finally:
        end(&c)
