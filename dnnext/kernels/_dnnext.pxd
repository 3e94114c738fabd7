# The C interface, made from csrc/dnnext.h by csrc/declare.py.
from libc.stdint cimport int32_t, int64_t

cdef extern from "dnnext.h" nogil:
    ctypedef void (*dnn_function)()
    enum:
        DNN_IDENTITY
        DNN_TANH
        DNN_LOGISTIC
        DNN_RELU
        DNN_SOFTPLUS
        DNN_SQUARE
        DNN_ACTIVATIONS
    enum:
        DNN_SQUARED_ERROR
        DNN_HUBER
        DNN_LOG_LOSS
        DNN_SOFTMAX
        DNN_SQUARED_HINGE
        DNN_LOSSES
    enum:
        DNN_SMOOTH_RELU
    enum:
        DNN_MAX_LAYERS
    enum:
        DNN_TRAINED
        DNN_FIXED
        DNN_PADDING
        DNN_OPENINGS
    enum:
        DNN_DENSE
        DNN_CONV
        DNN_AVERAGE
        DNN_MAX
        DNN_ADD
        DNN_LAYER_KINDS
    enum:
        DNN_F64
        DNN_F32
    enum:
        DNN_BASELINE
        DNN_V3
        DNN_V4
        DNN_LEVELS
    ctypedef struct dnn_blas:
        dnn_function gemm
        dnn_function syrk
        dnn_function trsm
        dnn_function potrf
        dnn_function potrs
    ctypedef struct dnn_mlp:
        int64_t agents
        int64_t params
        const int64_t *offsets
        const int64_t *layers
        int64_t n_layers
        int activation
        int64_t w_step
        const void *w
        const void *x
        const dnn_blas *blas
    ctypedef struct dnn_layer:
        int64_t kind
        int64_t activation
        int64_t channels
        int64_t height
        int64_t width
        int64_t filters
        int64_t size[2]
        int64_t stride[2]
        int64_t padding[2]
        int64_t dilation[2]
        int64_t from_ "from"
    ctypedef struct dnn_chain:
        int64_t agents
        int64_t params
        int64_t inputs
        const int64_t *offsets
        const dnn_layer *layers
        int64_t n_layers
        int64_t w_step
        const void *w
        const void *x
        const void *direction
        int64_t n_directions
    ctypedef struct dnn_root:
        const void *root
        int64_t columns
        int diagonal
        int centred
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
        double agents
        double growth
        double decay
        double low
        double high
    ctypedef struct dnn_model:
        dnn_root root
        const void *share
        const int64_t *blocks
        int64_t n_blocks
        int64_t group
        int64_t *status
        int64_t steps
        double tol
    ctypedef struct dnn_problem:
        dnn_mlp mlp
        const void *target
        const void *weight
        int loss
        double param
        double scale
        dnn_penalty penalty
    ctypedef struct dnn_mixing:
        dnn_csr csr
        const double *rounds
        int64_t n_rounds
    ctypedef struct dnn_state:
        void *w_hat
        void *z
        void *y
        void *grad
        double *value
        double *squares
        double *disagreement
        double *size
        double *received
        double *tau
        double *beta
        const void *w_old
        const void *y_old
        const void *grad_old
    ctypedef struct dnn_recipe:
        double step
        double agents
        const dnn_rule *rule
        const dnn_model *model
    ctypedef struct dnn_iteration:
        dnn_problem problem
        dnn_mixing mixing
        dnn_state state
        dnn_recipe recipe
    ctypedef struct dnn_chains:
        int64_t chains
        int64_t steps
        int64_t width
        int64_t columns
        int64_t apart
        const void *layers
        const int64_t *layer
        const double *size
        const int64_t *state
        int activation
    ctypedef struct dnn_residual:
        int64_t rows
        int64_t inputs
        int64_t width
        int64_t n_layers
        int64_t outputs
        int opening
        int activation
        double h
        const void *w
        const void *fixed
        const void *x
    ctypedef struct dnn_table:
        const char *level
        void (*loss_value_grad)(
            double *value, void *delta, const void *f, const void *target, int64_t rows, int64_t outputs, int loss,
            double param) noexcept nogil
        void (*curvature_root)(
            void *out, const void *f, const void *target, const void *share, int64_t rows, int64_t outputs, int loss,
            double param, int threads) noexcept nogil
        void (*mlp_forward)(void *out, const dnn_mlp *mlp, int threads, void *work) noexcept nogil
        void (*mlp_loss_grad)(
            double *value, void *grad, const dnn_mlp *mlp, const void *target, const void *weight, int loss,
            double param, double scale, int threads, void *work) noexcept nogil
        void (*mlp_feedback)(
            double *value, void *grad, const dnn_mlp *mlp, const void *feedback, const void *target, const void *weight,
            int loss, double param, double scale, int threads, void *work) noexcept nogil
        void (*mlp_jv)(void *out, const dnn_mlp *mlp, const void *v, int threads, void *work) noexcept nogil
        void (*mlp_jtu)(void *out, const dnn_mlp *mlp, const void *u, int threads, void *work) noexcept nogil
        void (*mlp_jacobian)(
            void *out, const dnn_mlp *mlp, const dnn_root *root, int threads, void *work) noexcept nogil
        void (*mlp_gauss_newton)(
            void *out, const dnn_mlp *mlp, const dnn_root *root, const int64_t *blocks, int64_t n_blocks, int threads,
            void *work) noexcept nogil
        void (*mlp_gauss_newton_product)(
            void *out, const dnn_mlp *mlp, const dnn_root *root, const void *v, const int64_t *blocks, int64_t n_blocks,
            int threads, void *work) noexcept nogil
        void (*mlp_cg_solve)(
            void *out, int64_t *n_done, const dnn_mlp *mlp, const dnn_root *root, const void *diag, const void *rhs,
            int64_t n_iter, double tol, int threads, void *work) noexcept nogil
        void (*block_product)(
            void *out, const void *b, const void *v, int64_t agents, const int64_t *blocks, int64_t n_blocks,
            int threads) noexcept nogil
        void (*spd_solve)(
            void *out, int64_t *status, void *b, const void *diag, const void *rhs, int64_t agents,
            const int64_t *blocks, int64_t n_blocks, const dnn_blas *blas, int threads) noexcept nogil
        void (*mlp_dual_solve)(
            void *out, int64_t *status, const dnn_mlp *mlp, const dnn_root *root, const void *gram, const void *tau,
            const void *l2, const void *rhs, const int64_t *blocks, int64_t n_blocks, int threads,
            void *work) noexcept nogil
        void (*rows_gram)(
            void *out, const void *x, const int64_t *offsets, int64_t agents, int64_t inputs,
            const dnn_blas *blas) noexcept nogil
        void (*mlp_tangent_kernel)(
            void *out, const dnn_mlp *mlp, const void *y, int64_t n_y, int threads, void *work) noexcept nogil
        void (*residual_forward)(
            void *u, void *a, const dnn_chains *chains, const void *g, int threads, void *work) noexcept nogil
        void (*residual_tangent)(
            void *u, void *du, const dnn_chains *chains, const void *direction, int threads, void *work) noexcept nogil
        void (*residual_backward)(
            void *adjoint, void *pushed, const dnn_chains *chains, const void *u, const void *a, const void *g,
            int threads, void *work) noexcept nogil
        void (*residual_gradient)(
            void *grad, const dnn_chains *chains, const void *u, const void *pushed, const dnn_blas *blas,
            int threads) noexcept nogil
        void (*residual_outputs)(void *out, const dnn_residual *net, int threads, void *work) noexcept nogil
        void (*residual_loss_grad)(
            double *value, void *grad, const dnn_residual *net, const void *target, const void *weight, int loss,
            double param, double scale, int threads, void *work) noexcept nogil
        void (*cg_curve)(
            double *curve, void *image, const void *diag, const void *direction, int64_t rows, int64_t params,
            int threads) noexcept nogil
        void (*cg_step)(
            double *energy, void *step, void *residual, const void *direction, const void *image, const double *length,
            int64_t rows, int64_t params, int threads) noexcept nogil
        void (*cg_turn)(
            void *direction, const void *residual, const double *ratio, int64_t rows, int64_t params,
            int threads) noexcept nogil
        void (*descent_solve)(
            void *v, int64_t *n_done, const void *b, const void *tau, const void *w, const void *g,
            const dnn_penalty *penalty, int64_t agents, const int64_t *blocks, int64_t n_blocks, int64_t n_iter,
            double tol, int threads, void *work) noexcept nogil
        void (*penalty_prox)(
            void *out, const void *v, const void *s, const dnn_penalty *penalty, int64_t agents, int64_t params,
            int threads) noexcept nogil
        void (*csr_mix)(
            void *out, const void *rows, const dnn_csr *csr, const void *previous, double scale, double shift,
            double memory, int64_t columns, int threads) noexcept nogil
        void (*network_mix)(
            void *out, double *disagreement, double *size, const void *rows, const dnn_csr *csr, const double *rounds,
            int64_t n_rounds, int64_t columns, int threads, void *work) noexcept nogil
        void (*row_change)(
            double *disagreement, double *size, const void *before, const void *after, double factor, int64_t n_rows,
            int64_t columns, int threads) noexcept nogil
        void (*neighbour_max)(void *received, const void *scalars, const dnn_csr *csr, int64_t columns) noexcept nogil
        void (*proximal_step)(
            void *z, void *w_hat, const void *w, const void *y, const double *tau, double step, double agents,
            const dnn_penalty *penalty, int64_t rows, int64_t params, int threads) noexcept nogil
        void (*tracker_update)(
            void *y, double *squares, const void *grad, const void *grad_old, const void *w, int64_t rows,
            int64_t params, int threads) noexcept nogil
        void (*secant_rule)(
            double *tau, double *beta, const double *received, const void *w, const void *w_old, const void *y,
            const void *y_old, const void *model, const dnn_rule *rule, int64_t rows, int64_t params,
            int threads) noexcept nogil
        void (*next_step)(const dnn_iteration *iteration, int threads, void *work) noexcept nogil
        void (*chain_forward)(void *out, void *tangent, const dnn_chain *chain, int threads, void *work) noexcept nogil
        void (*chain_jv)(void *out, const dnn_chain *chain, const void *v, int threads, void *work) noexcept nogil
        void (*chain_jtu)(
            void *out, const dnn_chain *chain, const void *u, const void *t, int threads, void *work) noexcept nogil
        void (*chain_loss_grad)(
            double *value, double *term, void *grad, const dnn_chain *chain, const void *target, const void *weight,
            const void *beta, int loss, double param, double scale, double mu, int threads, void *work) noexcept nogil
        size_t (*chain_work)(const dnn_chain *chain, int threads) noexcept nogil
        size_t (*mlp_work)(const dnn_mlp *mlp, const dnn_root *root, int threads) noexcept nogil
        size_t (*mlp_curvature_work)(
            const dnn_mlp *mlp, const dnn_root *root, const int64_t *blocks, int64_t n_blocks,
            int threads) noexcept nogil
        size_t (*mlp_cg_work)(const dnn_mlp *mlp, const dnn_root *root, int threads) noexcept nogil
        size_t (*mlp_dual_work)(const dnn_mlp *mlp, const dnn_root *root, int threads) noexcept nogil
        size_t (*mlp_tangent_work)(const dnn_mlp *mlp, int64_t n_y, int threads) noexcept nogil
        size_t (*residual_work)(const dnn_chains *chains, int threads) noexcept nogil
        size_t (*residual_pass_work)(const dnn_residual *net, int has_grad, int threads) noexcept nogil
        size_t (*descent_work)(const int64_t *blocks, int64_t n_blocks, int threads) noexcept nogil
        size_t (*mix_work)(int64_t agents, int64_t columns, int threads) noexcept nogil
        size_t (*step_work)(const dnn_iteration *iteration, int threads) noexcept nogil
    const dnn_table *dnn_kernels(int precision, int level) noexcept
    int dnn_has_openmp() noexcept
    int dnn_max_threads() noexcept
    const char *dnn_compiler() noexcept
    int64_t dnn_check_cuts(const int64_t *cuts, int64_t n, int64_t end) noexcept
    int64_t dnn_check_groups(const int64_t *groups, int64_t n, int64_t params) noexcept
    int64_t dnn_check_nested(const int64_t *groups, int64_t n, const int64_t *blocks, int64_t n_blocks) noexcept
    int64_t dnn_check_csr(const dnn_csr *csr, int64_t n_columns, int64_t n_stored) noexcept
    int64_t dnn_check_layers(const dnn_layer *layers, int64_t n, int64_t *params) noexcept
    int64_t dnn_packed_size(const int64_t *blocks, int64_t n_blocks) noexcept
