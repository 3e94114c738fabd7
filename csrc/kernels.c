/* kernels.c: all kernels of one instance. A file of units/ says which: DNN_DOUBLE (1 or 0), DNN_LEVEL, DNN_NAME. */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if DNN_LEVEL > 0
#include <immintrin.h>
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

#include "parts.c"

#include "gradient.c"

#include "passes.c"

#include "feedback.c"

#include "layers.c"

#include "chain_plan.c"
#include "chain_sweeps.c"
#include "chain.c"

#include "strips.c"

#include "jacobian.c"

#include "pairs.c"

#include "gauss_newton.c"

#include "pieces.c"

#include "product.c"

#include "solve.c"

#include "dual.c"

#include "tangent.c"

#include "residual.c"
#include "residual_plan.c"
#include "residual_pass.c"

#include "prox.c"
#include "descent.c"
#include "mix.c"
#include "rounds.c"
#include "conjugate.c"
#include "cg_solve.c"
#include "step.c"
#include "iteration.c"

#include "table.h"

#if DNN_LEVEL == 0
#define DNN_LEVEL_NAME "baseline"
#elif DNN_LEVEL == 1
#define DNN_LEVEL_NAME "x86-64-v3"
#else
#define DNN_LEVEL_NAME "x86-64-v4"
#endif

extern const dnn_table DNN_NAME;
/* clang-format off */
const dnn_table DNN_NAME = {.level = DNN_LEVEL_NAME, DNN_KERNELS};
/* clang-format on */

#if defined(__clang__) && DNN_LEVEL > 0
#pragma clang attribute pop
#endif
