"""Attention: which source positions a decoder's state looks at.

A score for each pair of a query (a decoder's state ``q``) and a source position (an encoder's output
``v``), a softmax over the positions of the row's own sentence, and the mean of the outputs under
these weights: the context.

    dot       q . v                      Luong, Pham and Manning, arXiv:1508.04025, equation 8
    bilinear  q . W v                    the same, "general"
    additive  u . tanh(W_q q + W_v v)    Bahdanau, Cho and Bengio, arXiv:1409.0473, appendix A.1.2

The last matrix of each score begins near zero, and with it every weight near an equal share: from
larger scores a softmax soon settles on one position, whatever the sentence, and learns no more.

Letters: ``S`` source steps, ``T`` target steps, ``B`` batch, ``H`` size of queries and values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Memory:
    """What a decoder knows of the source sentences.

    Attributes:
        values: the encoder's outputs ``[B, S, H]``.
        keys: what queries are compared with ``[B, S, H]``; the values themselves for dot.
        valid: bool ``[B, S]``, which positions belong to the sentence.
        summary: the encoder's last output state ``[B, H]``.
    """

    values: Tensor
    keys: Tensor
    valid: Tensor
    summary: Tensor

    def select(self, rows: Tensor) -> Memory:
        """The memory of these rows, int64 ``[N]``, in their order."""
        return Memory(self.values[rows], self.keys[rows], self.valid[rows], self.summary[rows])


class Attention(nn.Module):
    """Attention by the score of its subclass, which gives `scores` and perhaps `keys`."""

    def keys(self, values: Tensor) -> Tensor:
        """What is compared with every query, ``[B, S, H]``: computed once per sentence."""
        return values

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scores ``[B, T, S]`` of queries ``[B, T, H]`` against keys ``[B, S, H]``."""
        raise NotImplementedError

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Contexts and the weights they were made with.

        Args:
            queries: ``[T, B, H]``.
            memory: each row needs at least one valid position.

        Returns:
            contexts ``[T, B, H]`` and weights ``[B, T, S]``, each row of which sums to 1 and is
            exactly 0 at positions that are not valid.
        """
        scores = self.scores(queries.transpose(0, 1), memory.keys)
        weights = scores.masked_fill(~memory.valid.unsqueeze(1), -math.inf).softmax(-1)
        return torch.bmm(weights, memory.values).transpose(0, 1), weights


class DotAttention(Attention):
    """``q . v``; no parameters."""

    def __init__(self, size: int) -> None:
        super().__init__()

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return torch.bmm(queries, keys.transpose(1, 2))


class BilinearAttention(DotAttention):
    """``q . W v``."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.key = nn.Linear(size, size, bias=False)
        nn.init.normal_(self.key.weight, std=1 / size)

    def keys(self, values: Tensor) -> Tensor:
        keys: Tensor = self.key(values)
        return keys


class AdditiveAttention(Attention):
    """``u . tanh(W_q q + W_v v)``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)
        nn.init.normal_(self.score.weight, std=1 / size)

    def keys(self, values: Tensor) -> Tensor:
        keys: Tensor = self.key(values)
        return keys

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        pairs = self.query(queries).unsqueeze(2) + keys.unsqueeze(1)
        scores: Tensor = self.score(torch.tanh(pairs)).squeeze(-1)
        return scores


ATTENTIONS: dict[str, type[Attention] | None] = {
    "none": None,
    "dot": DotAttention,
    "bilinear": BilinearAttention,
    "additive": AdditiveAttention,
}
