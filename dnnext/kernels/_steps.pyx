"""Wrappers of csrc/rounds.c, step.c and iteration.c; reference_steps.py says what each kernel computes."""

from libc.stdint cimport int64_t

from dnnext.kernels._arrays cimport ANY, DOUBLE, INT64, REAL, overlap, take
from dnnext.kernels._call cimport (
    Call, StepWorkspace, begin, end, integer, allocate_work, borrow_work, return_work, table_of, take_blocks, take_csr,
    take_mlp, take_penalty, take_root,
)
from dnnext.kernels._dnnext cimport DNN_LOSSES, DNN_SOFTMAX, dnn_iteration, dnn_model, dnn_rule, dnn_state


def network_mix(out, disagreement, size, rows, indptr, indices, data, rounds, n_threads=1):
    """v_0 = rows, v_k+1 = scale_k C v_k + shift_k v_k + memory_k v_k-1, out = the last v: all rounds of one call.

    out, rows (A, L) apart; rounds (K, 3) float64, each (scale, shift, memory), the first memory unused;
    disagreement, size (A,) float64, both or neither: |v_0 - v_1| / (scale_0 |v_0|) and |v_0|, row by row

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> half = np.array([0, 2, 4]), np.array([0, 1, 0, 1]), np.full(4, 0.5)
    >>> out, disagreement, size = np.empty((2, 1)), np.empty(2), np.empty(2)
    >>> kernels.network_mix(out, disagreement, size, np.array([[1.0], [3.0]]), *half, np.array([[1.0, 0.0, 0.0]]))
    >>> out.ravel(), disagreement, size
    (array([2., 2.]), array([1.        , 0.33333333]), array([1., 3.]))
    """
    cdef Call c
    cdef double *disagreement_ = NULL
    cdef double *size_ = NULL
    begin(&c, n_threads)
    try:
        rows_ = take(&c.arrays, rows, "rows", REAL, False, 2)
        agents, columns = rows_.shape[0], rows_.shape[1]
        out_ = take(&c.arrays, out, "out", REAL, True, 2, agents, columns)
        if overlap(out_, rows_):
            raise ValueError("out must not share memory with rows: give it an array of its own.")
        take_csr(&c, indptr, indices, data, agents, agents)
        rounds_ = take(&c.arrays, rounds, "rounds", DOUBLE, False, 2, ANY, 3)
        if disagreement is not None or size is not None:
            disagreement_ = <double *> take(&c.arrays, disagreement, "disagreement", DOUBLE, True, 1, agents).buf
            size_ = <double *> take(&c.arrays, size, "size", DOUBLE, True, 1, agents).buf
        allocate_work(&c, table_of(&c).mix_work(agents, columns, c.threads))
        with nogil:
            table_of(&c).network_mix(
                out_.buf, disagreement_, size_, rows_.buf, &c.csr, <const double *> rounds_.buf, rounds_.shape[0],
                columns, c.threads, c.work)
    finally:
        end(&c)


def row_change(disagreement, size, before, after, factor, n_threads=1):
    """disagreement_i = factor |before_i - after_i| / |before_i|, 0 where before_i is 0, inf where it is no number.

    disagreement, size (A,) float64, size_i = |before_i|; before, after (A, L)

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> disagreement, size = np.empty(2), np.empty(2)
    >>> kernels.row_change(disagreement, size, np.array([[3.0, 4.0], [0.0, 0.0]]), np.ones((2, 2)), 1.0)
    >>> disagreement.round(3), size
    (array([0.721, 0.   ]), array([5., 0.]))
    """
    cdef Call c
    cdef double factor_ = factor
    begin(&c, n_threads)
    try:
        before_ = take(&c.arrays, before, "before", REAL, False, 2)
        agents, columns = before_.shape[0], before_.shape[1]
        after_ = take(&c.arrays, after, "after", REAL, False, 2, agents, columns)
        disagreement_ = take(&c.arrays, disagreement, "disagreement", DOUBLE, True, 1, agents)
        size_ = take(&c.arrays, size, "size", DOUBLE, True, 1, agents)
        with nogil:
            table_of(&c).row_change(
                <double *> disagreement_.buf, <double *> size_.buf, before_.buf, after_.buf, factor_, agents, columns,
                c.threads)
    finally:
        end(&c)


