"""Wrappers of csrc/solve.c, conjugate.c, descent.c, prox.c and mix.c; reference*.py say what each kernel computes."""

from libc.stdint cimport int64_t

from dnnext.kernels._arrays cimport ANY, DOUBLE, INT64, REAL, overlap, take
from dnnext.kernels._call cimport (
    Call, begin, blas_of, end, integer, allocate_work, table_of, take_blocks, take_csr, take_penalty,
)


def block_product(out, b, v, blocks, n_threads=1):
    """out_i = B_i v_i for packed block-diagonal B_i.

    out, v (A, P); b (A, sum_b P_b^2); out shares no memory with v and b.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> b = np.array([[1.0, 2.0, 2.0, 5.0, 3.0]])  # a block of two, and one of one
    >>> out, v = np.empty((1, 3)), np.array([[1.0, 1.0, 1.0]])
    >>> kernels.block_product(out, b, v, np.array([0, 2, 3]))
    >>> out
    array([[3., 7., 3.]])
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        v_ = take(&c.arrays, v, "v", REAL, False, 2)
        take_blocks(&c, blocks, v_.shape[1])
        b_ = take(&c.arrays, b, "b", REAL, False, 2, v_.shape[0], c.packed)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, v_.shape[0], v_.shape[1])
        if overlap(out_, v_) or overlap(out_, b_):
            raise ValueError("out must not share memory with v or b: give it an array of its own.")
        with nogil:
            table_of(&c).block_product(
                out_.buf, b_.buf, v_.buf, v_.shape[0], c.blocks, c.n_blocks, c.threads)
    finally:
        end(&c)


def spd_solve(out, status, b, diag, rhs, blocks, n_threads=1):
    """(B_i + diag(diag_i)) out_i = rhs_i block by block; b is overwritten.

    out, diag, rhs (A, P), out may be rhs; status (A,) int64: 0, or 1 + the first block without a solution: out = 0

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> b, rhs = np.array([[1.0, 0.0, 0.0, 3.0]]), np.array([[2.0, 8.0]])
    >>> out, status = np.empty((1, 2)), np.empty(1, np.int64)
    >>> kernels.spd_solve(out, status, b, np.ones((1, 2)), rhs, np.array([0, 2]))
    >>> out, status
    (array([[1., 2.]]), array([0]))
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        rhs_ = take(&c.arrays, rhs, "rhs", REAL, False, 2)
        agents, params = rhs_.shape[0], rhs_.shape[1]
        take_blocks(&c, blocks, params)
        b_ = take(&c.arrays, b, "b", REAL, True, 2, agents, c.packed)
        diag_ = take(&c.arrays, diag, "diag", REAL, False, 2, agents, params)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, agents, params)
        status_ = take(&c.arrays, status, "status", INT64, True, 1, agents)
        if overlap(out_, diag_) or (overlap(out_, rhs_) and out_.buf != rhs_.buf):
            raise ValueError("out may be rhs itself, but must not share other memory with rhs or diag, and it did.")
        with nogil:
            table_of(&c).spd_solve(
                out_.buf, <int64_t *> status_.buf, b_.buf, diag_.buf, rhs_.buf, agents, c.blocks, c.n_blocks,
                blas_of(&c), c.threads)
    finally:
        end(&c)


