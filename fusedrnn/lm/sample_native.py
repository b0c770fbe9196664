"""The op ``fusedrnn::generate``: the whole loop of generation in one call, on the CPU."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, library

from fusedrnn import _ops
from fusedrnn._head import is_called_as_it_is
from fusedrnn.layers import GRU, LSTM, RNN
from fusedrnn.lm.model import LanguageModel, State
from fusedrnn.lm.sample_rules import History, Sampling, not_finite

_generate = torch.ops.fusedrnn.generate.default
_CELLS = {"RNN_TANH": "elman_tanh", "RNN_RELU": "elman_relu", "LSTM": "lstm", "GRU": "gru"}


@library.register_fake("fusedrnn::generate")  # type: ignore[untyped-decorator]
def _fake(
    h: Tensor,
    c: Tensor | None,
    history: Tensor,
    lengths: Tensor,
    weights: list[Tensor],
    embedding: Tensor | None,
    head: Tensor,
    head_bias: Tensor | None,
    uniform: Tensor,
    banned: Tensor | None,
    cell: int,
    penalty: float,
    ngram: int,
    temperature: float,
    top_k: int,
    top_p: float,
) -> Tensor:
    return uniform.new_empty(uniform.shape)


def serves(model: object) -> bool:
    """Whether the op computes what ``model`` would: a plain `LanguageModel` in float32 or float64
    on the CPU, over layers of ours, nobody watching its calls."""
    if type(model) is not LanguageModel or type(model.rnn) not in (RNN, LSTM, GRU):
        return False
    tensors = list(model.parameters())
    first = tensors[0].dtype
    return (
        first in (torch.float32, torch.float64)
        and all(
            type(tensor) is torch.nn.Parameter
            and tensor.device.type == "cpu"
            and tensor.dtype == first
            for tensor in tensors
        )
        and all(is_called_as_it_is(module) for module in model.modules())
    )


class NativeLoop:
    """A model that goes on from a state by the op.

    Args:
        model: one that `serves` accepts.
        state: the recurrent state after the prompts; a copy of it is written to.
        history: of the prompts; what is drawn is added to it.
    """

    def __init__(
        self,
        model: Any,
        state: State,
        history: History,
        sampling: Sampling,
    ) -> None:
        h, c = state if isinstance(state, tuple) else (state, None)
        self._h = h.detach().clone(memory_format=torch.contiguous_format)
        self._c = None if c is None else c.detach().clone(memory_format=torch.contiguous_format)
        self._history, self._sampling = history, sampling
        self._weights = [weight.detach() for layer in model.rnn.all_weights for weight in layer]
        self._cell = _ops.CELLS[_CELLS[str(model.rnn.mode)]].number
        self._embedding = None if model.embedding is None else model.embedding.weight.detach()
        self._head = model.head.weight.detach()
        self._bias = None if model.head.bias is None else model.head.bias.detach()
        self._banned: Tensor | None = None
        if sampling.banned:
            self._banned = torch.zeros(len(self._head), dtype=torch.bool)
            self._banned[list(sampling.banned)] = True

    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens, int64 ``[steps, B]``, and their log-probabilities, for float64 ``uniform``."""
        steps = len(uniform)
        rules = self._sampling
        self._history.make_room(steps)
        history, counts = self._history.tokens, self._history.counts
        begin = counts.clone()
        logprobs = cast(
            Tensor,
            _generate(
                self._h, self._c, history, counts, self._weights, self._embedding,
                self._head, self._bias, uniform, self._banned, self._cell,
                rules.repetition_penalty, rules.no_repeat_ngram, rules.temperature, rules.top_k,
                rules.top_p,
            ),
        )  # fmt: skip
        if bool(logprobs.isnan().any()):
            raise not_finite()
        places = begin.unsqueeze(0) + torch.arange(steps).unsqueeze(1)
        return history.gather(1, places.t()).t().contiguous(), logprobs
