"""Calls of csrc/jacobian.c, gauss_newton.c, product.c, cg_solve.c, dual.c and tangent.c.

reference.py and its neighbours say what each kernel computes.
"""

from libc.stdint cimport int64_t

from dnnext.kernels._arrays cimport ANY, INT64, REAL, overlap, take
from dnnext.kernels._call cimport (
    Call, begin, blas_of, end, gram_numbers, integer, allocate_work, table_of, take_blocks, take_centred_root, take_mlp,
    take_offsets, take_root,
)


def mlp_jacobian(out, w, x, root, layers, activation, n_threads=1):
    """out = the rows S_m' J_m(w) of one agent.

    out (M R, P); w (1, P); root S: (M, Q) for a diagonal one, R = Q, or (M, Q, R).

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> w, x = np.array([[1.0, 2.0, 0.5]]), np.array([[1.0, 0.0], [2.0, 3.0]])
    >>> out = np.empty((2, 3))
    >>> kernels.mlp_jacobian(out, w, x, np.array([[1.0], [10.0]]), (2, 1), kernels.ACTIVATIONS["identity"])
    >>> out
    array([[ 1.,  0.,  1.],
           [20., 30., 10.]])
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, None, layers, activation)
        take_root(&c, root)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.rows * c.root.columns, c.mlp.params)
        allocate_work(&c, table_of(&c).mlp_work(&c.mlp, &c.root, c.threads))
        with nogil:
            table_of(&c).mlp_jacobian(out_.buf, &c.mlp, &c.root, c.threads, c.work)
    finally:
        end(&c)


def mlp_gauss_newton(out, w, x, root, offsets, layers, activation, blocks, n_threads=1):
    """out_i = the diagonal blocks of sum_m J_m' S_m S_m' J_m, packed.

    out (A, sum_b P_b^2): each block full and symmetric; blocks (n_blocks + 1,): boundaries from 0 to P; root as above.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers, offsets = (2, 1), np.array([0, 2, 3])  # linear, two agents with two rows and one
    >>> w = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 0.0]])  # one row per agent: weights, then the bias
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    >>> out, blocks = np.empty((2, 9)), np.array([0, 3])
    >>> kernels.mlp_gauss_newton(out, w, x, np.ones((3, 1)), offsets, layers, kernels.ACTIVATIONS["identity"], blocks)
    >>> out[0].reshape(3, 3)
    array([[1., 0., 1.],
           [0., 1., 1.],
           [1., 1., 2.]])
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        take_root(&c, root)
        take_blocks(&c, blocks, c.mlp.params)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.mlp.agents, c.packed)
        allocate_work(&c, table_of(&c).mlp_curvature_work(&c.mlp, &c.root, c.blocks, c.n_blocks, c.threads))
        with nogil:
            table_of(&c).mlp_gauss_newton(out_.buf, &c.mlp, &c.root, c.blocks, c.n_blocks, c.threads, c.work)
    finally:
        end(&c)