def cg_curve(curve, image, diag, direction, n_threads=1):
    """image_i += diag_i direction_i, then curve_i = direction_i'image_i.

    image, diag, direction (A, P); curve (A,) float64

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> curve, image = np.empty(1), np.array([[1.0, 1.0]])
    >>> kernels.cg_curve(curve, image, np.array([[2.0, 0.0]]), np.array([[1.0, 4.0]]))
    >>> curve, image
    (array([7.]), array([[3., 1.]]))
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        image_ = take(&c.arrays, image, "image", REAL, True, 2)
        rows, params = image_.shape[0], image_.shape[1]
        diag_ = take(&c.arrays, diag, "diag", REAL, False, 2, rows, params)
        direction_ = take(&c.arrays, direction, "direction", REAL, False, 2, rows, params)
        curve_ = take(&c.arrays, curve, "curve", DOUBLE, True, 1, rows)
        if overlap(image_, diag_) or overlap(image_, direction_):
            raise ValueError("image must not share memory with diag or direction: give it an array of its own.")
        with nogil:
            table_of(&c).cg_curve(
                <double *> curve_.buf, image_.buf, diag_.buf, direction_.buf, rows, params, c.threads)
    finally:
        end(&c)


def cg_step(energy, step, residual, direction, image, length, n_threads=1):
    """step_i += length_i direction_i, residual_i -= length_i image_i, then energy_i = |residual_i|^2.

    step, residual, direction, image (A, P); energy, length (A,) float64

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> energy, step, residual = np.empty(1), np.zeros((1, 2)), np.array([[1.0, 1.0]])
    >>> kernels.cg_step(energy, step, residual, np.ones((1, 2)), np.array([[2.0, 1.0]]), np.array([0.5]))
    >>> energy, step, residual
    (array([0.25]), array([[0.5, 0.5]]), array([[0. , 0.5]]))
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        step_ = take(&c.arrays, step, "step", REAL, True, 2)
        rows, params = step_.shape[0], step_.shape[1]
        residual_ = take(&c.arrays, residual, "residual", REAL, True, 2, rows, params)
        direction_ = take(&c.arrays, direction, "direction", REAL, False, 2, rows, params)
        image_ = take(&c.arrays, image, "image", REAL, False, 2, rows, params)
        length_ = take(&c.arrays, length, "length", DOUBLE, False, 1, rows)
        energy_ = take(&c.arrays, energy, "energy", DOUBLE, True, 1, rows)
        if overlap(step_, direction_) or overlap(step_, image_) or overlap(step_, residual_):
            raise ValueError("step must not share memory with residual, direction or image: give it its own array.")
        if overlap(residual_, direction_) or overlap(residual_, image_):
            raise ValueError("residual must not share memory with direction or image: give it an array of its own.")
        with nogil:
            table_of(&c).cg_step(
                <double *> energy_.buf, step_.buf, residual_.buf, direction_.buf, image_.buf,
                <const double *> length_.buf, rows, params, c.threads)
    finally:
        end(&c)


