"""The arguments of one kernel call: tables of the C kernels, descriptions, checks."""

# Design: a call takes its arrays into one struct on the stack (_arrays), describes them to C (csrc/dnnext.h), allocates
# the work space and calls the table of its precision without the GIL. Nothing is copied or converted: a wrong dtype
# is an error. The wrappers are in the other .pyx files; only this module is linked to csrc.

import os

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from scipy.linalg cimport cython_blas, cython_lapack

from dnnext._checks import short
from dnnext.kernels._arrays cimport ANY, INDEX, INT64, REAL, give_back, letter, take
from dnnext.kernels._dnnext cimport (
    DNN_ACTIVATIONS, DNN_LEVELS, DNN_MAX_LAYERS, dnn_blas, dnn_check_csr, dnn_check_cuts, dnn_check_groups,
    dnn_check_layers, dnn_check_nested, dnn_compiler, dnn_csr, dnn_function, dnn_has_openmp, dnn_kernels, dnn_layer,
    dnn_max_threads, dnn_packed_size, dnn_table,
)

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef const dnn_table *tables[2]
cdef dnn_blas blas[2]


cdef int choose_level() except -1:
    """The best level this processor runs, or the one that DNNEXT_CPU names."""
    cdef const dnn_table *table
    names = {}
    for level in range(DNN_LEVELS):
        table = dnn_kernels(0, level)
        if table != NULL:
            names[table.level.decode()] = level
    asked = os.environ.get("DNNEXT_CPU") or list(names)[len(names) - 1]
    if asked not in names:
        raise ImportError(f"DNNEXT_CPU must be one of {', '.join(names)} on this machine, got {asked!r}.")
    tables[0], tables[1] = dnn_kernels(0, names[asked]), dnn_kernels(1, names[asked])
    return 0


choose_level()
blas[0].gemm, blas[0].syrk = <dnn_function> cython_blas.dgemm, <dnn_function> cython_blas.dsyrk
blas[1].gemm, blas[1].syrk = <dnn_function> cython_blas.sgemm, <dnn_function> cython_blas.ssyrk
blas[0].trsm, blas[1].trsm = <dnn_function> cython_blas.dtrsm, <dnn_function> cython_blas.strsm
blas[0].potrf, blas[0].potrs = <dnn_function> cython_lapack.dpotrf, <dnn_function> cython_lapack.dpotrs
blas[1].potrf, blas[1].potrs = <dnn_function> cython_lapack.spotrf, <dnn_function> cython_lapack.spotrs


def info():
    """How the kernels were compiled and run: openmp, max_threads, cpu_path, cpu_paths, compiler.

    >>> from dnnext import kernels
    >>> sorted(kernels.info())
    ['compiler', 'cpu_path', 'cpu_paths', 'max_threads', 'openmp']
    """
    paths = [dnn_kernels(0, level).level.decode() for level in range(DNN_LEVELS) if dnn_kernels(0, level) != NULL]
    return {
        "openmp": bool(dnn_has_openmp()),
        "max_threads": dnn_max_threads(),
        "cpu_path": tables[0].level.decode(),
        "cpu_paths": paths,
        "compiler": dnn_compiler().decode(),
    }


cdef long threaded_process = 0  # the process whose threads OpenMP keeps; after a fork its child has none of them


cdef int begin(Call *c, object n_threads) except -1:
    """Arguments of a call; in a child of a process that has used several threads it runs on one, with the same bits."""
    global threaded_process
    c.arrays.n, c.arrays.real, c.work, c.allocated = 0, 0, NULL, False
    c.threads = integer("n_threads", n_threads, 1, 1024)
    if c.threads > 1:
        here = os.getpid()
        if threaded_process == 0:
            threaded_process = here
        elif threaded_process != here:  # GNU's OpenMP would wait for ever for threads that are not there
            c.threads = 1
    return 0


cdef size_t KEPT_LEAST = 1 << 20, KEPT_MOST = 1 << 29  # bytes of the work space that stays for the next call


cdef void end(Call *c) noexcept:
    if c.allocated and KEPT_LEAST <= c.work_size <= KEPT_MOST:
        return_work(c, largest)
    if c.allocated:
        free(c.work)
    give_back(&c.arrays)


cdef const dnn_table *table_of(const Call *c) noexcept nogil:
    return tables[0 if c.arrays.real == b"d" else 1]


cdef const dnn_blas *blas_of(const Call *c) noexcept nogil:
    return &blas[0 if c.arrays.real == b"d" else 1]


cdef int allocate_work(Call *c, size_t size) except -1:
    """Work space of a call, aligned to 64 bytes: within the call itself if it is small."""
    if KEPT_LEAST <= size <= largest.size:
        return borrow_work(c, size, largest)
    c.work_size = size
    if size <= SMALL_WORK - 64:
        c.work = c.small + (64 - <size_t> c.small % 64) % 64
        return 0
    c.work = aligned_alloc(64, size)
    c.allocated = c.work != NULL
    if c.work == NULL:
        raise MemoryError(f"{size} bytes for {c.threads} threads could not be allocated: use fewer threads.")
    return 0


