"""The compiled room: every loop over samples, parameters and edges; reference.py says what each kernel computes."""

try:
    from dnnext.kernels._call import info
    from dnnext.kernels._mlp import (
        loss_value_grad,
        mlp_forward,
        mlp_gauss_newton,
        mlp_gauss_newton_product,
        mlp_jacobian,
        mlp_jtu,
        mlp_jv,
        mlp_loss_grad,
    )
    from dnnext.kernels._rows import block_product, csr_mix, descent_solve, penalty_prox, spd_solve
except ModuleNotFoundError as error:
    raise ImportError(
        "The compiled kernels of dnnext are missing: install the package (`pip install .`, or `pip install -e .` in a "
        "checkout, again after every change of Python) and import it from outside its source folder."
    ) from error

from dnnext.kernels.reference import ACTIVATIONS, LOSSES

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "block_product",
    "csr_mix",
    "descent_solve",
    "info",
    "loss_value_grad",
    "mlp_forward",
    "mlp_gauss_newton",
    "mlp_gauss_newton_product",
    "mlp_jacobian",
    "mlp_jtu",
    "mlp_jv",
    "mlp_loss_grad",
    "penalty_prox",
    "spd_solve",
]
