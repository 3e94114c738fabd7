/* kernels.c: all kernels of one instance. A file of units/ says which: DNN_DOUBLE (1 or 0), DNN_LEVEL, DNN_NAME. */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "dnnext.h"

/* After the system's headers, so that only code of this library is compiled for the level. */
#if DNN_LEVEL == 1 && defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)
#elif DNN_LEVEL == 2 && defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#elif DNN_LEVEL == 1
#pragma GCC target("arch=x86-64-v3")
#elif DNN_LEVEL == 2
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#endif

#include "base.h"

#include "elementary.h"
#include "losses.c"
#include "tile.c"

#include "mlp.c"

#include "gradient.c"

#include "feedback.c"

#include "layers.c"

#include "chain.c"

#include "jacobian.c"

#include "pairs.c"

#include "gauss_newton.c"

#include "solve.c"

#include "dual.c"

#include "tangent.c"

#include "residual.c"

#include "prox.c"
#include "descent.c"
#include "mix.c"
#include "rounds.c"
#include "step.c"

#if DNN_LEVEL == 0
#define DNN_LEVEL_NAME "baseline"
#elif DNN_LEVEL == 1
#define DNN_LEVEL_NAME "x86-64-v3"
#else
#define DNN_LEVEL_NAME "x86-64-v4"
#endif

extern const dnn_table DNN_NAME;
const dnn_table DNN_NAME = {
    .level = DNN_LEVEL_NAME,
    .loss_value_grad = loss_value_grad,
    .mlp_forward = mlp_forward,
    .mlp_loss_grad = mlp_loss_grad,
    .mlp_feedback = mlp_feedback,
    .mlp_jv = mlp_jv,
    .mlp_jtu = mlp_jtu,
    .mlp_jacobian = mlp_jacobian,
    .mlp_gauss_newton = mlp_gauss_newton,
    .mlp_gauss_newton_product = mlp_gauss_newton_product,
    .block_product = block_product,
    .spd_solve = spd_solve,
    .mlp_dual_solve = mlp_dual_solve,
    .rows_gram = rows_gram,
    .mlp_tangent_kernel = mlp_tangent_kernel,
    .residual_forward = residual_forward,
    .residual_tangent = residual_tangent,
    .residual_backward = residual_backward,
    .residual_gradient = residual_gradient,
    .descent_solve = descent_solve,
    .penalty_prox = penalty_prox,
    .csr_mix = csr_mix,
    .network_mix = network_mix,
    .row_change = row_change,
    .neighbour_max = neighbour_max,
    .proximal_step = proximal_step,
    .tracker_update = tracker_update,
    .secant_rule = secant_rule,
    .next_step = next_step,
    .chain_forward = chain_forward,
    .chain_jv = chain_jv,
    .chain_jtu = chain_jtu,
    .chain_loss_grad = chain_loss_grad,
    .chain_work = chain_work,
    .mlp_work = mlp_work,
    .mlp_dual_work = mlp_dual_work,
    .mlp_tangent_work = mlp_tangent_work,
    .residual_work = residual_work,
    .descent_work = descent_work,
    .mix_work = mix_work,
    .step_work = step_work,
};

#if defined(__clang__) && DNN_LEVEL > 0
#pragma clang attribute pop
#endif
