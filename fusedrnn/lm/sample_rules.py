"""From logits to a token: the rules of sampling, and the draw itself.

Every draw is the inverse of the cumulative distribution at a uniform number, in float64 and in the
order of the vocabulary. The native loop (csrc/cpu/isa_draw.cpp) does the same, so that both give
the same tokens for the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fusedrnn.text.errors import TextError

_GRID = 2.0**30
_COARSE = 2.0**20


class History:
    """The tokens of each row so far, as far as the rules need them.

    Args:
        prompt: int64 ``[P, B]``.
        counts: int64 ``[B]``, how many tokens of each column there are.

    Attributes:
        tokens: int64 ``[B, capacity]``, each row from the left.
        counts: int64 ``[B]``.
    """

    def __init__(self, prompt: Tensor, counts: Tensor, sampling: Sampling) -> None:
        self._kept = sampling.looks_back
        self.tokens = prompt.t().to(torch.int64, copy=True, memory_format=torch.contiguous_format)
        self.counts = counts.clone()
        self.make_room(0)

    def make_room(self, more: int) -> None:
        """Room for ``more`` tokens in each row."""
        if not self._kept:
            self.counts.zero_()
        wanted = int(self.counts.max()) + more
        if wanted > self.tokens.shape[1]:
            grown = self.tokens.new_zeros(len(self.tokens), max(wanted, 2 * self.tokens.shape[1]))
            grown[:, : self.tokens.shape[1]] = self.tokens
            self.tokens = grown

    def add(self, tokens: Tensor) -> None:
        """Takes one token of each row, int64 ``[B]``, for which there is room."""
        self.tokens[torch.arange(len(tokens)), self.counts] = tokens
        self.counts += 1

    def rows(self) -> list[Tensor]:
        """The tokens of each row."""
        return [row[:n] for row, n in zip(self.tokens, self.counts.tolist(), strict=True)]


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from its logits; what comes first is applied first.

    Args:
        repetition_penalty: the logits of tokens that the prompt or the continuation has are
            divided by it where positive and multiplied by it elsewhere (Keskar et al., "CTRL",
            2019, section 4.1); 1 changes nothing.
        banned: indices that are never drawn.
        no_repeat_ngram: no token is drawn that would make an n-gram of this length that the prompt
            and the continuation have already (Paulus et al., 2017), unless no other token is left;
            0 for no such rule.
        temperature: logits are divided by it; 0 takes the likeliest token, the first of equals.
        top_k: draws from the k likeliest tokens alone (Fan et al., 2018); 0 for all.
        top_p: draws from the fewest of the likeliest tokens whose probabilities make up this share
            (Holtzman et al., "nucleus sampling", 2020), of those that top_k leaves; 1 for all.

    Raises:
        TextError: a number out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    banned: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0.0):
            raise TextError(
                f"temperature: expected a finite number of 0 or more, got {self.temperature}"
            )
        if not 0.0 < self.top_p <= 1.0:
            raise TextError(f"top_p: expected a number above 0, at most 1, got {self.top_p}")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0.0):
            raise TextError(
                f"repetition_penalty: expected a finite number above 0, got {self.repetition_penalty}"
            )
        for name in ("top_k", "no_repeat_ngram"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise TextError(f"{name}: expected a whole number of 0 or more, got {value!r}")

    @property
    def looks_back(self) -> bool:
        """Whether a draw depends on the tokens before it but for their logits."""
        return self.repetition_penalty != 1.0 or self.no_repeat_ngram > 0

    def uniform(self, steps: int, batch: int, generator: torch.Generator | None) -> Tensor:
        """The float64 ``[steps, batch]`` that decide the draws; greedy choices need none."""
        if self.temperature == 0.0:
            return torch.zeros(steps, batch, dtype=torch.float64)
        return torch.rand(steps, batch, dtype=torch.float64, generator=generator)


def round_logits(logits: Tensor) -> Tensor:
    """Float64 logits as multiples of 2^-30: what is equal in exact arithmetic becomes equal."""
    return torch.where(logits.abs() < _COARSE, (logits * _GRID).round() / _GRID, logits)


def draw(
    logits: Tensor, sampling: Sampling, history: list[Tensor], uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """One token for each row.

    Args:
        logits: float64 ``[B, V]``; an impossible token has -inf.
        history: for each row the int64 tokens so far, prompt included.
        uniform: float64 ``[B]`` in ``[0, 1)``.

    Returns:
        int64 ``[B]``, and the log-probability of each under the logits alone, float64 ``[B]``.

    Raises:
        TextError: logits that are NaN or infinite, from the model or by a tiny penalty, or that
            leave nothing to draw.
    """
    logits = round_logits(logits)
    if not bool((logits < math.inf).all()) or bool((logits.amax(-1) == -math.inf).any()):
        raise not_finite()
    scores = _ruled(logits, sampling, history)
    if sampling.temperature == 0.0:
        tokens = scores.argmax(-1)
    else:
        # From the largest downwards, so that a tiny temperature cannot overflow.
        weights = ((scores - scores.amax(-1, keepdim=True)) / sampling.temperature).exp()
        tokens = _at_share(_keep_likeliest(weights, scores, sampling), uniform)
    return tokens, logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def not_finite() -> TextError:
    """The error for logits of which none can be drawn."""
    return TextError(
        "logits: expected finite numbers and a token to draw, got a model that gives others"
    )


def _ruled(logits: Tensor, sampling: Sampling, history: list[Tensor]) -> Tensor:
    """The logits after all rules but temperature, top_k and top_p."""
    if sampling.repetition_penalty == 1.0 and not sampling.banned and not sampling.no_repeat_ngram:
        return logits
    scores = logits.clone()
    if sampling.repetition_penalty != 1.0:
        for row, seen in zip(scores, history, strict=True):
            before = row[seen]
            row[seen] = torch.where(
                before > 0,
                before / sampling.repetition_penalty,
                before * sampling.repetition_penalty,
            )
        if not bool((scores < math.inf).all()):  # divided by a tiny penalty
            raise not_finite()
    if sampling.banned:
        scores[:, list(sampling.banned)] = -math.inf
    if sampling.no_repeat_ngram:
        for row, seen in zip(scores, history, strict=True):
            _forbid(row, _enders(seen, sampling.no_repeat_ngram))
    if bool((scores.amax(-1) == -math.inf).any()):
        raise not_finite()
    return scores


def _enders(history: Tensor, n: int) -> Tensor:
    """The tokens that would end an n-gram of ``history`` once more."""
    if len(history) < n:
        return history[:0]
    grams = history.unfold(0, n, 1)
    suffix = history[len(history) - n + 1 :]
    return grams[(grams[:, :-1] == suffix).all(-1), -1]


def _forbid(scores: Tensor, tokens: Tensor) -> None:
    left = scores.clone()
    left[tokens] = -math.inf
    if bool(left.amax() > -math.inf):
        scores.copy_(left)


def _keep_likeliest(weights: Tensor, scores: Tensor, sampling: Sampling) -> Tensor:
    """The weights ``[B, V]``, 0 for what top_k and top_p leave out."""
    by_count = 0 < sampling.top_k < weights.shape[-1]
    if not by_count and sampling.top_p >= 1.0:
        return weights
    order = scores.sort(stable=True, dim=-1, descending=True).indices
    ranked = weights.gather(-1, order)
    kept = torch.ones_like(ranked, dtype=torch.bool)
    if by_count:
        kept[:, sampling.top_k :] = False
    if sampling.top_p < 1.0:
        total = (ranked * kept).sum(-1, keepdim=True)
        # A hair less, so that a sum that is equal but for the rounding of the logits is enough.
        before = ranked.cumsum(-1) - ranked
        kept &= before < sampling.top_p * (1 - 1e-8) * total
    return weights * torch.zeros_like(kept).scatter(-1, order, kept)


def _at_share(weights: Tensor, uniform: Tensor) -> Tensor:
    """For each row the first token at which the sum of the weights passes its share ``uniform``."""
    sums = weights.cumsum(-1)
    target = (uniform.to(sums) * sums[:, -1]).unsqueeze(-1)
    tokens = torch.searchsorted(sums, target, right=True).squeeze(-1)
    last = weights.shape[-1] - 1 - (weights.flip(-1) > 0).to(torch.int8).argmax(-1)
    return torch.minimum(tokens, last)
