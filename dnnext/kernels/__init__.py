"""The compiled room: every loop over samples, parameters and edges; dnnext/kernels/reference.py says what each does."""

from dnnext.kernels.reference import (
    ACTIVATIONS,
    LOSSES,
    block_product,
    csr_mix,
    descent_solve,
    loss_value_grad,
    mlp_forward,
    mlp_gauss_newton,
    mlp_gauss_newton_product,
    mlp_jacobian,
    mlp_jtu,
    mlp_jv,
    mlp_loss_grad,
    penalty_prox,
    spd_solve,
)

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "block_product",
    "csr_mix",
    "descent_solve",
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
