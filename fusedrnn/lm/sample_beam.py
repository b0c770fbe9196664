"""Beam search: the likeliest continuation, instead of a drawn one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

import torch
from torch import Tensor, nn

from fusedrnn.lm.sample_loop import Reader
from fusedrnn.lm.sample_rules import not_finite
from fusedrnn.text.errors import TextError


@dataclass(frozen=True)
class Hypothesis:
    """A continuation that beam search found.

    Attributes:
        tokens: int64 ``[length]``, the end token included where there is one.
        logprob: its log-probability in nats.
        score: what hypotheses are ranked by, ``logprob / ((5 + length) / 6) ** length_penalty``.
    """

    tokens: Tensor
    logprob: float
    score: float


def beam_search(
    model: nn.Module,
    prompt: Tensor,
    length: int,
    *,
    beams: int = 5,
    length_penalty: float = 0.0,
    end: int | Sequence[int] | None = None,
    banned: tuple[int, ...] = (),
) -> list[Hypothesis]:
    """The best continuations that a beam finds, best first.

    Each step keeps the ``beams`` likeliest of all one-token extensions. One that ends waits aside;
    the search is over when ``length`` tokens are reached, or when no unfinished hypothesis could
    still beat the worst of ``beams`` finished ones. With ``beams`` of at least ``V ** length`` the
    search is exhaustive.

    Args:
        model: a `LanguageModel`, or anything called like one, whose state is a tensor or a pair of
            tensors with the batch as their second dimension.
        prompt: int64 ``[P]``, at least one token.
        length: the most tokens of a continuation, 1 or more.
        beams: hypotheses kept, 1 or more.
        length_penalty: the exponent of Wu et al. 2016, arXiv:1609.08144, equation 14 (without
            coverage); 0 ranks by probability alone, which favours short continuations where there
            is an ``end``; larger values favour long ones.
        end: the token that ends a continuation, or several each of which does, if any.
        banned: indices that are never taken; the others keep their log-probabilities.

    Raises:
        TextError: an empty prompt, a number out of range, a model whose logits are not finite.
    """
    if prompt.dim() != 1 or len(prompt) == 0:
        raise TextError(f"prompt: expected at least one token, got shape {list(prompt.shape)}")
    if length < 1 or beams < 1:
        raise TextError(f"length and beams: expected 1 or more, got {length} and {beams}")
    if not (math.isfinite(length_penalty) and length_penalty >= 0.0):
        raise TextError(f"length_penalty: expected a finite number >= 0, got {length_penalty}")
    training = model.training
    model.eval()
    try:
        ends = tuple(end) if isinstance(end, Sequence) else () if end is None else (index(end),)
        search = _Search(model, beams, length_penalty, ends, banned)
        return search.run(prompt, length)
    finally:
        model.train(training)


class _Search:
    """The hypotheses that go on: tokens ``[n, steps]`` and log-probabilities ``[n]``; and those
    that have ended."""

    def __init__(
        self,
        model: nn.Module,
        beams: int,
        length_penalty: float,
        ends: tuple[int, ...],
        banned: tuple[int, ...],
    ) -> None:
        self._reader = Reader(model)
        self._beams, self._alpha, self._banned = beams, length_penalty, banned
        self._ends = torch.tensor(ends, dtype=torch.int64)
        self._tokens = torch.empty(1, 0, dtype=torch.int64)
        self._logprobs = torch.zeros(1, dtype=torch.float64)
        self._done: list[Hypothesis] = []

    def run(self, prompt: Tensor, length: int) -> list[Hypothesis]:
        logits = self._reader.read(prompt.unsqueeze(1))
        for step in range(length):
            self._extend(logits)
            if len(self._tokens) == 0 or step == length - 1 or self._decided(length):
                break
            logits = self._reader.read(self._tokens[:, -1].unsqueeze(0))
        found = self._done + [
            self._hypothesis(tokens, logprob)
            for tokens, logprob in zip(self._tokens, self._logprobs.tolist(), strict=True)
        ]
        return sorted(found, key=lambda each: -each.score)[: self._beams]

    def _extend(self, logits: Tensor) -> None:
        """Every hypothesis by every token; the likeliest stay."""
        if not bool((logits < math.inf).all()):
            raise not_finite()
        step = logits.log_softmax(-1)
        step[:, list(self._banned)] = -math.inf
        total = self._logprobs.unsqueeze(1) + step
        best = total.flatten().sort(descending=True, stable=True)
        count = min(self._beams, int((best.values > -math.inf).sum()))
        if count == 0:
            raise not_finite()
        logprobs, places = best.values[:count], best.indices[:count]
        parents, last = places // step.shape[1], places % step.shape[1]
        tokens = torch.cat([self._tokens[parents], last.unsqueeze(1)], 1)
        on = ~torch.isin(last, self._ends)
        for row, logprob in zip(tokens[~on], logprobs[~on].tolist(), strict=True):
            self._done.append(self._hypothesis(row, logprob))
        self._tokens, self._logprobs = tokens[on], logprobs[on]
        self._reader.choose(parents[on])

    def _decided(self, length: int) -> bool:
        """Whether what has ended is better than all that can still come."""
        if len(self._done) < self._beams:
            return False
        # A log-probability only falls, and counts for least when divided by the longest length.
        hope = float(self._logprobs.max()) / self._divisor(length)
        scores = sorted((each.score for each in self._done), reverse=True)
        return scores[self._beams - 1] >= hope

    def _divisor(self, length: int) -> float:
        return float(((5.0 + length) / 6.0) ** self._alpha)

    def _hypothesis(self, tokens: Tensor, logprob: float) -> Hypothesis:
        return Hypothesis(tokens.clone(), logprob, logprob / self._divisor(len(tokens)))