def mlp_gauss_newton_product(out, w, x, root, v, offsets, layers, activation, blocks, n_threads=1, centred=False):
    """out_i = the blocks of sum_m J_m' S_m S_m' J_m times those of v_i.

    out, v (A, P); the matrix is never formed where that is cheaper; arguments as in mlp_gauss_newton. centred, with one
    block: root holds q (M, Q) >= 0, and S_m S_m' = diag(q_m) - q_m q_m' / sum(q_m), as the curvature of softmax.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers, offsets = (2, 1), np.array([0, 2, 3])  # linear, two agents with two rows and one
    >>> w = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 0.0]])  # one row per agent: weights, then the bias
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    >>> out, v, root, blocks = np.empty((2, 3)), np.ones((2, 3)), np.ones((3, 1)), np.array([0, 3])
    >>> kernels.mlp_gauss_newton_product(out, w, x, root, v, offsets, layers, 0, blocks)
    >>> out
    array([[ 2.,  2.,  4.],
           [12., 18.,  6.]])
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        take_blocks(&c, blocks, c.mlp.params)
        if not centred:
            take_root(&c, root)
        elif c.n_blocks == 1:
            take_centred_root(&c, root)
        else:
            raise ValueError(f"blocks must be one with centred=True, got {c.n_blocks}.")
        v_ = take(&c.arrays, v, "v", REAL, False, 2, c.mlp.agents, c.mlp.params)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.mlp.agents, c.mlp.params)
        allocate_work(&c, table_of(&c).mlp_work(&c.mlp, &c.root, c.threads))
        with nogil:
            table_of(&c).mlp_gauss_newton_product(
                out_.buf, &c.mlp, &c.root, v_.buf, c.blocks, c.n_blocks, c.threads, c.work)
    finally:
        end(&c)


def mlp_cg_solve(
    out, n_done, w, x, root, diag, rhs, offsets, layers, activation, n_iter, tol, n_threads=1, centred=False,
):
    """(A_i + diag(diag_i)) out_i = rhs_i, A_i = sum_m J_m' S_m S_m' J_m, by conjugate gradients from 0.

    out, diag, rhs (A, P); n_done (A,) int64: steps taken, n_iter at most, until |residual_i| <= tol |rhs_i|; where
    |rhs_i|^2 is not finite, out_i is NaN; w, x, root, offsets, centred as in mlp_gauss_newton_product.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> out, n_done, x = np.empty((1, 2)), np.empty(1, np.int64), np.array([[1.0], [3.0]])  # J has the rows (x, 1)
    >>> call = np.zeros((1, 2)), x, np.ones((2, 1)), np.ones((1, 2)), np.array([[15.0, 7.0]])
    >>> kernels.mlp_cg_solve(out, n_done, *call, np.array([0, 2]), (1, 1), 0, 10, 1e-12)
    >>> out.round(9), n_done
    (array([[1., 1.]]), array([2]))
    """
    cdef Call c
    cdef int64_t steps = integer("n_iter", n_iter, 0, 2**62)
    cdef double tol_ = tol
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        if centred:
            take_centred_root(&c, root)
        else:
            take_root(&c, root)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.mlp.agents, c.mlp.params)
        done_ = take(&c.arrays, n_done, "n_done", INT64, True, 1, c.mlp.agents)
        diag_ = take(&c.arrays, diag, "diag", REAL, False, 2, c.mlp.agents, c.mlp.params)
        rhs_ = take(&c.arrays, rhs, "rhs", REAL, False, 2, c.mlp.agents, c.mlp.params)
        if overlap(out_, diag_) or overlap(out_, rhs_):
            raise ValueError("out must not share memory with diag or rhs: give it an array of its own.")
        allocate_work(&c, table_of(&c).mlp_cg_work(&c.mlp, &c.root, c.threads))
        with nogil:
            table_of(&c).mlp_cg_solve(
                out_.buf, <int64_t *> done_.buf, &c.mlp, &c.root, diag_.buf, rhs_.buf, steps, tol_, c.threads, c.work)
    finally:
        end(&c)


def mlp_dual_solve(out, status, w, x, root, gram, tau, l2, rhs, offsets, layers, activation, blocks, n_threads=1):
    """(B_i + D_i) out_i = rhs_i block by block, B_i = sum_m J_m' S_m S_m' J_m never formed; for few rows.

    out, rhs (A, P); status (A,) int64: 0, or 1 + the first block that has no finite solution and is 0; w, x, root,
    offsets as in mlp_gauss_newton; D_i = tau_i + l2_k on the weights of layer k, tau_i on its biases: tau (A,),
    l2 (n_layers,); gram: what rows_gram gives, or None. out may be rhs.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> layers, offsets, blocks = (2, 1), np.array([0, 1]), np.array([0, 3])
    >>> w, x, root = np.zeros((1, 3)), np.array([[1.0, 2.0]]), np.ones((1, 1))  # J is (1, 2, 1)
    >>> out, status, rhs = np.empty((1, 3)), np.empty(1, np.int64), np.array([[1.0, 2.0, 1.0]])
    >>> tail = (np.ones(1), np.zeros(1), rhs, offsets, layers, 0, blocks)
    >>> kernels.mlp_dual_solve(out, status, w, x, root, None, *tail)
    >>> (7 * out).round(12), status
    (array([[1., 2., 1.]]), array([0]))
    """
    cdef Call c
    cdef void *gram_ = NULL
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        take_root(&c, root)
        take_blocks(&c, blocks, c.mlp.params)
        numbers = gram_numbers(&c, c.root.columns)
        if gram is not None:
            gram_ = take(&c.arrays, gram, "gram", REAL, False, 1, numbers).buf
        tau_ = take(&c.arrays, tau, "tau", REAL, False, 1, c.mlp.agents)
        l2_ = take(&c.arrays, l2, "l2", REAL, False, 1, c.mlp.n_layers)
        rhs_ = take(&c.arrays, rhs, "rhs", REAL, False, 2, c.mlp.agents, c.mlp.params)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.mlp.agents, c.mlp.params)
        status_ = take(&c.arrays, status, "status", INT64, True, 1, c.mlp.agents)
        if overlap(out_, rhs_) and out_.buf != rhs_.buf:
            raise ValueError("out may be rhs itself, but must not share only a part of its memory, and it did.")
        allocate_work(&c, table_of(&c).mlp_dual_work(&c.mlp, &c.root, c.threads))
        with nogil:
            table_of(&c).mlp_dual_solve(
                out_.buf, <int64_t *> status_.buf, &c.mlp, &c.root, gram_, tau_.buf, l2_.buf, rhs_.buf, c.blocks,
                c.n_blocks, c.threads, c.work)
    finally:
        end(&c)


def mlp_tangent_kernel(out, w, x, y, layers, activation, n_threads=1):
    """out = J(X) J(Y)', the neural tangent kernel of one network, without J.

    out (n Q, m Q), row (i, q) and column (j, r) for the outputs q and r at row i of x and row j of y; w (1, P),
    x (n, d), y (m, d), or None for x itself: then m = n and out is symmetric bit for bit.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> out, x = np.empty((2, 1)), np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> kernels.mlp_tangent_kernel(out, np.zeros((1, 3)), x, np.array([[1.0, 3.0]]), (2, 1), 0)
    >>> out.ravel()  # of a linear model: x' y + 1
    array([2., 7.])
    """
    cdef Call c
    cdef void *y_ = NULL
    cdef int64_t n_y = 0
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, None, layers, activation)
        outputs, columns = c.layers[c.mlp.n_layers], c.rows
        if y is not None:
            view = take(&c.arrays, y, "y", REAL, False, 2, ANY, c.layers[0])
            y_, n_y = view.buf, view.shape[0]
            columns = n_y
        if max(c.rows, columns) > (2**31 - 1) // outputs:
            raise ValueError(
                f"x and y must have fewer than 2^31 rows times outputs each, got {c.rows} and {columns} rows "
                f"for {outputs} outputs."
            )
        out_ = take(&c.arrays, out, "out", REAL, True, 2, c.rows * outputs, columns * outputs)
        allocate_work(&c, table_of(&c).mlp_tangent_work(&c.mlp, n_y, c.threads))
        with nogil:
            table_of(&c).mlp_tangent_kernel(out_.buf, &c.mlp, y_, n_y, c.threads, c.work)
    finally:
        end(&c)


def rows_gram(out, x, offsets):
    """out = X_i X_i' of every agent, one after another.

    out (sum_i n_i^2,), where agent i has the n_i rows offsets[i] : offsets[i + 1] of x (M, d).

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> out = np.empty(5)
    >>> kernels.rows_gram(out, np.array([[1.0, 0.0], [1.0, 2.0], [3.0, 4.0]]), np.array([0, 2, 3]))
    >>> out
    array([ 1.,  1.,  1.,  5., 25.])
    """
    cdef Call c
    begin(&c, 1)
    try:
        x_ = take(&c.arrays, x, "x", REAL, False, 2)
        c.rows = x_.shape[0]
        take_offsets(&c, offsets)
        out_ = take(&c.arrays, out, "out", REAL, True, 1, gram_numbers(&c, 1))
        with nogil:
            table_of(&c).rows_gram(out_.buf, x_.buf, c.mlp.offsets, c.mlp.agents, x_.shape[1], blas_of(&c))
    finally:
        end(&c)
