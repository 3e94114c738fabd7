# What the doors share: the C interface, the arguments of one call, their checks.
from libc.stdint cimport int32_t, int64_t

from dnnext.kernels._arrays cimport Arrays

cdef extern from "dnnext.h" nogil:
    ctypedef void (*dnn_function)()
    enum:
        DNN_ACTIVATIONS
        DNN_SMOOTH_RELU
        DNN_LOSSES
        DNN_MAX_LAYERS
        DNN_LEVELS
    ctypedef struct dnn_blas:
        dnn_function gemm, syrk, potrf, potrs
    ctypedef struct dnn_mlp:
        int64_t agents, params, n_layers, w_step
        const int64_t *offsets
        const int64_t *layers
        int activation
        const void *w
        const void *x
        const dnn_blas *blas
    ctypedef struct dnn_layer:
        int64_t kind, activation, channels, height, width, filters
        int64_t size[2]
        int64_t stride[2]
        int64_t padding[2]
        int64_t dilation[2]
    ctypedef struct dnn_chain:
        int64_t agents, params, inputs, n_layers, w_step, n_directions
        const int64_t *offsets
        const dnn_layer *layers
        const void *w
        const void *x
        const void *direction
    ctypedef struct dnn_root:
        const void *root
        int64_t columns
        int diagonal
    ctypedef struct dnn_penalty:
        const void *l1
        const void *l2
        const int64_t *groups
        const void *strength
        int64_t n_groups
    ctypedef struct dnn_csr:
        int64_t n_rows
        const int64_t *indptr64
        const int64_t *indices64
        const int32_t *indptr32
        const int32_t *indices32
        const void *data
    ctypedef struct dnn_rule:
        double agents, growth, decay, low, high
    ctypedef struct dnn_model:
        dnn_root root
        int64_t group
        int64_t *status
    ctypedef struct dnn_iteration:
        dnn_mlp mlp
        dnn_penalty penalty
        dnn_csr csr
        const double *rounds
        int64_t n_rounds
        void *w_hat
        void *z
        void *y
        void *grad
        double *value
        double *squares
        double *disagreement
        double *size
        double *heard
        double *tau
        double *beta
        const void *w_old
        const void *y_old
        const void *grad_old
        const void *target
        const void *weight
        int loss
        double param, scale, step, agents
        const dnn_rule *rule
        const dnn_model *model
    ctypedef struct dnn_chains:
        int64_t chains, steps, width, columns, apart
        const void *layers
        const int64_t *layer
        const double *size
        const int64_t *state
        int activation

    ctypedef struct dnn_table:
        const char *level
        void (*loss_value_grad)(
            double *, void *, const void *, const void *, int64_t, int64_t, int, double) noexcept nogil
        void (*mlp_forward)(void *, const dnn_mlp *, int, void *) noexcept nogil
        void (*mlp_loss_grad)(
            double *, void *, const dnn_mlp *, const void *, const void *, int, double, double, int,
            void *) noexcept nogil
        void (*mlp_feedback)(
            double *, void *, const dnn_mlp *, const void *, const void *, const void *, int, double, double, int,
            void *) noexcept nogil
        void (*mlp_jv)(void *, const dnn_mlp *, const void *, int, void *) noexcept nogil
        void (*mlp_jtu)(void *, const dnn_mlp *, const void *, int, void *) noexcept nogil
        void (*mlp_jacobian)(void *, const dnn_mlp *, const dnn_root *, int, void *) noexcept nogil
        void (*mlp_gauss_newton)(
            void *, const dnn_mlp *, const dnn_root *, const int64_t *, int64_t, int, void *) noexcept nogil
        void (*mlp_gauss_newton_product)(
            void *, const dnn_mlp *, const dnn_root *, const void *, const int64_t *, int64_t, int,
            void *) noexcept nogil
        void (*block_product)(void *, const void *, const void *, int64_t, const int64_t *, int64_t, int) noexcept nogil
        void (*spd_solve)(
            void *, int64_t *, void *, const void *, const void *, int64_t, const int64_t *, int64_t,
            const dnn_blas *, int) noexcept nogil
        void (*mlp_dual_solve)(
            void *, int64_t *, const dnn_mlp *, const dnn_root *, const void *, const void *, const void *,
            const void *, const int64_t *, int64_t, int, void *) noexcept nogil
        void (*rows_gram)(
            void *, const void *, const int64_t *, int64_t, int64_t, const dnn_blas *) noexcept nogil
        void (*mlp_tangent_kernel)(void *, const dnn_mlp *, const void *, int64_t, int, void *) noexcept nogil
        void (*residual_forward)(void *, const dnn_chains *, const void *, int, void *) noexcept nogil
        void (*residual_tangent)(void *, void *, const dnn_chains *, const void *, int, void *) noexcept nogil
        void (*residual_backward)(
            void *, void *, const dnn_chains *, const void *, const void *, int, void *) noexcept nogil
        void (*residual_gradient)(
            void *, const dnn_chains *, const void *, const void *, const dnn_blas *, int) noexcept nogil
        void (*descent_solve)(
            void *, int64_t *, const void *, const void *, const void *, const void *, const dnn_penalty *, int64_t,
            const int64_t *, int64_t, int64_t, double, int, void *) noexcept nogil
        void (*penalty_prox)(
            void *, const void *, const void *, const dnn_penalty *, int64_t, int64_t, int) noexcept nogil
        void (*csr_mix)(
            void *, const void *, const dnn_csr *, const void *, double, double, double, int64_t, int) noexcept nogil
        void (*network_mix)(
            void *, double *, double *, const void *, const dnn_csr *, const double *, int64_t, int64_t, int,
            void *) noexcept nogil
        void (*row_change)(
            double *, double *, const void *, const void *, double, int64_t, int64_t, int) noexcept nogil
        void (*neighbour_max)(void *, const void *, const dnn_csr *, int64_t) noexcept nogil
        void (*proximal_step)(
            void *, void *, const void *, const void *, const double *, double, double, const dnn_penalty *, int64_t,
            int64_t, int) noexcept nogil
        void (*tracker_update)(
            void *, double *, const void *, const void *, const void *, int64_t, int64_t, int) noexcept nogil
        void (*secant_rule)(
            double *, double *, const double *, const void *, const void *, const void *, const void *, const void *,
            const dnn_rule *, int64_t, int64_t, int) noexcept nogil
        void (*next_step)(const dnn_iteration *, int, void *) noexcept nogil
        void (*chain_forward)(void *, void *, const dnn_chain *, int, void *) noexcept nogil
        void (*chain_jv)(void *, const dnn_chain *, const void *, int, void *) noexcept nogil
        void (*chain_jtu)(void *, const dnn_chain *, const void *, const void *, int, void *) noexcept nogil
        void (*chain_loss_grad)(
            double *, double *, void *, const dnn_chain *, const void *, const void *, const void *, int, double,
            double, double, int, void *) noexcept nogil
        size_t (*chain_work)(const dnn_chain *, int) noexcept nogil
        size_t (*mlp_work)(const dnn_mlp *, const dnn_root *, int) noexcept nogil
        size_t (*mlp_dual_work)(const dnn_mlp *, const dnn_root *, int) noexcept nogil
        size_t (*mlp_tangent_work)(const dnn_mlp *, int64_t, int) noexcept nogil
        size_t (*residual_work)(const dnn_chains *, int) noexcept nogil
        size_t (*descent_work)(const int64_t *, int64_t, int) noexcept nogil
        size_t (*mix_work)(int64_t, int64_t, int) noexcept nogil
        size_t (*step_work)(const dnn_iteration *, int) noexcept nogil