def neighbour_max(received, scalars, indptr, indices, data):
    """received_i = the largest scalars_j of the columns j != i stored in row i; -inf where there is none, NaN wins.

    received (n_local, S); scalars (n_local + n_ghost, S): own rows first; data (nnz,): the weights, which do not matter

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> received, path = np.empty((2, 1)), (np.array([0, 2, 4]), np.array([0, 1, 0, 1]), np.full(4, 0.5))
    >>> kernels.neighbour_max(received, np.array([[7.0], [3.0]]), *path)
    >>> received.ravel()
    array([3., 7.])
    """
    cdef Call c
    begin(&c, 1)
    try:
        scalars_ = take(&c.arrays, scalars, "scalars", REAL, False, 2)
        received_ = take(&c.arrays, received, "received", REAL, True, 2, ANY, scalars_.shape[1])
        if received_.shape[0] > scalars_.shape[0] or overlap(received_, scalars_):
            raise ValueError("scalars must begin with the rows of received and share no memory with it.")
        take_csr(&c, indptr, indices, data, received_.shape[0], scalars_.shape[0])
        with nogil:
            table_of(&c).neighbour_max(received_.buf, scalars_.buf, &c.csr, scalars_.shape[1])
    finally:
        end(&c)


def proximal_step(z, w_hat, w, y, tau, step, agents, l1, l2, groups, strength, n_threads=1):
    """w_hat_i = prox_{r / tau_i}(w_i - agents / tau_i y_i), z_i = w_i + step (w_hat_i - w_i).

    z, w_hat, w, y (A, P), z may be None; tau (A,) float64; r as in penalty_prox

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> z, w_hat, flat, none = np.empty((1, 2)), np.empty((1, 2)), np.ones(2), np.empty((0, 2), np.int64)
    >>> w, y = np.array([[4.0, 1.0]]), np.array([[0.5, 0.5]])
    >>> kernels.proximal_step(z, w_hat, w, y, np.ones(1), 0.5, 2.0, flat, 0 * flat, none, np.empty(0))
    >>> w_hat, z
    (array([[2., 0.]]), array([[3. , 0.5]]))
    """
    cdef Call c
    cdef void *z_ = NULL
    cdef double step_ = step, agents_ = agents
    begin(&c, n_threads)
    try:
        w_ = take(&c.arrays, w, "w", REAL, False, 2)
        rows, params = w_.shape[0], w_.shape[1]
        y_ = take(&c.arrays, y, "y", REAL, False, 2, rows, params)
        w_hat_ = take(&c.arrays, w_hat, "w_hat", REAL, True, 2, rows, params)
        tau_ = take(&c.arrays, tau, "tau", DOUBLE, False, 1, rows)
        take_penalty(&c, l1, l2, groups, strength, params, False)
        if z is not None:
            moved = take(&c.arrays, z, "z", REAL, True, 2, rows, params)
            z_ = moved.buf
            if overlap(moved, w_) or overlap(moved, y_) or overlap(moved, w_hat_):
                raise ValueError("z must not share memory with w_hat, w or y: give it an array of its own.")
        if overlap(w_hat_, w_) or overlap(w_hat_, y_):
            raise ValueError("w_hat must not share memory with w or y: give it an array of its own.")
        with nogil:
            table_of(&c).proximal_step(
                z_, w_hat_.buf, w_.buf, y_.buf, <const double *> tau_.buf, step_, agents_, &c.penalty, rows, params,
                c.threads)
    finally:
        end(&c)


