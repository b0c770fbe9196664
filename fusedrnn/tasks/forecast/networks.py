"""The networks that forecast: from a window to its next step, or to all steps of the horizon.

All are called as ``network(past [L, B, F], known [K, B, C]) -> [S, B, Q]``: S forecast steps (1, or
``horizon``) and Q numbers for each, one (a mean) or one per quantile. Rows and letters are those of
`windows`. `build` makes one from its configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fusedrnn.lm.model import CELLS
from fusedrnn.tasks.forecast.errors import SeriesError

State = Any


class Network(nn.Module):
    """What the networks share.

    Args:
        lags: L, rows of a window.
        past_columns: P, covariates known up to the present.
        known_columns: C, covariates known ahead.
        steps: S, forecast steps that come out at once.
        outputs: Q, numbers per step.
        residual: whether what is computed is added to the last target in the window, so that the
            network forecasts the change from it; levels never met in training then matter less.
    """

    def __init__(
        self,
        lags: int,
        past_columns: int,
        known_columns: int,
        steps: int,
        outputs: int,
        residual: bool,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.lags, self.steps, self.outputs = lags, steps, outputs
        self.past_columns, self.known_columns = past_columns, known_columns
        self.features = 1 + past_columns + known_columns

    def _spread(self, flat: Tensor, past: Tensor) -> Tensor:
        """``[B, S*Q]`` to the forecasts ``[S, B, Q]``."""
        out = flat.view(flat.shape[0], self.steps, self.outputs).transpose(0, 1)
        return out + past[-1:, :, :1] if self.residual else out

    def _later(self, known: Tensor) -> Tensor:
        """Known covariates of the steps after the origin (that of the origin is in the window),
        ``[B, (S-1)*C]``."""
        return known[1 : self.steps].transpose(0, 1).flatten(1)

    @property
    def _later_size(self) -> int:
        return (self.steps - 1) * self.known_columns


class Perceptron(Network):
    """A multilayer perceptron on the whole window; without hidden units, a linear map of it."""

    def __init__(self, *sizes: Any, hidden: int, layers: int, dropout: float, **_: Any) -> None:
        super().__init__(*sizes)
        width = self.lags * self.features + self._later_size
        parts: list[nn.Module] = []
        for _layer in range(layers if hidden else 0):
            parts += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
            width = hidden
        self.body = nn.Sequential(*parts, nn.Linear(width, self.steps * self.outputs))

    def forward(self, past: Tensor, known: Tensor) -> Tensor:
        window = past.transpose(0, 1).flatten(1)
        return self._spread(self.body(torch.cat([window, self._later(known)], dim=1)), past)


class ManyToOne(Network):
    """A recurrent network that reads the window; a linear head on its last output."""

    def __init__(
        self, *sizes: Any, cell: str, hidden: int, layers: int, dropout: float, **_: Any
    ) -> None:
        super().__init__(*sizes)
        between = dropout if layers > 1 else 0.0
        self.rnn = CELLS[cell](self.features, hidden, num_layers=layers, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden + self._later_size, self.steps * self.outputs)

    def forward(self, past: Tensor, known: Tensor) -> Tensor:
        read, _ = self.rnn(past)
        return self.answer(read[-1], past, known)

    def answer(self, last: Tensor, past: Tensor, known: Tensor) -> Tensor:
        """The forecasts ``[S, B, Q]`` after the last output ``[B, hidden]`` of the layer."""
        read = torch.cat([self.dropout(last), self._later(known)], dim=1)
        return self._spread(self.head(read), past)


class SequenceToSequence(Network):
    """An encoder of the window's rows before the origin, and a decoder with a row per forecast step.

    Source: Sutskever, Vinyals, Le, "Sequence to sequence learning with neural networks",
    arXiv:1409.3215, on numbers instead of words. The decoder's rows are those of the window: in
    front of step ``s`` the target of step ``s - 1``, which after the origin is

    * ``forward(..., fed=target)``: the true one, as in training with teacher forcing;
    * `decode`: whatever the caller feeds, step by step;
    * otherwise that before the origin, over and over: direct forecasts, without any feedback.

    Covariates of the past stay as they were before the origin.
    """

    def __init__(
        self, *sizes: Any, cell: str, hidden: int, layers: int, dropout: float, **_: Any
    ) -> None:
        super().__init__(*sizes)
        if self.lags < 2:
            raise SeriesError(f"lags: expected at least 2 for seq2seq, got {self.lags}")
        between = dropout if layers > 1 else 0.0
        self.encoder = CELLS[cell](self.features, hidden, num_layers=layers, dropout=between)
        self.decoder = CELLS[cell](self.features, hidden, num_layers=layers, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, self.outputs)

    def forward(self, past: Tensor, known: Tensor, fed: Tensor | None = None) -> Tensor:
        held = past[-1:, :, : 1 + self.past_columns].expand(self.steps, -1, -1)
        rows = torch.cat([held, known[: self.steps]], dim=2)
        if fed is not None:
            before = torch.cat([past[-1:, :, 0], fed[: self.steps - 1]])
            rows = torch.cat([before.unsqueeze(2), rows[:, :, 1:]], dim=2)
        return self.decode(rows, self.encode(past))[0]

    def encode(self, past: Tensor) -> State:
        """The state before the origin's row is read."""
        return self.encoder(past[:-1])[1]

    def decode(self, rows: Tensor, state: State) -> tuple[Tensor, State]:
        """Forecasts ``[R, B, Q]`` of R steps from their rows ``[R, B, F]``, and the next state."""
        read, state = self.decoder(rows, state)
        out = self.head(self.dropout(read))
        return out + rows[:, :, :1] if self.residual else out, state


NETWORKS: dict[str, Callable[..., Network]] = {
    "linear": Perceptron,
    "mlp": Perceptron,
    "rnn": ManyToOne,
    "seq2seq": SequenceToSequence,
}


def build(config: dict[str, Any]) -> Network:
    """The network of a configuration, with parameters as torch.nn starts them.

    Args:
        config: ``kind`` (a key of `NETWORKS`), ``cell`` (of `lm.model.CELLS`), ``lags``, ``past_columns``,
            ``known_columns``, ``steps``, ``outputs``, ``hidden``, ``layers``, ``dropout``,
            ``residual``.

    Raises:
        SeriesError: an unknown kind or cell, or sizes that a network cannot have.
    """
    for name, known in (("kind", NETWORKS), ("cell", CELLS)):
        if config[name] not in known:
            raise SeriesError(f"{name}: expected one of {', '.join(known)}, got {config[name]!r}")
    shape = ("lags", "past_columns", "known_columns", "steps", "outputs", "residual")
    return NETWORKS[config["kind"]](
        *(config[name] for name in shape),
        cell=config["cell"],
        hidden=0 if config["kind"] == "linear" else config["hidden"],
        layers=config["layers"],
        dropout=config["dropout"],
    )
