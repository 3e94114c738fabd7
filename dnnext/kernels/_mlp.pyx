"""Calls of csrc/losses.c, passes.c, gradient.c and feedback.c.

reference.py and its neighbours say what each kernel computes.
"""

from libc.stdint cimport int64_t

from dnnext.kernels._arrays cimport DOUBLE, REAL, overlap, take
from dnnext.kernels._call cimport Call, begin, end, integer, allocate_work, table_of, take_mlp
from dnnext.kernels._dnnext cimport DNN_LOSSES, DNN_SOFTMAX


def loss_value_grad(value, delta, f, target, loss, param):
    """value_m = loss(target_m, f_m) and delta_m = its derivative in f_m.

    value (M,) float64, delta (M, Q); f, target (M, Q); loss: a code of LOSSES; param: Huber's delta, else unused.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> value, delta = np.empty(2), np.empty((2, 1))
    >>> f, target = np.array([[1.0], [3.0]]), np.zeros((2, 1))
    >>> kernels.loss_value_grad(value, delta, f, target, kernels.LOSSES["squared_error"], 0.0)
    >>> value, delta.ravel()
    (array([0.5, 4.5]), array([1., 3.]))
    """
    cdef Call c
    cdef int code = <int> integer("loss", loss, 0, DNN_LOSSES - 1)
    cdef double param_ = param
    begin(&c, 1)
    try:
        f_ = take(&c.arrays, f, "f", REAL, False, 2)
        rows, outputs = f_.shape[0], f_.shape[1]
        target_ = take(&c.arrays, target, "target", REAL, False, 2, rows, outputs)
        delta_ = take(&c.arrays, delta, "delta", REAL, True, 2, rows, outputs)
        value_ = take(&c.arrays, value, "value", DOUBLE, True, 1, rows)
        if outputs < 1:
            raise ValueError("f must have at least one output, got none.")
        with nogil:
            table_of(&c).loss_value_grad(
                <double *> value_.buf, delta_.buf, f_.buf, target_.buf, rows, outputs, code, param_)
    finally:
        end(&c)


def curvature_root(out, f, target, share, loss, param, n_threads=1):
    """out_m = share_m S_m, S_m S_m' the generalised second derivative of the loss at f_m.

    out (M, Q), diagonals, or (M, Q, Q) for softmax; f, target (M, Q); share (M,); loss, param as in loss_value_grad.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> out, f = np.empty((1, 1)), np.zeros((1, 1))
    >>> kernels.curvature_root(out, f, f, np.array([2.0]), kernels.LOSSES["logistic"], 0.0)
    >>> out
    array([[1.]])
    """
    cdef Call c
    cdef int code = <int> integer("loss", loss, 0, DNN_LOSSES - 1)
    cdef double param_ = param
    begin(&c, n_threads)
    try:
        f_ = take(&c.arrays, f, "f", REAL, False, 2)
        rows, outputs = f_.shape[0], f_.shape[1]
        target_ = take(&c.arrays, target, "target", REAL, False, 2, rows, outputs)
        share_ = take(&c.arrays, share, "share", REAL, False, 1, rows)
        if outputs < 1:
            raise ValueError("f must have at least one output, got none.")
        if code == DNN_SOFTMAX:
            out_ = take(&c.arrays, out, "out", REAL, True, 3, rows, outputs, outputs)
        else:
            out_ = take(&c.arrays, out, "out", REAL, True, 2, rows, outputs)
        if overlap(out_, f_) or overlap(out_, target_) or overlap(out_, share_):
            raise ValueError("out must not share memory with f, target or share: give it an array of its own.")
        with nogil:
            table_of(&c).curvature_root(
                out_.buf, f_.buf, target_.buf, share_.buf, rows, outputs, code, param_, c.threads)
    finally:
        end(&c)


