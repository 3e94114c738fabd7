# What the compiled modules share: the arguments of one call and their checks.
from libc.stdint cimport int64_t

from dnnext.kernels._arrays cimport Arrays
from dnnext.kernels._dnnext cimport (
    DNN_MAX_LAYERS, dnn_blas, dnn_csr, dnn_layer, dnn_mlp, dnn_penalty, dnn_root, dnn_table,
)

cdef enum:
    SMALL_WORK = 16384              # bytes of work space that are not worth an allocation

cdef struct Call:
    Arrays arrays
    dnn_mlp mlp
    dnn_root root
    dnn_penalty penalty
    dnn_csr csr
    int64_t layers[DNN_MAX_LAYERS + 1]
    int64_t one_agent[2]            # offsets when none are given
    int64_t whole[2]                # blocks when none are given
    int64_t rows, n_blocks, packed
    const int64_t *blocks
    int threads
    void *work
    size_t work_size
    bint allocated                  # work is memory of its own, not part of `small`
    char small[SMALL_WORK]

cdef class StepWorkspace:
    cdef void *place
    cdef size_t size

cdef int begin(Call *c, object n_threads) except -1
cdef void end(Call *c) noexcept
cdef const dnn_table *table_of(const Call *c) noexcept nogil
cdef const dnn_blas *blas_of(const Call *c) noexcept nogil
cdef int allocate_work(Call *c, size_t size) except -1
cdef int borrow_work(Call *c, size_t size, StepWorkspace kept) except -1
cdef void return_work(Call *c, StepWorkspace kept) noexcept
cdef int64_t integer(str name, object value, int64_t least, int64_t most) except? -7
cdef int take_mlp(Call *c, object w, object x, object offsets, object layers, object activation) except -1
cdef int take_offsets(Call *c, object offsets) except -1
cdef int64_t gram_numbers(const Call *c, int64_t columns) except -1
cdef int64_t check_layers(const dnn_layer *layers, int64_t n, int64_t *params) noexcept
cdef int take_root(Call *c, object root) except -1
cdef int take_centred_root(Call *c, object root) except -1
cdef int take_blocks(Call *c, object blocks, int64_t params) except -1
cdef int take_penalty(
    Call *c, object l1, object l2, object groups, object strength, int64_t params, bint nested) except -1
cdef int take_csr(
    Call *c, object indptr, object indices, object data, int64_t n_rows, int64_t n_columns) except -1
