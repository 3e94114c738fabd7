/* dnnext.h: the whole C interface of dnnext, on one page. A kernel is declared here and nowhere else: after a change run
 * `python csrc/declare.py`, which makes table.h, dnnext/kernels/_dnnext.pxd and the .pyi files.
 *
 * One text, many instances. Every kernel is compiled for double and for float and, on x86-64, for three levels of the
 * instruction set; dnn_kernels() returns the table of one instance. Arrays of reals are `void *`: double in the tables
 * of dnn_f64, float in those of dnn_f32, both called `real` below. All arrays are dense, in C order.
 *
 * Letters: A agents, P parameters, M rows of all agents together, d inputs, Q raw outputs.
 * The rows of agent i are offsets[i] .. offsets[i + 1] - 1. Flat layout of w: for each layer the weights
 * (inputs x outputs), then the biases. `blocks` (n_blocks + 1) cuts 0 .. P - 1; block matrices are packed one after
 * another, S = sum_b P_b^2 numbers per agent.
 *
 * Laws. Nothing here allocates, prints or keeps state. `threads` never changes a bit of the result.
 * BLAS and LAPACK come as function pointers and must run on the calling thread. `work` is dnn_*_work() bytes, aligned
 * to 64. Outputs come first and, unless stated otherwise, overlap nothing.
 */
#ifndef DNNEXT_H
#define DNNEXT_H

#include <stddef.h>
#include <stdint.h>

enum { DNN_IDENTITY, DNN_TANH, DNN_LOGISTIC, DNN_RELU, DNN_SOFTPLUS, DNN_SQUARE, DNN_ACTIVATIONS };
enum { DNN_SQUARED_ERROR, DNN_HUBER, DNN_LOG_LOSS, DNN_SOFTMAX, DNN_SQUARED_HINGE, DNN_LOSSES };
enum { DNN_SMOOTH_RELU = 100 }; /* of residual layers alone: relu, a parabola on [-0.1, 0.1] */
enum { DNN_MAX_LAYERS = 64 };
enum { DNN_TRAINED, DNN_FIXED, DNN_PADDING, DNN_OPENINGS };
enum { DNN_DENSE, DNN_CONV, DNN_AVERAGE, DNN_MAX, DNN_ADD, DNN_LAYER_KINDS };

typedef void (*dnn_function)(void);

typedef struct { /* Fortran BLAS and LAPACK of the table's precision, 32-bit integers */
    dnn_function gemm, syrk, trsm, potrf, potrs;
} dnn_blas;

typedef struct { /* the agents' networks and rows */
    int64_t agents, params;
    const int64_t *offsets; /* (A + 1) */
    const int64_t *layers; /* (n_layers + 1): d, h_1, ..., Q */
    int64_t n_layers; /* weight matrices */
    int activation;
    int64_t w_step; /* P, or 0: all agents share one row of w */
    const void *w; /* (A, P), or (1, P) */
    const void *x; /* (M, d) */
    const dnn_blas *blas;
} dnn_mlp;

typedef struct { /* a layer: images (channels, height, width) to (filters, height, width); vectors are (d, 1, 1) */
    int64_t kind, activation;
    int64_t channels, height, width;
    int64_t filters; /* units; channels where the layer keeps them */
    int64_t size[2], stride[2], padding[2], dilation[2]; /* of a window; 1, 1, 0, 1 elsewhere */
    int64_t from; /* DNN_ADD: the state that is added, 0 the input, k what layer k - 1 gives */
} dnn_layer;

typedef struct { /* layers one after another, the agents' rows, and K directions of every row */
    int64_t agents, params, inputs;
    const int64_t *offsets; /* (A + 1) */
    const dnn_layer *layers;
    int64_t n_layers;
    int64_t w_step; /* P, or 0: all agents share one row of w */
    const void *w; /* (A, P), or (1, P): for each layer filters or weights (inputs x units), then biases */
    const void *x; /* (M, d) */
    const void *direction; /* (K, M, d) */
    int64_t n_directions;
} dnn_chain;