def cg_turn(direction, residual, ratio, n_threads=1):
    """direction_i <- residual_i + ratio_i direction_i.

    direction, residual (A, P); ratio (A,) float64

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> direction = np.array([[2.0, 4.0]])
    >>> kernels.cg_turn(direction, np.array([[1.0, 0.0]]), np.array([0.5]))
    >>> direction
    array([[2., 2.]])
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        direction_ = take(&c.arrays, direction, "direction", REAL, True, 2)
        rows, params = direction_.shape[0], direction_.shape[1]
        residual_ = take(&c.arrays, residual, "residual", REAL, False, 2, rows, params)
        ratio_ = take(&c.arrays, ratio, "ratio", DOUBLE, False, 1, rows)
        if overlap(direction_, residual_):
            raise ValueError("direction must not share memory with residual: give it an array of its own.")
        with nogil:
            table_of(&c).cg_turn(
                direction_.buf, residual_.buf, <const double *> ratio_.buf, rows, params, c.threads)
    finally:
        end(&c)


def descent_solve(v, n_done, b, tau, w, g, l1, l2, groups, strength, blocks, n_iter, tol, n_threads=1):
    """v_i = argmin_u 1/2 (u - w_i)'(B_i + tau_i I)(u - w_i) + g_i'(u - w_i) + r(u).

    v (A, P): the start, then the solution; n_done (A,) int64 sweeps; b (A, sum_b P_b^2); tau (A,); w, g (A, P); r as in
    penalty_prox. At most n_iter sweeps, until no coordinate moved by more than tol max(1, |v|_max).

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> v, n_done = np.zeros((1, 2)), np.empty(1, np.int64)
    >>> b, w, g = np.array([[1.0, 0.0, 0.0, 3.0]]), np.zeros((1, 2)), np.array([[-3.0, -0.5]])
    >>> l1, none = np.ones(2), np.empty((0, 2), np.int64)  # r(v) = |v|_1, no groups
    >>> kernels.descent_solve(
    ...     v, n_done, b, np.ones(1), w, g, l1, np.zeros(2), none, np.empty(0), np.array([0, 2]), 100, 1e-12)
    >>> v
    array([[1., 0.]])
    """
    cdef Call c
    cdef double tol_ = tol
    cdef int64_t sweeps = integer("n_iter", n_iter, 0, 2**62)
    begin(&c, n_threads)
    try:
        v_ = take(&c.arrays, v, "v", REAL, True, 2)
        agents, params = v_.shape[0], v_.shape[1]
        take_blocks(&c, blocks, params)
        take_penalty(&c, l1, l2, groups, strength, params, True)
        done_ = take(&c.arrays, n_done, "n_done", INT64, True, 1, agents)
        b_ = take(&c.arrays, b, "b", REAL, False, 2, agents, c.packed)
        tau_ = take(&c.arrays, tau, "tau", REAL, False, 1, agents)
        w_ = take(&c.arrays, w, "w", REAL, False, 2, agents, params)
        g_ = take(&c.arrays, g, "g", REAL, False, 2, agents, params)
        if overlap(v_, w_) or overlap(v_, g_):
            raise ValueError("v must not share memory with w or g: start from a copy.")
        allocate_work(&c, table_of(&c).descent_work(c.blocks, c.n_blocks, c.threads))
        with nogil:
            table_of(&c).descent_solve(
                v_.buf, <int64_t *> done_.buf, b_.buf, tau_.buf, w_.buf, g_.buf, &c.penalty, agents, c.blocks,
                c.n_blocks, sweeps, tol_, c.threads, c.work)
    finally:
        end(&c)


def penalty_prox(out, v, s, l1, l2, groups, strength, n_threads=1):
    """out_i = argmin_u 1/2 |u - v_i|^2 + s_i r(u).

    r(u) = sum_p l1_p |u_p| + l2_p u_p^2 / 2 + sum_g strength_g |u_g|; out, v (A, P), out may be v; s (A,); l1, l2 (P,);
    groups (n_groups, 2) int64 column ranges, strength (n_groups,).

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> out, v, s = np.empty((1, 4)), np.array([[3.0, -0.5, 3.0, 4.0]]), np.ones(1)
    >>> l1, l2 = np.array([1.0, 1.0, 0.0, 0.0]), np.zeros(4)
    >>> kernels.penalty_prox(out, v, s, l1, l2, np.array([[2, 4]]), np.array([2.5]))
    >>> out
    array([[ 2. , -0. ,  1.5,  2. ]])
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        v_ = take(&c.arrays, v, "v", REAL, False, 2)
        agents, params = v_.shape[0], v_.shape[1]
        s_ = take(&c.arrays, s, "s", REAL, False, 1, agents)
        take_penalty(&c, l1, l2, groups, strength, params, False)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, agents, params)
        if overlap(out_, v_) and out_.buf != v_.buf:
            raise ValueError("out may be v itself, but must not share only a part of its memory, and it did.")
        with nogil:
            table_of(&c).penalty_prox(out_.buf, v_.buf, s_.buf, &c.penalty, agents, params, c.threads)
    finally:
        end(&c)


def csr_mix(out, rows, indptr, indices, data, previous, scale, shift, memory, n_threads=1):
    """out_i = scale sum_k data_k rows[indices_k] + shift rows_i + memory previous_i, k in stored order.

    out (n_local, L); rows (n_local + n_ghost, L), own rows first; previous (n_local, L) or None; out may be previous.
    A term of shift or memory 0 is left out.

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> rows, out = np.array([[0.0, 2.0], [4.0, 0.0]]), np.empty((2, 2))
    >>> indptr, indices, data = np.array([0, 2, 4]), np.array([0, 1, 0, 1]), np.full(4, 0.5)
    >>> kernels.csr_mix(out, rows, indptr, indices, data, None, 1.0, 0.0, 0.0)
    >>> out
    array([[2., 1.],
           [2., 1.]])
    """
    cdef Call c
    cdef void *previous_ = NULL
    cdef double scale_ = scale, shift_ = shift, memory_ = memory
    begin(&c, n_threads)
    try:
        rows_ = take(&c.arrays, rows, "rows", REAL, False, 2)
        out_ = take(&c.arrays, out, "out", REAL, True, 2, ANY, rows_.shape[1])
        n_local, columns = out_.shape[0], out_.shape[1]
        if n_local > rows_.shape[0] or overlap(out_, rows_):
            raise ValueError("rows must begin with the rows of out and share no memory with out.")
        take_csr(&c, indptr, indices, data, n_local, rows_.shape[0])
        if previous is not None:
            previous_ = take(&c.arrays, previous, "previous", REAL, False, 2, n_local, columns).buf
        with nogil:
            table_of(&c).csr_mix(
                out_.buf, rows_.buf, &c.csr, previous_, scale_, shift_, memory_, columns, c.threads)
    finally:
        end(&c)
