"""Perplexity, and the floors to read it against.

Perplexity is the exponential of the mean negative log-likelihood per token: the number of equally
likely tokens among which the model would be as unsure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from fusedrnn.text.errors import TextError
from fusedrnn.train.metrics import MetricsFile, perplexity, read_metrics

__all__ = ["MetricsFile", "ngram_floor", "perplexity", "perplexity_of", "read_metrics"]


def perplexity_of(probabilities: Iterable[float]) -> float:
    """Perplexity of a text to whose tokens a model gave these probabilities, each in ``[0, 1]``.

    ``perplexity_of([0.5, 0.25, 0.125])`` is 4. Raises ValueError for no or other numbers.
    """
    values = list(probabilities)
    if not values or not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f"expected at least one probability, each from 0 to 1, got {values}")
    if min(values) == 0.0:
        return math.inf
    return perplexity(-math.fsum(map(math.log, values)) / len(values))


def ngram_floor(ids: Tensor, n: int) -> float:
    """The in-sample perplexity of the n-gram model counted on ``ids`` (int64 ``[tokens]``) itself.

    For n = 1 that is what knowing the frequencies alone gives. Larger n count on the very text they
    are judged on, so they flatter themselves; in a long text bigrams (n = 2) of characters hardly
    do.

    Raises:
        TextError: n below 1 or fewer than n tokens.
    """
    if n < 1 or len(ids) < n:
        raise TextError(f"expected n of at least 1 and n tokens or more, got {n} and {len(ids)}")
    ids = ids.long()  # the smaller unsigned types lack some of what follows
    # Give each run of n - 1 tokens a number, then each run of n; grow both one token at a time.
    length = len(ids) - n + 1
    context = torch.zeros(length, dtype=torch.int64)
    for shift in range(n - 1):
        context = _number(context, ids[shift : shift + length])
    whole = _number(context, ids[n - 1 :])
    return perplexity((_log_counts(context) - _log_counts(whole)).mean().item())


def _number(left: Tensor, right: Tensor) -> Tensor:
    pairs = left * (int(right.max()) + 1) + right
    numbers: Tensor = torch.unique(pairs, return_inverse=True)[1]
    return numbers


def _log_counts(numbers: Tensor) -> Tensor:
    return numbers.bincount()[numbers].double().log()