typedef struct { /* S_m of the generalised Gauss-Newton matrix sum_m J_m' S_m S_m' J_m */
    const void *root; /* (M, Q): diagonals; (M, Q, columns): full; (M, Q): q_m where centred */
    int64_t columns; /* R: Q for diagonals, 1 where centred */
    int diagonal;
    int centred; /* S_m S_m' = diag(q_m) - q_m q_m' / sum(q_m): products with one block, and mlp_cg_solve alone */
} dnn_root;

typedef struct { /* r(u) = sum_p l1_p |u_p| + l2_p u_p^2 / 2 + sum_g strength_g |u_g| */
    const void *l1, *l2; /* (P) */
    const int64_t *groups; /* (n_groups, 2): start, stop, disjoint, increasing */
    const void *strength; /* (n_groups) */
    int64_t n_groups;
} dnn_penalty;

typedef struct { /* a sparse matrix of n_rows rows; exactly one of the index widths is set, the other is NULL */
    int64_t n_rows;
    const int64_t *indptr64, *indices64;
    const int32_t *indptr32, *indices32;
    const void *data;
} dnn_csr;

typedef struct { /* how tau follows the curvature that a model missed */
    double agents, growth, decay, low, high;
} dnn_rule;

typedef struct { /* the curvature B of a partially linearised model, taken at w_old */
    dnn_root root; /* without numbers, NULL: that of the loss at w_old, times share */
    const void *share; /* (M), or NULL with a root */
    const int64_t *blocks; /* (n_blocks + 1); one block for conjugate gradients */
    int64_t n_blocks;
    int64_t group; /* agents whose B are held at a time */
    int64_t *status; /* out: (A), as in spd_solve */
    int64_t steps; /* of conjugate gradients at most; 0: Cholesky */
    double tol; /* of conjugate gradients */
} dnn_model;

typedef struct { /* what all agents minimise together */
    dnn_mlp mlp; /* its w is the new one */
    const void *target, *weight; /* (M, Q); (M) or NULL for ones */
    int loss;
    double param, scale;
    dnn_penalty penalty;
} dnn_problem;

typedef struct { /* one call of network_mix */
    dnn_csr csr;
    const double *rounds; /* (n_rounds, 3) */
    int64_t n_rounds;
} dnn_mixing;

typedef struct { /* what the agents hold; the new w is mlp.w */
    void *w_hat, *z, *y, *grad; /* out: (A, P) */
    double *value, *squares, *disagreement, *size, *received; /* out: (A) */
    double *tau, *beta; /* in and out: (A) */
    const void *w_old, *y_old, *grad_old; /* (A, P) */
} dnn_state;

typedef struct { /* how an agent steps */
    double step, agents;
    const dnn_rule *rule; /* NULL: tau stays */
    const dnn_model *model; /* NULL: fully linearised */
} dnn_recipe;

typedef struct { /* one iteration of NEXT */
    dnn_problem problem;
    dnn_mixing mixing;
    dnn_state state;
    dnn_recipe recipe;
} dnn_iteration;

typedef struct { /* chains of residual layers, u_k+1 = u_k + size phi(W' u_k + b); states are (width, columns) */
    int64_t chains, steps, width, columns; /* steps of each chain; columns in whole vectors */
    int64_t apart; /* states from the start of a chain to that of the next */
    const void *layers; /* (n, width^2 + width): W (width x width), then b */
    const int64_t *layer; /* (chains, steps): rows of layers */
    const double *size; /* (chains, steps) */
    const int64_t *state; /* (chains, steps): rows of the states that z is taken at, going back */
    int activation;
} dnn_chains;

