"""Teacher forcing: how often the decoder reads the given token in training, and not its own.

Always, at a fixed rate, or less and less (scheduled sampling: Bengio, Vinyals, Jaitly and Shazeer,
arXiv:1506.03099, section 2.4). ``p`` is the progress of the training from 0 to 1, and every schedule
goes from 1 to ``floor``:

    constant     always ``floor``
    linear       1 - (1 - floor) p
    exponential  floor + (1 - floor) 0.01 ** p
    sigmoid      floor + (1 - floor) (s(p) - s(1)) / (s(0) - s(1)),  s(p) = 1 / (1 + exp(10 p - 5))
"""

from __future__ import annotations

import math

SCHEDULES = ("constant", "linear", "exponential", "sigmoid")


def truth_at(progress: float, floor: float = 1.0, schedule: str = "constant") -> float:
    """The probability of reading the given token.

    Args:
        progress: the share of the training that is done, in ``[0, 1]``.
        floor: the probability at the end, in ``[0, 1]``; 1 is teacher forcing throughout.
        schedule: one of `SCHEDULES`.

    Raises:
        ValueError: another schedule, or a number out of range.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if not (0.0 <= progress <= 1.0 and 0.0 <= floor <= 1.0):
        raise ValueError(f"expected progress and floor from 0 to 1, got {progress} and {floor}")
    if schedule == "constant":
        return floor
    if schedule == "linear":
        share = 1.0 - progress
    elif schedule == "exponential":
        share = 0.01**progress
    else:
        share = (_sigmoid(progress) - _sigmoid(1.0)) / (_sigmoid(0.0) - _sigmoid(1.0))
    return floor + (1.0 - floor) * share


def _sigmoid(progress: float) -> float:
    return 1.0 / (1.0 + math.exp(10.0 * progress - 5.0))
