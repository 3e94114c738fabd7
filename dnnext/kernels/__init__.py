"""The compiled kernels: every loop over samples, parameters and edges; reference.py says what each kernel computes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dnnext.kernels.activations import ACTIVATIONS
from dnnext.kernels.reference import LOSSES
from dnnext.kernels.reference_steps import StepMixing, StepProblem, StepRecipe, StepState


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Let OpenMP's idle threads sleep instead of spin, unless the user has chosen; read once, as its library is loaded.

    Spinning threads keep the ones they wait for from running when other programs hold the cores: calls of 0.3 ms on two
    threads took 20 ms on two cores at a load of 10, and 0.35 ms with threads that sleep after 1000 turns (some 30 us).
    """
    wish = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
    mine = {} if any(name in os.environ for name in wish) else wish
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


try:
    with _patient_threads():
        from dnnext.kernels._call import StepWorkspace, info
        from dnnext.kernels._curvature import (
            mlp_cg_solve,
            mlp_dual_solve,
            mlp_gauss_newton,
            mlp_gauss_newton_product,
            mlp_jacobian,
            mlp_tangent_kernel,
            rows_gram,
        )
        from dnnext.kernels._layers import chain_forward, chain_jtu, chain_jv, chain_loss_grad
        from dnnext.kernels._mlp import (
            curvature_root,
            loss_value_grad,
            mlp_feedback,
            mlp_forward,
            mlp_jtu,
            mlp_jv,
            mlp_loss_grad,
        )
        from dnnext.kernels._residual import (
            residual_backward,
            residual_forward,
            residual_gradient,
            residual_loss_grad,
            residual_outputs,
            residual_tangent,
        )
        from dnnext.kernels._rows import (
            block_product,
            cg_curve,
            cg_step,
            cg_turn,
            csr_mix,
            descent_solve,
            penalty_prox,
            spd_solve,
        )
        from dnnext.kernels._steps import (
            neighbour_max,
            network_mix,
            next_step,
            proximal_step,
            row_change,
            secant_rule,
            tracker_update,
        )
except ModuleNotFoundError as error:
    raise ImportError(
        "The compiled kernels of dnnext are missing: install the package (`pip install .`, or `pip install -e .` in a "
        "checkout, again after every change of Python) and import it from outside its source folder."
    ) from error

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "StepMixing",
    "StepProblem",
    "StepRecipe",
    "StepState",
    "StepWorkspace",
    "block_product",
    "cg_curve",
    "cg_step",
    "cg_turn",
    "chain_forward",
    "chain_jtu",
    "chain_jv",
    "chain_loss_grad",
    "csr_mix",
    "curvature_root",
    "descent_solve",
    "info",
    "loss_value_grad",
    "mlp_cg_solve",
    "mlp_dual_solve",
    "mlp_feedback",
    "mlp_forward",
    "mlp_gauss_newton",
    "mlp_gauss_newton_product",
    "mlp_jacobian",
    "mlp_jtu",
    "mlp_jv",
    "mlp_loss_grad",
    "mlp_tangent_kernel",
    "neighbour_max",
    "network_mix",
    "next_step",
    "penalty_prox",
    "proximal_step",
    "residual_backward",
    "residual_forward",
    "residual_gradient",
    "residual_loss_grad",
    "residual_outputs",
    "residual_tangent",
    "row_change",
    "rows_gram",
    "secant_rule",
    "spd_solve",
    "tracker_update",
]