def tracker_update(y, squares, grad, grad_old, w, n_threads=1):
    """y_i += grad_i - grad_old_i; squares_i = |w_i|^2 + |y_i|^2 with the new y, added up in float64.

    y, grad, grad_old, w (A, P), y apart from the others; squares (A,) float64

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> y, squares = np.array([[1.0, 2.0]]), np.empty(1)
    >>> kernels.tracker_update(y, squares, np.array([[3.0, 3.0]]), np.array([[1.0, 5.0]]), np.array([[2.0, 0.0]]))
    >>> y, squares
    (array([[3., 0.]]), array([13.]))
    """
    cdef Call c
    begin(&c, n_threads)
    try:
        y_ = take(&c.arrays, y, "y", REAL, True, 2)
        rows, params = y_.shape[0], y_.shape[1]
        squares_ = take(&c.arrays, squares, "squares", DOUBLE, True, 1, rows)
        grad_ = take(&c.arrays, grad, "grad", REAL, False, 2, rows, params)
        old_ = take(&c.arrays, grad_old, "grad_old", REAL, False, 2, rows, params)
        w_ = take(&c.arrays, w, "w", REAL, False, 2, rows, params)
        if overlap(y_, grad_) or overlap(y_, old_) or overlap(y_, w_):
            raise ValueError("y must not share memory with grad, grad_old or w: give it an array of its own.")
        with nogil:
            table_of(&c).tracker_update(
                y_.buf, <double *> squares_.buf, grad_.buf, old_.buf, w_.buf, rows, params, c.threads)
    finally:
        end(&c)


def secant_rule(
    tau, beta, received, w, w_old, y, y_old, model, agents, growth, decay, low, high, n_threads=1
):
    """tau_i <- min(max(growth m_i, tau_i / decay, low), high), beta_i <- |agents (y - y_old) - model| / |w - w_old|.

    m_i: the largest of the new beta_i, the old one and received_i; where w_i moved by no more than 1e-12 of its length,
    nothing changes. tau, beta, received (A,) float64; w, w_old, y, y_old, model (A, P), model may be None

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> tau, beta, one, two = np.ones(1), np.zeros(1), np.ones((1, 1)), np.full((1, 1), 2.0)
    >>> kernels.secant_rule(tau, beta, np.zeros(1), two, one, two, one, None, 5.0, 3.0, 1.2, 0.0, 10.0)
    >>> beta, tau
    (array([5.]), array([10.]))
    """
    cdef Call c
    cdef dnn_rule rule
    cdef void *model_ = NULL
    rule.agents, rule.growth, rule.decay, rule.low, rule.high = agents, growth, decay, low, high
    begin(&c, n_threads)
    try:
        w_ = take(&c.arrays, w, "w", REAL, False, 2)
        rows, params = w_.shape[0], w_.shape[1]
        w_old_ = take(&c.arrays, w_old, "w_old", REAL, False, 2, rows, params)
        y_ = take(&c.arrays, y, "y", REAL, False, 2, rows, params)
        y_old_ = take(&c.arrays, y_old, "y_old", REAL, False, 2, rows, params)
        if model is not None:
            model_ = take(&c.arrays, model, "model", REAL, False, 2, rows, params).buf
        tau_ = take(&c.arrays, tau, "tau", DOUBLE, True, 1, rows)
        beta_ = take(&c.arrays, beta, "beta", DOUBLE, True, 1, rows)
        received_ = take(&c.arrays, received, "received", DOUBLE, False, 1, rows)
        with nogil:
            table_of(&c).secant_rule(
                <double *> tau_.buf, <double *> beta_.buf, <const double *> received_.buf, w_.buf, w_old_.buf, y_.buf,
                y_old_.buf, model_, &rule, rows, params, c.threads)
    finally:
        end(&c)