cdef class StepWorkspace:
    """Work space that a caller keeps from call to call: pages that are given back must be zeroed when they return.

    It belongs to one call at a time; another one that begins meanwhile has work space of its own. A copy is empty.

    >>> from dnnext import kernels
    >>> isinstance(kernels.StepWorkspace(), kernels.StepWorkspace)
    True
    """

    def __reduce__(self):
        return StepWorkspace, ()

    def __dealloc__(self):
        free(self.place)


# The system hands out large pieces of memory anew in every call, page by page, which can take as long as the call.
cdef StepWorkspace largest = StepWorkspace()  # of all kernels; the GIL is held where it changes


cdef int borrow_work(Call *c, size_t size, StepWorkspace kept) except -1:
    """allocate_work, from what is kept if it is large enough."""
    if kept is None or kept.size < size:
        return allocate_work(c, size)
    c.work, c.work_size, c.allocated = kept.place, kept.size, True
    kept.place, kept.size = NULL, 0
    return 0


cdef void return_work(Call *c, StepWorkspace kept) noexcept:
    """At the end of the call: keep its work space."""
    if kept is None or not c.allocated or kept.size >= c.work_size:
        return
    free(kept.place)
    kept.place, kept.size = c.work, c.work_size
    c.allocated = False


cdef int64_t integer(str name, object value, int64_t least, int64_t most) except? -7:
    """An integer argument within its bounds."""
    cdef int64_t number
    try:
        number = value if type(value) is int else value.__index__()
    except (AttributeError, TypeError, OverflowError):
        raise ValueError(f"{name} must be an integer from {least} to {most}, got {short(value)}.") from None
    if number < least or number > most:
        raise ValueError(f"{name} must be an integer from {least} to {most}, got {number}.")
    return number


cdef int take_layers(Call *c, object layers) except -1:
    cdef int64_t n = len(layers), k, params = 0
    if n < 2 or n > DNN_MAX_LAYERS + 1:
        raise ValueError(f"layers must hold 2 to {DNN_MAX_LAYERS + 1} sizes (d, h_1, ..., Q), got {short(layers)}.")
    for k in range(n):
        c.layers[k] = integer("every size in layers", layers[k], 1, 2**31 - 1)
        if k:
            params += (c.layers[k - 1] + 1) * c.layers[k]
        if params > 2**31 - 1:
            raise ValueError(f"layers must give fewer than 2^31 parameters, got {short(layers)}.")
    c.mlp.layers, c.mlp.n_layers, c.mlp.params = c.layers, n - 1, params
    return 0


cdef int take_mlp(Call *c, object w, object x, object offsets, object layers, object activation) except -1:
    """Check networks and rows, and describe them to C; without offsets all rows are one agent's."""
    cdef Py_buffer *view
    take_layers(c, layers)
    c.mlp.activation = <int> integer("activation", activation, 0, DNN_ACTIVATIONS - 1)
    view = take(&c.arrays, x, "x", REAL, False, 2, ANY, c.layers[0])
    c.mlp.x, c.rows = view.buf, view.shape[0]
    c.one_agent[0], c.one_agent[1] = 0, c.rows
    c.mlp.offsets, c.mlp.agents = c.one_agent, 1
    if offsets is not None:
        take_offsets(c, offsets)
    view = take(&c.arrays, w, "w", REAL, False, 2, ANY, c.mlp.params)
    c.mlp.w, c.mlp.w_step = view.buf, c.mlp.params
    if view.shape[0] == 1:
        c.mlp.w_step = 0
    elif view.shape[0] != c.mlp.agents:
        raise ValueError(
            f"w must have one row for each of the {c.mlp.agents} agents of offsets, or one for all, got "
            f"{view.shape[0]}."
        )
    c.mlp.blas = blas_of(c)
    return 0


cdef int take_offsets(Call *c, object offsets) except -1:
    """How the c.rows rows of x are cut."""
    cdef Py_buffer *view = take(&c.arrays, offsets, "offsets", INT64, False, 1, ANY)
    c.mlp.offsets, c.mlp.agents = <const int64_t *> view.buf, view.shape[0] - 1
    if dnn_check_cuts(c.mlp.offsets, c.mlp.agents + 1, c.rows) != -1:
        raise ValueError(f"offsets must rise from 0 to the {c.rows} rows of x, got {short(offsets)}.")
    return 0


cdef int64_t check_layers(const dnn_layer *layers, int64_t n, int64_t *params) noexcept:
    """-1 and the number of parameters if the layers fit one another, else the first that does not."""
    return dnn_check_layers(layers, n, params)


