"""The model of both tasks: one label for a sequence, or one for each of its steps.

    inputs -> features [T, B, I] -> recurrent stack -> [pool over valid steps] -> linear head

``T`` steps, ``B`` batch, ``D`` directions, ``H`` units, ``K`` outputs. Time comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fusedrnn.layers import GRU
from fusedrnn.lm.model import CELLS
from fusedrnn.tasks.label.readers import Words

POOLS = ("last", "mean", "max")


class TokenInput(nn.Module):
    """Token ids ``[T, B]`` as embeddings, or as they are (one-hot rows) for ``embedding=0``."""

    def __init__(self, tokens: int, embedding: int) -> None:
        super().__init__()
        self.embedding = _embedding(tokens, embedding) if embedding else None
        self.size = embedding or tokens

    def forward(self, ids: Tensor) -> Tensor:
        return ids if self.embedding is None else self.embedding(ids)


class FeatureInput(nn.Module):
    """Numbers ``[T, B, size]`` as they are."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, features: Tensor) -> Tensor:
        return features


class WordInput(nn.Module):
    """Words as an embedding and the last states of a bidirectional GRU over their characters.

    Each distinct word of a batch is spelt once. Source of the idea: Plank, Søgaard, Goldberg,
    "Multilingual part-of-speech tagging with bidirectional LSTMs", arXiv:1604.05529.

    Args:
        words, chars: entries of the two vocabularies.
        embedding: size of the word embedding; 0: characters alone.
        char_embedding, char_hidden: of the character encoder; ``char_hidden=0``: words alone.
    """

    def __init__(
        self, words: int, chars: int, embedding: int, char_embedding: int, char_hidden: int
    ) -> None:
        super().__init__()
        if not embedding and not char_hidden:
            raise ValueError("expected words or characters to read, got sizes of 0 for both")
        self.embedding = _embedding(words, embedding) if embedding else None
        self.chars = _embedding(chars, char_embedding) if char_hidden else None
        self.speller = GRU(char_embedding, char_hidden, bidirectional=True) if char_hidden else None
        self.size = embedding + 2 * char_hidden

    def forward(self, words: Words) -> Tensor:
        parts = []
        if self.embedding is not None:
            parts.append(self.embedding(words.ids))
        if self.chars is not None and self.speller is not None:
            _, last = self.speller(self.chars(words.chars), lengths=words.lengths)
            spelt = last.transpose(0, 1).flatten(1)  # [N, 2 * char_hidden]
            parts.append(spelt[words.places])
        return torch.cat(parts, -1)


def _embedding(entries: int, size: int) -> nn.Embedding:
    """Small values: rows of norm 1 and more drown what the recurrent layer has to say at first."""
    table = nn.Embedding(entries, size)
    nn.init.normal_(table.weight, std=0.1)
    return table


INPUTS: dict[str, Callable[..., nn.Module]] = {
    "tokens": TokenInput,
    "features": FeatureInput,
    "words": WordInput,
}


class SequenceLabeller(nn.Module):
    """A recurrent network that gives a sequence, or each of its steps, one of ``K`` labels.

    Args:
        inputs: ``{"kind": a key of INPUTS, ...the arguments of that class}``.
        outputs: K.
        pool: ``"last"`` (the state after each row's last valid step; of the reverse direction,
            after its first), ``"mean"`` or ``"max"`` over the valid steps; None for an output per
            step.
        cell: a key of `fusedrnn.lm.model.CELLS`.
        hidden, layers: units a layer and direction, recurrent layers.
        bidirectional: whether a second direction reads from the end.
        dropout: probability of dropping an entry of an embedding, of a layer's output or of the
            pool's.

    Layers start as torch.nn's do, embeddings normal with deviation 0.1; `fusedrnn.init.initialise`
    gives the recurrent layers other values.

    Raises:
        ValueError: an unknown cell, pool or kind of input, a size below 1, dropout outside [0, 1].
    """

    def __init__(
        self,
        inputs: dict[str, Any],
        outputs: int,
        pool: str | None = "last",
        cell: str = "lstm",
        hidden: int = 128,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("cell", cell, tuple(CELLS)),
            ("pool", pool, (*POOLS, None)),
            ("inputs", inputs.get("kind"), tuple(INPUTS)),
        ):
            if value not in known:
                raise ValueError(
                    f"{name}: expected one of {', '.join(map(str, known))}, got {value!r}"
                )
        for name, size in (("outputs", outputs), ("hidden", hidden), ("layers", layers)):
            if type(size) is not int or size < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {size!r}")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"dropout: expected a number from 0 to 1, got {dropout!r}")
        self.config: dict[str, Any] = {
            "inputs": dict(inputs),
            "outputs": outputs,
            "pool": pool,
            "cell": cell,
            "hidden": hidden,
            "layers": layers,
            "bidirectional": bidirectional,
            "dropout": float(dropout),
        }
        self.pool = pool
        own = {name: value for name, value in inputs.items() if name != "kind"}
        self.inputs = INPUTS[inputs["kind"]](**own)
        self.rnn = CELLS[cell](
            self.inputs.size,
            hidden,
            num_layers=layers,
            bidirectional=bidirectional,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(dropout)
        # Numbers and indices mean something each; an embedding spreads its meaning.
        self._drops_inputs = inputs["kind"] == "words" or bool(inputs.get("embedding"))
        self.head = nn.Linear(hidden * (2 if bidirectional else 1), outputs)

    def forward(self, inputs: Any, lengths: Tensor | None = None) -> Tensor:
        """Logits ``[B, K]``, or ``[T, B, K]`` without a pool.

        Args:
            inputs: what the kind of input takes, see `INPUTS`; all with ``[T, B, ...]``.
            lengths: int64 ``[B]``, valid steps of each row; None where all are. Logits of further
                steps mean nothing.
        """
        features = self.inputs(inputs)
        if self._drops_inputs:
            features = self.dropout(features)
        y, state = self.rnn(features, lengths=lengths)
        if self.pool == "last":
            h_n = state[0] if isinstance(state, tuple) else state
            directions = 2 if self.rnn.bidirectional else 1
            y = torch.cat(tuple(h_n[-directions:]), -1)
        elif self.pool is not None:
            y = pooled(y, lengths, self.pool)
        logits: Tensor = self.head(self.dropout(y))
        return logits


def pooled(y: Tensor, lengths: Tensor | None, how: str) -> Tensor:
    """Mean or maximum of ``y [T, B, F]`` over each row's valid steps, ``[B, F]``.

    A row of length 0 gives zeros.
    """
    if lengths is None:
        return y.mean(0) if how == "mean" else y.amax(0)
    valid = torch.arange(len(y), device=y.device).unsqueeze(1) < lengths  # [T, B]
    valid = valid.unsqueeze(2)
    if how == "mean":
        steps = lengths.clamp(min=1).unsqueeze(1)
        return y.masked_fill(~valid, 0.0).sum(0) / steps
    highest = y.masked_fill(~valid, -torch.inf).amax(0)
    return highest.masked_fill((lengths == 0).unsqueeze(1), 0.0)