cdef int take_state(Call *c, dnn_state *state, tuple new, tuple old) except -1:
    """w, y, w_hat, z, grad of next_step to write to, and w_old, y_old, grad_old to read."""
    cdef Py_buffer *written[5]
    cdef Py_buffer *read[3]
    cdef int j, k
    for j, name in enumerate(("w", "y", "w_hat", "z", "grad")):
        written[j] = take(&c.arrays, new[j], name, REAL, True, 2, c.mlp.agents, c.mlp.params)
    for j, name in enumerate(("w_old", "y_old", "grad_old")):
        read[j] = take(&c.arrays, old[j], name, REAL, False, 2, c.mlp.agents, c.mlp.params)
    for j in range(5):
        for k in range(5):
            if (j < k and overlap(written[j], written[k])) or (k < 3 and overlap(written[j], read[k])):
                raise ValueError(
                    "w, y, w_hat, z and grad must share no memory with each other or with w_old, y_old and grad_old, "
                    "got overlapping arrays: give each an array of its own."
                )
    state.y, state.w_hat, state.z, state.grad = written[1].buf, written[2].buf, written[3].buf, written[4].buf
    state.w_old, state.y_old, state.grad_old = read[0].buf, read[1].buf, read[2].buf
    return 0


cdef double *take_sums(Call *c, object array, str name) except NULL:
    """One number of double precision for every agent, to write to."""
    return <double *> take(&c.arrays, array, name, DOUBLE, True, 1, c.mlp.agents).buf


cdef int take_model(Call *c, dnn_model *model, int loss, tuple curvature, tuple way) except -1:
    """The curvature of a model: root or share, and blocks; how its system is solved: status, group, steps and tol."""
    root, share, blocks = curvature
    status, group, steps, tol = way
    cdef int64_t rows = c.mlp.agents
    if root is not None and share is not None:
        raise ValueError("share must be None with a root, which has the shares in it, got both.")
    model.share = NULL
    if root is not None:
        take_root(c, root)
    else:
        model.share = take(&c.arrays, share, "share", REAL, False, 1, c.rows).buf
        c.root.root, c.root.diagonal, c.root.columns = NULL, loss != DNN_SOFTMAX, c.layers[c.mlp.n_layers]
        c.root.centred = 0
    c.whole[0], c.whole[1] = 0, c.mlp.params
    c.blocks, c.n_blocks = c.whole, 1
    if blocks is not None:
        take_blocks(c, blocks, c.mlp.params)
    model.root, model.blocks, model.n_blocks = c.root, c.blocks, c.n_blocks
    model.group = integer("group", group, 1, max(1, rows))
    model.steps, model.tol = integer("steps", steps, 0, 2**62), tol
    if model.steps and model.n_blocks != 1:
        raise ValueError(f"blocks must be one, or None, with steps of conjugate gradients, got {model.n_blocks}.")
    model.status = <int64_t *> take(&c.arrays, status, "status", INT64, True, 1, rows).buf
    return 0