cdef struct Call:
    Arrays arrays
    dnn_mlp mlp
    dnn_root root
    dnn_penalty penalty
    dnn_csr csr
    int64_t layers[DNN_MAX_LAYERS + 1]
    int64_t one_agent[2]            # offsets when none are given
    int64_t rows, n_blocks, packed
    const int64_t *blocks
    int threads
    void *work

cdef int begin(Call *c, object n_threads) except -1
cdef void end(Call *c) noexcept
cdef const dnn_table *table_of(const Call *c) noexcept nogil
cdef const dnn_blas *blas_of(const Call *c) noexcept nogil
cdef int make_room(Call *c, size_t size) except -1
cdef int64_t integer(str name, object value, int64_t least, int64_t most) except? -7
cdef int take_mlp(Call *c, object w, object x, object offsets, object layers, object activation) except -1
cdef int take_offsets(Call *c, object offsets) except -1
cdef int64_t gram_numbers(const Call *c, int64_t columns) except -1
cdef int64_t check_layers(const dnn_layer *layers, int64_t n, int64_t *params) noexcept
cdef int take_root(Call *c, object root) except -1
cdef int take_blocks(Call *c, object blocks, int64_t params) except -1
cdef int take_penalty(
    Call *c, object l1, object l2, object groups, object strength, int64_t params, bint nested) except -1
cdef int take_csr(
    Call *c, object indptr, object indices, object data, int64_t n_rows, int64_t n_columns) except -1
