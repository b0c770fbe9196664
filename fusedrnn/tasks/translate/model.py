"""Encoder and decoder: one reads the source, the other writes the target from what it finds there.

    source [S, B] -> embedding -> encoder -> outputs [S, B, H], last state
    target [T, B] -> embedding (with a context) -> decoder, begun in that state -> logits

Where the context comes in is ``feed``:

* ``"after"``: the attention's query is the decoder's output, and ``tanh(W [context; output])`` goes
  to the head (Luong, Pham and Manning, arXiv:1508.04025, equation 5, without input feeding; in its
  place each step reads the encoder's last output, as without attention). No step needs the attention
  of the step before, so a whole target runs in one call of the layer.
* ``"before"``: the query is the top state after the step before, and the context enters the step
  beside the embedding (Bahdanau, Cho and Bengio, arXiv:1409.0473). One call of the layer per step.

Without attention the context is the encoder's last output state, the same in every step, beside the
embedding (Cho et al., arXiv:1406.1078; Zhang et al., *Dive into Deep Learning*, section 10.7).

Letters: ``S`` source steps, ``T`` target steps, ``B`` batch, ``E`` embedding, ``H`` hidden size,
``L`` layers, ``V`` target vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusedrnn._head import head_loss
from fusedrnn.lm.model import CELLS, State
from fusedrnn.tasks.translate.attention import ATTENTIONS, Memory

FEEDS = ("after", "before")


class EncoderDecoder(nn.Module):
    """An encoder and a decoder, with or without attention.

    Args:
        source_vocab, target_vocab: numbers of tokens.
        cell: a key of `fusedrnn.lm.model.CELLS`, of encoder and decoder.
        hidden: H, units of a decoder layer; a bidirectional encoder has H / 2 in each direction.
        layers: L, of the encoder and of the decoder, whose states begin as the encoder's end.
        embedding: E, of both.
        dropout: probability, in training, of dropping an embedding, an output between layers or what
            enters the head.
        bidirectional: whether the encoder reads both ways.
        attention: a key of `ATTENTIONS`.
        feed: one of `FEEDS`; without attention it means nothing.

    Raises:
        ValueError: a name that is none of these, a size below 1, dropout outside ``[0, 1]``, an odd
            hidden size for a bidirectional encoder.
    """

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        cell: str = "gru",
        hidden: int = 256,
        layers: int = 1,
        embedding: int = 256,
        dropout: float = 0.0,
        bidirectional: bool = False,
        attention: str = "additive",
        feed: str = "after",
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "source_vocab": source_vocab,
            "target_vocab": target_vocab,
            "cell": cell,
            "hidden": hidden,
            "layers": layers,
            "embedding": embedding,
            "dropout": float(dropout),
            "bidirectional": bidirectional,
            "attention": attention,
            "feed": feed,
        }
        _check(self.config)
        kind = ATTENTIONS[attention]
        between = dropout if layers > 1 else 0.0
        self.stepwise = kind is not None and feed == "before"
        self.source_embedding = nn.Embedding(source_vocab, embedding)
        self.target_embedding = nn.Embedding(target_vocab, embedding)
        self.encoder = CELLS[cell](
            embedding,
            hidden // 2 if bidirectional else hidden,
            num_layers=layers,
            dropout=between,
            bidirectional=bidirectional,
        )
        self.decoder = CELLS[cell](embedding + hidden, hidden, num_layers=layers, dropout=between)
        self.attention = None if kind is None else kind(hidden)
        after = kind is not None and not self.stepwise
        self.combine = nn.Linear(2 * hidden, hidden) if after else None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, target_vocab)

    # --- training --------------------------------------------------------------------------------

    def forward(
        self,
        source: Tensor,
        source_lengths: Tensor,
        inputs: Tensor,
        lengths: Tensor,
        truth: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Logits of the token after each given target token, or how well they fit what came.

        Args:
            source: int64 ``[S, B]``; what lies past a row's length is not looked at.
            source_lengths: int64 ``[B]``, from 1 to S.
            inputs: int64 ``[T, B]``, the target behind its start mark.
            lengths: int64 ``[B]``, from 1 to T.
            truth: the probability with which a step reads its given token; else it reads one drawn
                from the model's own prediction (Bengio et al., arXiv:1506.03099), each step and row
                apart, through which no gradient flows.
            labels: int64 ``[T, B]``, the target and its end mark.

        Returns:
            logits ``[N, V]`` of the N valid steps, those of the first step first: the order of
            ``inputs[valid_steps(lengths, T)]``. With labels the mean of their cross entropy, in nats.
        """
        memory, state = self.encode(source, source_lengths)
        if truth < 1.0:
            outputs = self._run_on_draws(inputs, state, memory, truth)
        elif self.stepwise:
            outputs = self._run_stepwise(inputs, state, memory)
        else:
            outputs = self._run_at_once(inputs, state, memory, lengths)[0]
        valid = valid_steps(lengths, len(inputs))
        outputs = self.dropout(outputs[valid])
        if labels is not None:
            return head_loss(self.head, outputs, labels[valid])
        logits: Tensor = self.head(outputs)
        return logits

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Memory, State]:
        """What the decoder looks at, and the state ``[L, B, H]`` that it begins in."""
        embedded = self.dropout(self.source_embedding(source))
        outputs, state = self.encoder(embedded, lengths=lengths)
        if self.config["bidirectional"]:
            state = _each(state, _side_by_side)
        values = outputs.transpose(0, 1)
        keys = values if self.attention is None else self.attention.keys(values)
        return Memory(values, keys, valid_steps(lengths, len(source)).t(), _top(state)), state

    def attend(self, source: Tensor, source_lengths: Tensor, inputs: Tensor) -> Tensor:
        """Attention weights ``[B, T, S]`` while the decoder reads ``inputs [T, B]``.

        Raises ValueError for a model without attention.
        """
        if self.attention is None:
            raise ValueError("expected a model with attention, got one without")
        memory, state = self.encode(source, source_lengths)
        if not self.stepwise:
            return self._run_at_once(inputs, state, memory, None)[1]
        rows = []
        for tokens in inputs:
            rows.append(self._context(state, memory)[1])
            _, state = self.advance(tokens, state, memory)
        return torch.cat(rows, 1)

    def _run_at_once(
        self, inputs: Tensor, state: State, memory: Memory, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What goes to the head ``[T, B, H]``, and attention weights ``[B, T, S]`` (or nothing)."""
        x = self.dropout(self.target_embedding(inputs))
        x = torch.cat([x, memory.summary.expand(len(x), -1, -1)], -1)
        y, _ = self.decoder(x, state, lengths=lengths)
        return self._combine(y, memory)

    def _run_stepwise(self, inputs: Tensor, state: State, memory: Memory) -> Tensor:
        outputs = []
        for tokens in inputs:
            y, state = self.advance(tokens, state, memory)
            outputs.append(y)
        return torch.stack(outputs)

    def _run_on_draws(self, inputs: Tensor, state: State, memory: Memory, truth: float) -> Tensor:
        outputs: list[Tensor] = []
        for given in inputs:
            tokens = given
            if outputs:
                logits = self.head(outputs[-1].detach())
                drawn = torch.multinomial(logits.detach().float().softmax(-1), 1).squeeze(1)
                trusted = torch.rand(len(given), device=given.device) < truth
                tokens = torch.where(trusted, given, drawn)
            y, state = self.advance(tokens, state, memory)
            outputs.append(y)
        return torch.stack(outputs)

    # --- one step --------------------------------------------------------------------------------

    def advance(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """One decoder step: tokens ``[B]`` to what goes to the head ``[B, H]``, and the state."""
        x = self.dropout(self.target_embedding(tokens))
        x = torch.cat([x, self._context(state, memory)[0]], -1)
        if torch.is_grad_enabled() or self.training:
            y, state = self.decoder(x.unsqueeze(0), state)
        else:
            step: Any = self.decoder.step  # without autograd, and faster
            y, state = step(x, state)
            y = y.unsqueeze(0)
        return self._combine(y, memory)[0].squeeze(0), state

    def _context(self, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        """The context ``[B, H]`` that enters a step, and its weights ``[B, 1, S]`` (or nothing)."""
        if self.attention is None or not self.stepwise:
            return memory.summary, memory.summary.new_empty(0)
        context, weights = self.attention(_top(state).unsqueeze(0), memory)
        return context.squeeze(0), weights

    def _combine(self, y: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Outputs ``[T, B, H]`` to what goes to the head, and weights ``[B, T, S]`` (or nothing)."""
        if self.combine is None or self.attention is None:
            return y, y.new_empty(0)
        context, weights = self.attention(y, memory)
        return torch.tanh(self.combine(torch.cat([context, y], -1))), weights


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """bool ``[steps, B]``: the steps within each row's length."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def select(state: State, rows: Tensor) -> State:
    """The states ``[L, N, H]`` of these rows of the batch."""
    return _each(state, lambda one: one[:, rows])


def _each(state: State, change: Any) -> State:
    if isinstance(state, tuple):
        return change(state[0]), change(state[1])
    changed: Tensor = change(state)
    return changed


def _top(state: State) -> Tensor:
    """The output state ``[B, H]`` of the last layer."""
    return (state[0] if isinstance(state, tuple) else state)[-1]


def _side_by_side(state: Tensor) -> Tensor:
    """``[2 L, B, H / 2]`` of two directions to ``[L, B, H]``."""
    forward, backward = state[0::2], state[1::2]
    return torch.cat([forward, backward], -1)


def _check(config: dict[str, Any]) -> None:
    for name, choices in (("cell", CELLS), ("attention", ATTENTIONS), ("feed", FEEDS)):
        if config[name] not in choices:
            raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {config[name]!r}")
    for name in ("source_vocab", "target_vocab", "hidden", "layers", "embedding"):
        if type(config[name]) is not int or config[name] < 1:
            raise ValueError(f"{name}: expected a whole number of at least 1, got {config[name]!r}")
    if not 0.0 <= config["dropout"] <= 1.0:
        raise ValueError(f"dropout: expected a number from 0 to 1, got {config['dropout']!r}")
    if config["bidirectional"] and config["hidden"] % 2:
        raise ValueError(
            f"hidden: expected an even number for a bidirectional encoder, got {config['hidden']}"
        )