def next_step(state, problem, mixing, recipe, n_threads=1, StepWorkspace workspace=None):
    """One iteration of NEXT, fully or partially linearised: the kernels of its steps one after another, bit by bit.

    proximal_step, network_mix of z and y, neighbour_max of beta, mlp_loss_grad, tracker_update, secant_rule (left out
    where growth is 0). state: StepState, w, y, grad new, w_old, y_old, grad_old before, tau and beta in and out;
    problem: StepProblem; mixing: StepMixing; recipe: StepRecipe, all of dnnext.kernels; fields as the arguments there

    With a root in the recipe, instead of proximal_step: mlp_gauss_newton at w_old, spd_solve of (B_i + tau_i + l2)
    (w_hat_i - w_i) = -(agents y_i + l2 w_i), `group` agents at a time; other terms of r play no part. Where status (A,)
    int64 is not 0, nothing but w_hat and status was written. With steps > 0 mlp_cg_solve instead, with tol. With share
    in place of root the root is curvature_root at w_old. blocks None: one. workspace: kept from call to call

    >>> import numpy as np
    >>> from dnnext import kernels
    >>> rows, sums, none = np.zeros((8, 1, 2)), np.zeros((5, 1)), np.empty((0, 2), np.int64)
    >>> w_old, y_old, tau, beta, flat = np.ones((1, 2)), np.ones((1, 2)), np.ones(1), np.zeros(1), np.zeros(2)
    >>> state = kernels.StepState(*rows[:5], *sums, tau, beta, w_old, y_old, rows[5])
    >>> one, penalty = np.ones((1, 1)), (flat, flat, none, flat[:0])
    >>> problem = kernels.StepProblem(one, one, None, np.array([0, 1]), (1, 1), 0, 0, 1.0, 1.0, *penalty)
    >>> alone = kernels.StepMixing(np.array([0, 1]), np.array([0]), np.ones(1), np.empty((0, 3)))
    >>> kernels.next_step(state, problem, alone, kernels.StepRecipe(1.0, 1.0, 0.0, 1.0, 0.0, 1.0))
    >>> state.w, state.grad
    (array([[0., 0.]]), array([[-1., -1.]]))
    """
    cdef Call c
    cdef dnn_iteration it
    cdef dnn_rule rule
    cdef dnn_model model
    w, y, w_hat, z, grad, value, squares, disagreement, size, received, tau, beta, w_old, y_old, grad_old = state
    x, target, weight, offsets, layers, activation, loss, param, scale, l1, l2, groups, strength = problem
    indptr, indices, data, rounds = mixing
    step, agents, growth, decay, low, high, root, status, group, steps, tol, share, blocks = recipe
    rule.agents, rule.growth, rule.decay, rule.low, rule.high = agents, growth, decay, low, high
    it.recipe.step, it.recipe.agents, it.problem.param, it.problem.scale = step, agents, param, scale
    it.recipe.rule = &rule if rule.growth > 0 else NULL
    it.problem.loss = <int> integer("loss", loss, 0, DNN_LOSSES - 1)
    begin(&c, n_threads)
    try:
        take_mlp(&c, w, x, offsets, layers, activation)
        rows, params = c.mlp.agents, c.mlp.params
        take_state(&c, &it.state, (w, y, w_hat, z, grad), (w_old, y_old, grad_old))
        it.state.value, it.state.squares = take_sums(&c, value, "value"), take_sums(&c, squares, "squares")
        it.state.disagreement = take_sums(&c, disagreement, "disagreement")
        it.state.size, it.state.received = take_sums(&c, size, "size"), take_sums(&c, received, "received")
        it.state.tau, it.state.beta = take_sums(&c, tau, "tau"), take_sums(&c, beta, "beta")
        take_penalty(&c, l1, l2, groups, strength, params, False)
        take_csr(&c, indptr, indices, data, rows, rows)
        rounds_ = take(&c.arrays, rounds, "rounds", DOUBLE, False, 2, ANY, 3)
        it.problem.target = take(&c.arrays, target, "target", REAL, False, 2, c.rows, c.layers[c.mlp.n_layers]).buf
        it.problem.weight = NULL
        if weight is not None:
            it.problem.weight = take(&c.arrays, weight, "weight", REAL, False, 1, c.rows).buf
        it.problem.mlp, it.problem.penalty, it.mixing.csr = c.mlp, c.penalty, c.csr
        it.mixing.rounds, it.mixing.n_rounds = <const double *> rounds_.buf, rounds_.shape[0]
        it.recipe.model = NULL
        if root is not None or share is not None:
            take_model(&c, &model, it.problem.loss, (root, share, blocks), (status, group, steps, tol))
            it.recipe.model = &model
        borrow_work(&c, table_of(&c).step_work(&it, c.threads), workspace)
        with nogil:
            table_of(&c).next_step(&it, c.threads, c.work)
        return_work(&c, workspace)
    finally:
        end(&c)