cdef int64_t gram_numbers(const Call *c, int64_t columns) except -1:
    """sum_i n_i^2 of the n_i rows of every agent, once n_i times columns is known to be an index of BLAS."""
    cdef int64_t numbers = 0, agent, rows
    for agent in range(c.mlp.agents):
        rows = c.mlp.offsets[agent + 1] - c.mlp.offsets[agent]
        if rows > (2**31 - 1) // max(1, columns):
            raise ValueError(
                f"every agent must have fewer than 2^31 rows times columns of root, but agent {agent} had {rows} rows "
                f"and root {columns} columns: use the primal solve or conjugate gradients."
            )
        numbers += rows * rows
    return numbers


cdef int take_root(Call *c, object root) except -1:
    cdef Py_buffer *view
    cdef int64_t outputs = c.layers[c.mlp.n_layers]
    c.root.diagonal = getattr(root, "ndim", 2) != 3
    if c.root.diagonal:
        view = take(&c.arrays, root, "root", REAL, False, 2, c.rows, outputs)
        c.root.columns = outputs
    else:
        view = take(&c.arrays, root, "root", REAL, False, 3, c.rows, outputs, ANY)
        c.root.columns = view.shape[2]
        if c.root.columns > 2**20:  # times 2^31 parameters still is a size
            raise ValueError(f"root must have at most 2^20 columns, got {c.root.columns}.")
    c.root.root, c.root.centred = view.buf, 0
    return 0


cdef int take_centred_root(Call *c, object root) except -1:
    """Weights q in place of a root: S S' = diag(q) - q q' / sum(q)."""
    c.root.root = take(&c.arrays, root, "root", REAL, False, 2, c.rows, c.layers[c.mlp.n_layers]).buf
    c.root.columns, c.root.diagonal, c.root.centred = 1, 0, 1
    return 0


cdef int take_blocks(Call *c, object blocks, int64_t params) except -1:
    cdef Py_buffer *view = take(&c.arrays, blocks, "blocks", INT64, False, 1, ANY)
    c.blocks, c.n_blocks = <const int64_t *> view.buf, view.shape[0] - 1
    if dnn_check_cuts(c.blocks, view.shape[0], params) != -1:
        raise ValueError(f"blocks must rise from 0 to the {params} parameters, got {short(blocks)}.")
    c.packed = dnn_packed_size(c.blocks, c.n_blocks)
    return 0


cdef int take_penalty(
    Call *c, object l1, object l2, object groups, object strength, int64_t params, bint nested
) except -1:
    """The terms of r(u); `nested`: groups must keep within the blocks that were taken before."""
    cdef Py_buffer *view
    c.penalty.l1 = take(&c.arrays, l1, "l1", REAL, False, 1, params).buf
    c.penalty.l2 = take(&c.arrays, l2, "l2", REAL, False, 1, params).buf
    view = take(&c.arrays, groups, "groups", INT64, False, 2, ANY, 2)
    c.penalty.groups, c.penalty.n_groups = <const int64_t *> view.buf, view.shape[0]
    c.penalty.strength = take(&c.arrays, strength, "strength", REAL, False, 1, c.penalty.n_groups).buf
    bad = dnn_check_groups(c.penalty.groups, c.penalty.n_groups, params)
    if bad != -1:
        raise ValueError(
            f"groups must be non-empty, disjoint, increasing ranges (start, stop) within 0 and {params}, but group "
            f"{bad} was {tuple(groups[bad].tolist())}."
        )
    if nested:
        bad = dnn_check_nested(c.penalty.groups, c.penalty.n_groups, c.blocks, c.n_blocks)
        if bad != -1:
            raise ValueError(f"groups must not cross a boundary of blocks, got {tuple(groups[bad].tolist())}.")
    return 0


cdef int take_csr(
    Call *c, object indptr, object indices, object data, int64_t n_rows, int64_t n_columns
) except -1:
    cdef dnn_csr *csr = &c.csr
    indptr_ = take(&c.arrays, indptr, "indptr", INDEX, False, 1, n_rows + 1)
    indices_ = take(&c.arrays, indices, "indices", INDEX, False, 1)
    csr.data = take(&c.arrays, data, "data", REAL, False, 1, indices_.shape[0]).buf
    csr.n_rows = n_rows
    csr.indptr64, csr.indptr32, csr.indices64, csr.indices32 = NULL, NULL, NULL, NULL
    if letter(indptr_) != letter(indices_):
        raise ValueError(f"indptr and indices must be both int64 or both int32, not {indptr.dtype}, {indices.dtype}.")
    if letter(indptr_) == b"q":
        csr.indptr64, csr.indices64 = <int64_t *> indptr_.buf, <int64_t *> indices_.buf
    else:
        csr.indptr32, csr.indices32 = <int32_t *> indptr_.buf, <int32_t *> indices_.buf
    bad = dnn_check_csr(csr, n_columns, indices_.shape[0])
    if bad != -1:
        place = f"indptr[{bad}]" if bad <= n_rows else f"indices[{bad - n_rows - 1}]"
        raise ValueError(
            f"indptr must rise from 0 to at most {indices_.shape[0]} and indices lie in 0 .. {n_columns - 1}, but "
            f"{place} does not."
        )
    return 0
