"""The language model: token indices in, the logits of the next token out.

    ids [T, B] -> one-hot rows or an embedding -> recurrent stack -> linear head -> logits [T, B, V]

T steps, B batch, V vocabulary. Time comes first, as inside the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fusedrnn._head import head_loss
from fusedrnn.layers import GRU, LSTM, RNN
from fusedrnn.lm.dropout import SequenceDropout, dropped_between

State = Tensor | tuple[Tensor, Tensor]

CELLS: dict[str, Callable[..., nn.Module]] = {
    "elman": partial(RNN, nonlinearity="tanh"),
    "elman-relu": partial(RNN, nonlinearity="relu"),
    "gru": GRU,
    "lstm": LSTM,
}


class LanguageModel(nn.Module):
    """A recurrent language model.

    Args:
        vocab_size: V, number of tokens.
        cell: a key of `CELLS`.
        hidden: units per layer.
        layers: recurrent layers.
        embedding: size of the token embedding; 0 gives the first layer one-hot rows, which the
            layer reads as the indices themselves (a column of its input weight per token) and never
            builds.
        dropout: probability of dropping an output of the embedding or of a recurrent layer, in
            training.
        tied: whether the head's weight is the embedding's (Press and Wolf 2017, Inan et al. 2017);
            both sizes must be equal.
        variational: whether dropout draws one mask per sequence in place of one per step (Gal and
            Ghahramani 2016, between the layers).

    Parameters start as torch.nn's do.

    Raises:
        ValueError: an unknown cell, a size below 1 (below 0 for the embedding), dropout outside
            ``[0, 1]``, tied weights of different sizes.
    """

    def __init__(
        self,
        vocab_size: int,
        cell: str = "lstm",
        hidden: int = 256,
        layers: int = 1,
        embedding: int = 0,
        dropout: float = 0.0,
        tied: bool = False,
        variational: bool = False,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
        for name, value, least in (
            ("vocab_size", vocab_size, 1),
            ("hidden", hidden, 1),
            ("layers", layers, 1),
            ("embedding", embedding, 0),
        ):
            if type(value) is not int or value < least:
                raise ValueError(f"{name}: expected a whole number >= {least}, got {value!r}")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"dropout: expected a number from 0 to 1, got {dropout!r}")
        if tied and embedding != hidden:
            raise ValueError(
                f"tied: expected an embedding as large as the hidden state, {hidden}, got {embedding}"
            )
        self.config: dict[str, Any] = {
            "vocab_size": vocab_size,
            "cell": cell,
            "hidden": hidden,
            "layers": layers,
            "embedding": embedding,
            "dropout": float(dropout),
            "tied": bool(tied),
            "variational": bool(variational),
        }
        self.embedding = nn.Embedding(vocab_size, embedding) if embedding else None
        self._drops_sequences = variational and layers > 1 and dropout > 0.0
        between = dropout if layers > 1 and not variational else 0.0
        self.rnn = CELLS[cell](embedding or vocab_size, hidden, num_layers=layers, dropout=between)
        self.dropout: nn.Module = SequenceDropout(dropout) if variational else nn.Dropout(dropout)
        self.head = nn.Linear(hidden, vocab_size)
        self.tie()

    def tie(self) -> None:
        """Makes one parameter of the head's weight and the embedding's, where they are tied."""
        if self.config["tied"] and self.embedding is not None:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        ids: Tensor,
        state: State | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        labels: Tensor | None = None,
        reduction: str = "mean",
    ) -> tuple[Tensor, State]:
        """Logits of the token after each token, or how well they fit what came.

        Args:
            ids: int64 ``[T, B]``, each in ``[0, V)``.
            state: the recurrent state to go on from, as the last call returned it; None for zeros.
            lengths, resets: see the layers.
            labels: int64 ``[T, B]``, what came after each token; -100 where that does not count.
            reduction: of their loss, see `fusedrnn.functional.linear_cross_entropy`, whose errors
                are those of ``labels``, too.

        Returns:
            logits ``[T, B, V]``, or with labels their cross entropy in nats, which takes less time,
            and less memory where T * B exceeds ``hidden``; and the state after the last step: ``[layers, B, hidden]``,
            two of them for an LSTM.
        """
        inputs = ids if self.embedding is None else self.dropout(self.embedding(ids))
        # Only what is used is passed on, so that any module with torch.nn's interface can stand in.
        given = {"lengths": lengths, "resets": resets}
        options = {name: value for name, value in given.items() if value is not None}
        if self._drops_sequences and self.training:
            weights: Any = self.rnn.all_weights
            cell = self.config["cell"]
            outputs, state = dropped_between(cell, weights, inputs, state, self.dropout, options)
        else:
            outputs, state = self.rnn(inputs, state, **options)
        outputs = self.dropout(outputs)
        if labels is not None:
            return head_loss(self.head, outputs, labels, reduction), state
        logits: Tensor = self.head(outputs)
        return logits, state


def labelled(
    model: nn.Module,
    call: Callable[..., tuple[Tensor, State]],
    labels: Tensor,
    reduction: str = "mean",
    *,
    one_pass: bool = True,
) -> tuple[Tensor, State]:
    """The loss of ``labels``, and the state.

    Args:
        model: a `LanguageModel` is asked for its loss, any other module, also one derived from it,
            for its logits.
        call: the model, or what wraps it, but for ``labels``.
        one_pass: False where losses wait for a backward of all of them: each that is made in one
            pass would keep a gradient of the head meanwhile.
    """
    if one_pass and type(model) is LanguageModel:
        return call(labels=labels, reduction=reduction)
    logits, state = call()
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction=reduction), state


def detach(state: State) -> State:
    """The state without its history: gradients stop here."""
    if isinstance(state, tuple):
        return state[0].detach(), state[1].detach()
    return state.detach()
