"""Sums to be learned as a translation: ``123+456`` to ``579``, character by character.

A classic test of sequence-to-sequence models (Zaremba and Sutskever, arXiv:1410.4615, learn to run
programs that add). No knowledge helps but the carrying itself, so a figure is easy to judge.
"""

from __future__ import annotations

import random
from collections.abc import Iterator


def addition_pairs(count: int, digits: int = 3, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Different sums of two numbers below ``10 ** digits``, in random order.

    Args:
        count: at most ``10 ** (2 * digits)``.
        digits: at least 1.

    Raises:
        ValueError: more sums than there are, or fewer than 1.
    """
    limit: int = 10**digits
    if digits < 1 or not 1 <= count <= limit * limit:
        raise ValueError(f"expected from 1 to {limit * limit} sums, got {count}")
    for number in random.Random(seed).sample(range(limit * limit), count):
        first, second = divmod(number, limit)
        yield f"{first}+{second}", str(first + second)
