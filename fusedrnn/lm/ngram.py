"""Smoothed n-gram models: the floors that a trained network is read against.

Every model gives each token a probability after the ``order - 1`` tokens before it, and these
probabilities sum to one. They are counted once with sorted arrays, about a second per order and
million tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fusedrnn.text.errors import TextError

Array = NDArray[Any]


class NGrams:
    """The distinct n-grams of a text, for n from 1 to ``order``, numbered.

    An n-gram is known by the number of its first n - 1 tokens and by its last token, so that one
    search among sorted numbers finds it.

    Attributes:
        keys[n - 1]: sorted int64, one for each distinct n-gram.
        counts[n - 1]: how often the text has each.
        contexts[n - 1]: the number of its first n - 1 tokens among the (n - 1)-grams.
        suffixes[n - 1]: the number of its last n - 1 tokens among the (n - 1)-grams.
    """

    def __init__(self, ids: Array, order: int, vocab: int) -> None:
        self.order, self.vocab = 0, vocab
        self.keys: list[Array] = []
        self.counts: list[Array] = []
        self.contexts: list[Array] = []
        self.suffixes: list[Array] = []
        self._ids = ids
        # The number of the longest counted run that ends at each token, from the first whole one.
        self._ends = np.zeros(len(ids) + 1, np.int64)
        for _ in range(order):
            self.grow()

    def grow(self) -> None:
        """Counts the n-grams that are longer by one."""
        before, tokens = self._ends[:-1], self._ids[self.order :]
        keys, first, numbers, counts = np.unique(
            before * self.vocab + tokens, return_index=True, return_inverse=True, return_counts=True
        )
        self.keys.append(keys)
        self.counts.append(counts)
        self.contexts.append(keys // self.vocab)
        self.suffixes.append(self._ends[first + 1])
        self._ends = numbers
        self.order += 1

    def find(self, n: int, contexts: Array, tokens: Array) -> Array:
        """Numbers of the n-grams made of these contexts (numbers of (n - 1)-grams) and tokens; -1
        where the text has none, or the context is -1."""
        wanted = contexts * self.vocab + tokens
        keys = self.keys[n - 1]
        found = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where((contexts >= 0) & (keys[found] == wanted), found, -1)

    def number(self, ids: Array, order: int) -> list[Array]:
        """For n from 0 to ``order``: the number of the n-gram that ends at each token; -1 for one
        that the text does not have, or that would begin before the first token."""
        numbers = [np.zeros(len(ids), np.int64)]
        for n in range(1, order + 1):
            before = np.concatenate([[0 if n == 1 else -1], numbers[-1][:-1]])
            numbers.append(self.find(n, before, ids))
        return numbers


class NGramModel(ABC):
    """What the smoothings share.

    Args:
        ids: integer ``[tokens]``, the text to count; at least ``order`` tokens.
        order: n, the tokens that a count looks at: the predicted one and n - 1 before it.
        vocab: number of entries; every index is below it.
        grams: the n-grams of ``ids`` up to ``order`` or longer, where they are counted already.

    Raises:
        TextError: an order below 1, too few tokens, or an index out of range.
    """

    def __init__(
        self, ids: Tensor | Array, order: int, vocab: int, grams: NGrams | None = None
    ) -> None:
        text = as_indices(ids, vocab)
        if order < 1 or len(text) < order:
            raise TextError(
                f"expected an order of at least 1 and as many tokens, got {order} and {len(text)}"
            )
        self.order, self.vocab = order, vocab
        self._grams = NGrams(text, order, vocab) if grams is None else grams
        self._fit()

    def log_probabilities(self, ids: Tensor | Array) -> Array:
        """Natural logarithms of the probabilities of ``ids[1:]``, float64 ``[tokens - 1]``, each
        after the tokens before it."""
        text = as_indices(ids, self.vocab)
        numbers = self._grams.number(text, self.order)
        contexts = [number[:-1] for number in numbers]
        found = [number[1:] for number in numbers]
        return np.log(self._probabilities(contexts, found, text[1:]))

    def distribution(self, context: Sequence[int]) -> Array:
        """Probabilities of every token after ``context``, float64 ``[vocab]``."""
        tail = as_indices(np.array(context, np.int64), self.vocab)
        numbers = [
            number[-1:] if len(tail) else number for number in self._grams.number(tail, self.order)
        ]
        contexts = [np.zeros(self.vocab, np.int64)]
        contexts += [np.full(self.vocab, n[0] if len(n) else -1) for n in numbers[1:]]
        tokens = np.arange(self.vocab)
        found = [np.zeros(self.vocab, np.int64)]
        for n in range(1, self.order + 1):
            found.append(self._grams.find(n, contexts[n - 1], tokens))
        return self._probabilities(contexts, found, tokens)

    def loss(self, ids: Tensor | Array) -> float:
        """Mean negative log-likelihood in nats per token of every token but the first."""
        if len(ids) < 2:
            raise TextError(f"expected at least 2 tokens, got {len(ids)}")
        return float(-self.log_probabilities(ids).mean())

    def _fit(self) -> None:  # noqa: B027  not every smoothing has something to prepare
        """Prepares what `_probabilities` looks up."""

    @abstractmethod
    def _probabilities(self, contexts: list[Array], found: list[Array], tokens: Array) -> Array:
        """Probabilities of tokens.

        Args:
            contexts: for n from 0 to ``order``, the number of the n-gram before each token.
            found: for n from 0 to ``order``, the number of the n-gram that ends with each token.
        """


class Laplace(NGramModel):
    """Counts with some occurrences added, shared out as the tokens alone are distributed (Laplace
    smoothing as in Zhang et al., *Dive into Deep Learning*, section 9.3):

        P(x)     = (n(x) + e1 / V) / (n + e1)
        P(x | h) = (n(h x) + e P(x)) / (n(h) + e)

    A context that is unknown gives P(x).

    Args:
        strength: e, occurrences added to each context.
        alone: e1, occurrences added to the tokens alone; None for V, Laplace's rule of adding one
            to each.
    """

    def __init__(
        self,
        ids: Tensor | Array,
        order: int,
        vocab: int,
        strength: float = 1.0,
        alone: float | None = None,
        grams: NGrams | None = None,
    ) -> None:
        self.strength = strength
        self.alone = float(vocab) if alone is None else alone
        if not min(self.strength, self.alone) > 0.0:
            raise TextError(f"strength: expected numbers above 0, got {strength} and {self.alone}")
        super().__init__(ids, order, vocab, grams)

    def _probabilities(self, contexts: list[Array], found: list[Array], tokens: Array) -> Array:
        grams, n = self._grams, self.order
        total = grams.counts[0].sum() + self.alone
        alone: Array = (_at(grams.counts[0], found[1]) + self.alone / self.vocab) / total
        if n == 1:
            return alone
        before = np.bincount(grams.contexts[n - 1], grams.counts[n - 1], len(grams.keys[n - 2]))
        counts = _at(grams.counts[n - 1], found[n]) + self.strength * alone
        result: Array = counts / (_at(before, contexts[n - 1]) + self.strength)
        return result


class Interpolated(NGramModel):
    """Every order discounts what it counted and gives the rest to the next shorter one:

        P_n(x | h) = kept(h x) + left(h) P_(n-1)(x | h without its first token)

    down to P_0(x) = 1 / V. A subclass says what is kept and what is left.
    """

    def _fit(self) -> None:
        self._kept: list[Array] = []
        self._left: list[Array] = []
        for n in range(1, self.order + 1):
            contexts = len(self._grams.keys[n - 2]) if n > 1 else 1
            kept, left = self._discount(n, self._grams.contexts[n - 1], contexts)
            self._kept.append(kept)
            self._left.append(left)

    @abstractmethod
    def _discount(self, n: int, contexts: Array, size: int) -> tuple[Array, Array]:
        """What is kept by each n-gram, and what is left of each of ``size`` contexts."""

    def _probabilities(self, contexts: list[Array], found: list[Array], tokens: Array) -> Array:
        result = np.full(len(tokens), 1.0 / self.vocab)
        for n in range(1, self.order + 1):
            left = _at(self._left[n - 1], contexts[n - 1], missing=1.0)
            result = _at(self._kept[n - 1], found[n]) + left * result
        return result


class KneserNey(Interpolated):
    """Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999, section 3).

    Orders below the highest count in how many contexts an n-gram occurs, not how often; three
    discounts, for counts of one, two, and three or more, are estimated from the counts of counts.
    """

    def _counts(self, n: int) -> Array:
        if n == self.order:
            return self._grams.counts[n - 1]
        # The n-gram that opens the text has no token before it: one occurrence counts as a context.
        return np.maximum(
            np.bincount(self._grams.suffixes[n], minlength=len(self._grams.keys[n - 1])), 1
        )

    def _discount(self, n: int, contexts: Array, size: int) -> tuple[Array, Array]:
        counts = self._counts(n)
        capped = counts.clip(max=3)
        discounts = _discounts(counts)[capped]
        total = np.bincount(contexts, counts, size)
        taken = np.bincount(contexts, discounts, size)
        # A run of tokens that only ends the text is the context of nothing.
        left = np.divide(taken, total, out=np.ones(size), where=total > 0)
        return (counts - discounts) / total[contexts], left


class WittenBell(Interpolated):
    """Interpolated Witten-Bell smoothing (Witten and Bell 1991, method C): what is left of a context
    is the share of new tokens among all that followed it."""

    def _discount(self, n: int, contexts: Array, size: int) -> tuple[Array, Array]:
        counts = self._grams.counts[n - 1]
        total = np.bincount(contexts, counts, size) + np.bincount(contexts, minlength=size)
        left = np.divide(
            np.bincount(contexts, minlength=size), total, out=np.ones(size), where=total > 0
        )
        return counts / total[contexts], left


def _discounts(counts: Array) -> Array:
    """The discounts of counts of 0, 1, 2 and 3 or more (Chen and Goodman 1999, equation 26).

    Where a short text lacks counts of counts, half of one is taken away, at most.
    """
    one, two, three, four = (int((counts == k).sum()) for k in range(1, 5))
    if not (one and two and three):
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = one / (one + 2 * two)
    estimates = [1 - 2 * y * two / one, 2 - 3 * y * three / two, 3 - 4 * y * four / three]
    # Nothing may be taken from what is not there, nor anything given.
    return np.array([0.0, *(min(max(d, 0.05), k) for k, d in enumerate(estimates, 1))])


def _at(values: Array, numbers: Array, missing: float = 0.0) -> Array:
    return np.where(numbers >= 0, values[numbers], missing)


def as_indices(ids: Tensor | Array, vocab: int) -> Array:
    """int64 ``[tokens]``. Raises TextError for other than indices below ``vocab``."""
    values = ids.cpu().numpy() if isinstance(ids, Tensor) else ids
    text: Array = values.astype(np.int64)
    if text.ndim != 1 or (len(text) and not 0 <= text.min() <= text.max() < vocab):
        raise TextError(f"expected indices from 0 to {vocab - 1} in one dimension")
    return text