typedef struct { /* a network of residual layers with its opening and output layer, and rows */
    int64_t rows, inputs, width, n_layers, outputs;
    int opening; /* DNN_TRAINED: phi(x K + k); DNN_FIXED: phi(x K), K not in w; DNN_PADDING: x, then zeros */
    int activation;
    double h;
    const void *w; /* (P): K and k if trained; W and b of every layer; C and c */
    const void *fixed; /* (inputs, width) or NULL */
    const void *x; /* (rows, inputs) */
} dnn_residual;

/* clang-format off */
typedef struct {
    const char *level; /* "baseline", "x86-64-v3", "x86-64-v4" */

    /* name                    what it computes                                     file */
    void (*loss_value_grad)(/* loss(target_m, f_m) and its derivative in f           losses.c */
        double *value, void *delta, const void *f, const void *target, int64_t rows, int64_t outputs, int loss,
        double param);
    void (*curvature_root)(/*  share_m S_m, S_m S_m' = the second derivative of loss losses.c */
        void *out, const void *f, const void *target, const void *share, int64_t rows, int64_t outputs, int loss,
        double param, int threads);
    void (*mlp_forward)(/*     f(w_i; x_m)                                           mlp.c */
        void *out, const dnn_mlp *mlp, int threads, void *work);
    void (*mlp_loss_grad)(/*   scale sum_m c_m loss(d_m, f(w_i; x_m)), its gradient  mlp.c */
        double *value, void *grad, const dnn_mlp *mlp, const void *target, const void *weight, int loss, double param,
        double scale, int threads, void *work);
    void (*mlp_feedback)(/*    the same value, and direct feedback for the gradient  feedback.c */
        double *value, void *grad, const dnn_mlp *mlp, const void *feedback, const void *target, const void *weight,
        int loss, double param, double scale, int threads, void *work);
    void (*mlp_jv)(/*          J_m(w_i) v_i                                          mlp.c */
        void *out, const dnn_mlp *mlp, const void *v, int threads, void *work);
    void (*mlp_jtu)(/*         sum_m J_m(w_i)' u_m                                   mlp.c */
        void *out, const dnn_mlp *mlp, const void *u, int threads, void *work);
    void (*mlp_jacobian)(/*    S_m' J_m of one agent                                 jacobian.c */
        void *out, const dnn_mlp *mlp, const dnn_root *root, int threads, void *work);
    void (*mlp_gauss_newton)(/* diagonal blocks of sum_m J_m' S_m S_m' J_m           gauss_newton.c */
        void *out, const dnn_mlp *mlp, const dnn_root *root, const int64_t *blocks, int64_t n_blocks, int threads,
        void *work);
    void (*mlp_gauss_newton_product)(/* those blocks times v_i                       product.c */
        void *out, const dnn_mlp *mlp, const dnn_root *root, const void *v, const int64_t *blocks, int64_t n_blocks,
        int threads, void *work);
    void (*mlp_cg_solve)(/*    (A_i + diag_i) out_i = rhs_i by conjugate gradients   cg_solve.c */
        void *out, int64_t *n_done, const dnn_mlp *mlp, const dnn_root *root, const void *diag, const void *rhs,
        int64_t n_iter, double tol, int threads, void *work);
    void (*block_product)(/*   B_i v_i, B_i block-diagonal                           solve.c */
        void *out, const void *b, const void *v, int64_t agents, const int64_t *blocks, int64_t n_blocks, int threads);
    void (*spd_solve)(/*       (B_i + diag) out_i = rhs_i by Cholesky                solve.c */
        void *out, int64_t *status, void *b, const void *diag, const void *rhs, int64_t agents, const int64_t *blocks,
        int64_t n_blocks, const dnn_blas *blas, int threads);
    void (*mlp_dual_solve)(/*  the same with B_i from few rows, never formed         dual.c */
        void *out, int64_t *status, const dnn_mlp *mlp, const dnn_root *root, const void *gram, const void *tau,
        const void *l2, const void *rhs, const int64_t *blocks, int64_t n_blocks, int threads, void *work);
    void (*rows_gram)(/*       X_i X_i', which mlp_dual_solve may be given           dual.c */
        void *out, const void *x, const int64_t *offsets, int64_t agents, int64_t inputs, const dnn_blas *blas);
    void (*mlp_tangent_kernel)(/* J(X) J(Y)' of one agent                            tangent.c */
        void *out, const dnn_mlp *mlp, const void *y, int64_t n_y, int threads, void *work);
    void (*residual_forward)(/* u_k+1 of chains of residual layers                   residual.c */
        void *u, void *a, const dnn_chains *chains, const void *g, int threads, void *work);
    void (*residual_tangent)(/* the same with derivatives along a direction          residual.c */
        void *u, void *du, const dnn_chains *chains, const void *direction, int threads, void *work);
    void (*residual_backward)(/* their adjoints, from the last layer to the first    residual.c */
        void *adjoint, void *pushed, const dnn_chains *chains, const void *u, const void *a, const void *g,
        int threads, void *work);
    void (*residual_gradient)(/* gradients of their layers                           residual.c */
        void *grad, const dnn_chains *chains, const void *u, const void *pushed, const dnn_blas *blas, int threads);
    void (*residual_outputs)(/* f(w; x_m) of a residual network                      residual_pass.c */
        void *out, const dnn_residual *net, int threads, void *work);
    void (*residual_loss_grad)(/* scale sum_m c_m loss(d_m, f(w; x_m)), its gradient residual_pass.c */
        double *value, void *grad, const dnn_residual *net, const void *target, const void *weight, int loss,
        double param, double scale, int threads, void *work);
    void (*cg_curve)(/*        image_i + diag_i direction_i, its product with it     conjugate.c */
        double *curve, void *image, const void *diag, const void *direction, int64_t rows, int64_t params, int threads);
    void (*cg_step)(/*         a step along direction_i, and what is left            conjugate.c */
        double *energy, void *step, void *residual, const void *direction, const void *image, const double *length,
        int64_t rows, int64_t params, int threads);
    void (*cg_turn)(/*         residual_i + ratio_i direction_i                      conjugate.c */
        void *direction, const void *residual, const double *ratio, int64_t rows, int64_t params, int threads);
    void (*descent_solve)(/*   quadratic + r(u) by coordinate and group descent      descent.c */
        void *v, int64_t *n_done, const void *b, const void *tau, const void *w, const void *g,
        const dnn_penalty *penalty, int64_t agents, const int64_t *blocks, int64_t n_blocks, int64_t n_iter, double tol,
        int threads, void *work);
    void (*penalty_prox)(/*    argmin_u |u - v_i|^2 / 2 + s_i r(u)                   prox.c */
        void *out, const void *v, const void *s, const dnn_penalty *penalty, int64_t agents, int64_t params,
        int threads);
    void (*csr_mix)(/*         scale C rows + shift rows + memory previous           mix.c */
        void *out, const void *rows, const dnn_csr *csr, const void *previous, double scale, double shift,
        double memory, int64_t columns, int threads);
    void (*network_mix)(/*     all mixing rounds of one call                         rounds.c */
        void *out, double *disagreement, double *size, const void *rows, const dnn_csr *csr, const double *rounds,
        int64_t n_rounds, int64_t columns, int threads, void *work);
    void (*row_change)(/*      factor |before_i - after_i| / |before_i|              rounds.c */
        double *disagreement, double *size, const void *before, const void *after, double factor, int64_t n_rows,
        int64_t columns, int threads);
    void (*neighbour_max)(/*   largest scalar of the direct neighbours               rounds.c */
        void *received, const void *scalars, const dnn_csr *csr, int64_t columns);
    void (*proximal_step)(/*   prox_{r / tau_i}(w_i - agents y_i / tau_i), moved to  step.c */
        void *z, void *w_hat, const void *w, const void *y, const double *tau, double step, double agents,
        const dnn_penalty *penalty, int64_t rows, int64_t params, int threads);
    void (*tracker_update)(/*  y_i + grad_i - grad_old_i                             step.c */
        void *y, double *squares, const void *grad, const void *grad_old, const void *w, int64_t rows, int64_t params,
        int threads);
    void (*secant_rule)(/*     tau_i from the curvature that the model missed        step.c */
        double *tau, double *beta, const double *received, const void *w, const void *w_old, const void *y,
        const void *y_old, const void *model, const dnn_rule *rule, int64_t rows, int64_t params, int threads);
    void (*next_step)(/*       all of these and the gradient: one iteration of NEXT  iteration.c */
        const dnn_iteration *iteration, int threads, void *work);

    void (*chain_forward)(/*   F(w_i; x_m), and DF(x_m) v_km                         chain.c */
        void *out, void *tangent, const dnn_chain *chain, int threads, void *work);
    void (*chain_jv)(/*        nabla F(w_i; x_m) v_i                                 chain.c */
        void *out, const dnn_chain *chain, const void *v, int threads, void *work);
    void (*chain_jtu)(/*       gradient of <u, F> + <t, DF v>, two adjoints          chain.c */
        void *out, const dnn_chain *chain, const void *u, const void *t, int threads, void *work);
    void (*chain_loss_grad)(/* loss and mu / 2 |DF v - beta|^2, and their gradient   chain.c */
        double *value, double *term, void *grad, const dnn_chain *chain, const void *target, const void *weight,
        const void *beta, int loss, double param, double scale, double mu, int threads, void *work);

    size_t (*chain_work)(const dnn_chain *chain, int threads); /* bytes */
    size_t (*mlp_work)(const dnn_mlp *mlp, const dnn_root *root, int threads); /* bytes; root NULL without S */
    size_t (*mlp_curvature_work)(/* of mlp_gauss_newton */
        const dnn_mlp *mlp, const dnn_root *root, const int64_t *blocks, int64_t n_blocks, int threads);
    size_t (*mlp_cg_work)(const dnn_mlp *mlp, const dnn_root *root, int threads);
    size_t (*mlp_dual_work)(const dnn_mlp *mlp, const dnn_root *root, int threads);
    size_t (*mlp_tangent_work)(const dnn_mlp *mlp, int64_t n_y, int threads);
    size_t (*residual_work)(const dnn_chains *chains, int threads);
    size_t (*residual_pass_work)(const dnn_residual *net, int has_grad, int threads);
    size_t (*descent_work)(const int64_t *blocks, int64_t n_blocks, int threads);
    size_t (*mix_work)(int64_t agents, int64_t columns, int threads);
    size_t (*step_work)(const dnn_iteration *iteration, int threads);
} dnn_table;
/* clang-format on */

enum { DNN_F64, DNN_F32 };
enum { DNN_BASELINE, DNN_V3, DNN_V4, DNN_LEVELS };

/* The table of one precision and level, or NULL if it was not compiled or this processor lacks the instructions. */
const dnn_table *dnn_kernels(int precision, int level);
int dnn_has_openmp(void);
int dnn_max_threads(void);
const char *dnn_compiler(void);

/* Integer arguments, checked before a kernel trusts them: -1 if sound, else the first place that is not. */
int64_t dnn_check_cuts(const int64_t *cuts, int64_t n, int64_t end); /* 0 = cuts[0] <= ... <= cuts[n - 1] = end */
int64_t dnn_check_groups(const int64_t *groups, int64_t n, int64_t params); /* disjoint, increasing, within 0 .. P */
int64_t dnn_check_nested(const int64_t *groups, int64_t n, const int64_t *blocks, int64_t n_blocks);
int64_t dnn_check_csr(const dnn_csr *csr, int64_t n_columns, int64_t n_stored); /* row pointers, then columns */
int64_t dnn_check_layers(const dnn_layer *layers, int64_t n, int64_t *params); /* one fits the next; counts P */
int64_t dnn_packed_size(const int64_t *blocks, int64_t n_blocks); /* S */

#endif
