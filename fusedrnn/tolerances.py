"""How exact results are: one table, for tests here and for whoever wants to hold us to it.

An error is judged against a float64 reference that starts from the same, already rounded, inputs and
weights, and relative to the largest magnitude in the reference tensor: one element in ``[T, B, H]``
that happens to be near zero is not held to its own size, because a sum of rounded terms cannot be.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    """Bounds on :func:`error`: of outputs and states, and of gradients."""

    output: float
    gradient: float


#: float64 is the promise to 1e-10. float32 sums a few hundred products of unit roundoff 6e-8. The half
#: types accumulate in float32 but pass h through storage at each step, with unit roundoff 4e-3
#: (bfloat16) and 5e-4 (float16). Their gradients are worse by the derivative 1 - h^2, which is taken
#: of the rounded h and small where h is not.
TOLERANCES: dict[torch.dtype, Tolerance] = {
    torch.float64: Tolerance(1e-10, 1e-10),
    torch.float32: Tolerance(1e-5, 5e-5),
    torch.bfloat16: Tolerance(2e-2, 8e-2),
    torch.float16: Tolerance(2.5e-3, 1e-2),
}


def error(actual: Tensor, reference: Tensor) -> float:
    """Largest difference, relative to the largest magnitude of ``reference`` (absolute below 1e-3).

    Args:
        actual: of any floating dtype.
        reference: float64, of the same shape.

    Returns:
        The error; 0 for empty tensors, NaN if either holds one.
    """
    if actual.shape != reference.shape:
        raise ValueError(f"expected shape {list(reference.shape)}, got {list(actual.shape)}")
    if actual.numel() == 0:
        return 0.0
    reference = reference.detach().double()
    difference = (actual.detach().double() - reference).abs().max()
    return float(difference / reference.abs().max().clamp(min=1e-3))


def check(
    actual: Tensor, reference: Tensor, dtype: torch.dtype, what: str, gradient: bool = False
) -> None:
    """AssertionError, naming ``what``, if :func:`error` is above the bound for ``dtype``."""
    bound = TOLERANCES[dtype].gradient if gradient else TOLERANCES[dtype].output
    measured = error(actual, reference)
    if not measured <= bound:
        raise AssertionError(
            f"{what}: expected an error of at most {bound:g} for {dtype}, got {measured:g}"
        )