def mlp_forward(out, w, x, offsets, layers, activation, n_threads=1):
    """out_m = f(w_i; x_m).

    out (M, Q) raw outputs; w (A, P) or (1, P); x (M, d); the rows of agent i are offsets[i] : offsets[i + 1].

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers, offsets = (2, 1), np.array([0, 2, 3])  # linear, two agents with two rows and one
    >>> w = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 0.0]])  # one row per agent: weights, then the bias
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    >>> out = np.empty((3, 1))
    >>> kernels.mlp_forward(out, w, x, offsets, layers, kernels.ACTIVATIONS["identity"])
    >>> out.ravel()
    array([1.5, 2.5, 3. ])
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.rows, c.layers[c.mlp.n_layers])
        allocate_work(&c, table_of(&c).mlp_work(&c.mlp, NULL, c.threads))
        with nogil:
            table_of(&c).mlp_forward(out_.buf, &c.mlp, c.threads, c.work)
    finally:
        end(&c)


def mlp_loss_grad(value, grad, w, x, target, weight, offsets, layers, activation, loss, param, scale, n_threads=1):
    """value_i = scale sum_m c_m loss(d_m, f(w_i; x_m)) and grad_i = its gradient in w_i.

    value (A,) float64, grad (A, P) or None; target (M, Q); weight c (M,) or None for ones; scale: a factor of both.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers, offsets = (2, 1), np.array([0, 2, 3])  # linear, two agents with two rows and one
    >>> w = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 0.0]])  # one row per agent: weights, then the bias
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    >>> value, grad, target = np.empty(2), np.empty((2, 3)), np.zeros((3, 1))
    >>> loss = kernels.LOSSES["squared_error"]
    >>> kernels.mlp_loss_grad(value, grad, w, x, target, None, offsets, layers, 0, loss, 0.0, 1.0)
    >>> value
    array([4.25, 4.5 ])
    >>> grad
    array([[1.5, 2.5, 4. ],
           [6. , 9. , 3. ]])
    """
    cdef Call c
    cdef void *grad_ = NULL
    cdef void *weight_ = NULL
    cdef int code = <int> integer("loss", loss, 0, DNN_LOSSES - 1)
    cdef double param_ = param, scale_ = scale
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        target_ = take(&c.arrays, target, "target", REAL, False, 2, c.rows, c.layers[c.mlp.n_layers])
        if weight is not None:
            weight_ = take(&c.arrays, weight, "weight", REAL, False, 1, c.rows).buf
        if grad is not None:
            grad_ = take(&c.arrays, grad, "grad", REAL, True, 2, c.mlp.agents, c.mlp.params).buf
        value_ = take(&c.arrays, value, "value", DOUBLE, True, 1, c.mlp.agents)
        allocate_work(&c, table_of(&c).mlp_work(&c.mlp, NULL, c.threads))
        with nogil:
            table_of(&c).mlp_loss_grad(
                <double *> value_.buf, grad_, &c.mlp, target_.buf, weight_, code, param_, scale_, c.threads, c.work)
    finally:
        end(&c)


def mlp_feedback(
    value, grad, w, x, feedback, target, weight, offsets, layers, activation, loss, param, scale, n_threads=1,
):
    """value_i as in mlp_loss_grad, and grad_i by direct feedback: delta_k = (delta_L B_k') phi'(z_k).

    value (A,) float64, grad (A, P); feedback (hidden units of all layers, Q): B_1, then B_2, ...; loss -1: target holds
    the derivatives in the raw output themselves, and value is 0; all else as in mlp_loss_grad.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers, offsets = (1, 1, 1), np.array([0, 1])  # one hidden unit without activation: f = 2 (3 x)
    >>> w, x, target = np.array([[3.0, 0.0, 2.0, 0.0]]), np.array([[1.0]]), np.array([[5.0]])
    >>> value, grad, tail = np.empty(1), np.empty((1, 4)), (target, None, offsets, layers, 0, 0, 0.0, 1.0)
    >>> kernels.mlp_feedback(value, grad, w, x, np.array([[2.0]]), *tail)  # B = W_2: backpropagation
    >>> value, grad
    (array([0.5]), array([[2., 2., 3., 1.]]))
    >>> kernels.mlp_feedback(value, grad, w, x, np.array([[-1.0]]), *tail)
    >>> grad
    array([[-1., -1.,  3.,  1.]])
    """
    cdef Call c
    cdef void *weight_ = NULL
    cdef int code = <int> integer("loss", loss, -1, DNN_LOSSES - 1)
    cdef double param_ = param, scale_ = scale
    cdef int64_t k, units = 0
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        for k in range(1, c.mlp.n_layers):
            units += c.layers[k]
        outputs = c.layers[c.mlp.n_layers]
        feedback_ = take(&c.arrays, feedback, "feedback", REAL, False, 2, units, outputs)
        target_ = take(&c.arrays, target, "target", REAL, False, 2, c.rows, outputs)
        if weight is not None:
            weight_ = take(&c.arrays, weight, "weight", REAL, False, 1, c.rows).buf
        grad_ = take(&c.arrays, grad, "grad", REAL, True, 2, c.mlp.agents, c.mlp.params)
        value_ = take(&c.arrays, value, "value", DOUBLE, True, 1, c.mlp.agents)
        allocate_work(&c, table_of(&c).mlp_work(&c.mlp, NULL, c.threads))
        with nogil:
            table_of(&c).mlp_feedback(
                <double *> value_.buf, grad_.buf, &c.mlp, feedback_.buf, target_.buf, weight_, code, param_, scale_,
                c.threads, c.work)
    finally:
        end(&c)


def mlp_jv(out, w, x, v, offsets, layers, activation, n_threads=1):
    """out_m = J_m(w_i) v_i.

    out (M, Q): the derivative of the raw outputs along v; v (A, P).

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers, offsets = (2, 1), np.array([0, 2, 3])  # linear, two agents with two rows and one
    >>> w = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 0.0]])  # one row per agent: weights, then the bias
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    >>> out, v = np.empty((3, 1)), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> kernels.mlp_jv(out, w, x, v, offsets, layers, kernels.ACTIVATIONS["identity"])
    >>> out.ravel()
    array([1., 0., 1.])
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        v_ = take(&c.arrays, v, "v", REAL, False, 2, c.mlp.agents, c.mlp.params)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.rows, c.layers[c.mlp.n_layers])
        allocate_work(&c, table_of(&c).mlp_work(&c.mlp, NULL, c.threads))
        with nogil:
            table_of(&c).mlp_jv(out_.buf, &c.mlp, v_.buf, c.threads, c.work)
    finally:
        end(&c)


def mlp_jtu(out, w, x, u, offsets, layers, activation, n_threads=1):
    """out_i = sum_m J_m(w_i)' u_m.

    out (A, P): backpropagation of u (M, Q).

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers, offsets = (2, 1), np.array([0, 2, 3])  # linear, two agents with two rows and one
    >>> w = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 0.0]])  # one row per agent: weights, then the bias
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    >>> out = np.empty((2, 3))
    >>> kernels.mlp_jtu(out, w, x, np.ones((3, 1)), offsets, layers, kernels.ACTIVATIONS["identity"])
    >>> out
    array([[1., 1., 2.],
           [2., 3., 1.]])
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        u_ = take(&c.arrays, u, "u", REAL, False, 2, c.rows, c.layers[c.mlp.n_layers])
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.mlp.agents, c.mlp.params)
        allocate_work(&c, table_of(&c).mlp_work(&c.mlp, NULL, c.threads))
        with nogil:
            table_of(&c).mlp_jtu(out_.buf, &c.mlp, u_.buf, c.threads, c.work)
    finally:
        end(&c)
