"""Generation of tokens: the model reads the prompts, then its own draws."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fusedrnn.lm.model import LanguageModel
from fusedrnn.lm.sample_native import NativeLoop, serves
from fusedrnn.lm.sample_rules import History, Sampling, draw
from fusedrnn.text.errors import TextError

# The native loop hands over its tokens chunk by chunk: a first small one, then as many tokens as
# take about this long, so that Ctrl-C and a reader of the stream need not wait.
_FIRST_CHUNK, _LARGEST_CHUNK = 16, 1024
_CHUNK_S = 0.05


def generate(
    model: nn.Module,
    prompt: Tensor,
    length: int,
    *,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    banned: int | tuple[int, ...] | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    lengths: Tensor | None = None,
    native: bool | None = None,
) -> Tensor:
    """Continues one text, or several side by side.

    Args:
        model: a `LanguageModel`, or anything called like one.
        prompt: int64 ``[P]``, at least one token; the model reads all of it before the first draw.
            Or ``[P, B]``, a column for each of ``B`` prompts.
        length: number of tokens to draw, 0 or more.
        generator: a CPU generator for the draws; None for torch's global one.
        banned: an index, or several, that are never drawn.
        temperature, top_k, top_p, repetition_penalty, no_repeat_ngram: see `Sampling`.
        lengths: int64 ``[B]`` in ``[1, P]``: how many tokens from the top of its column each prompt
            has, where they differ; what stands below is not read.
        native: True for the loop in one native op, False for one in Python, None for the former
            wherever it serves (a plain `LanguageModel` in float32 or float64 on the CPU). Both draw
            the same tokens.

    Returns:
        int64 ``[length]`` or ``[length, B]`` on the CPU, the continuation alone.

    Raises:
        TextError: an empty prompt, a negative length, a number out of range (see `Sampling`), a
            model whose logits are not finite, ``native=True`` for a model that the op cannot run.
    """
    sampling = make_sampling(temperature, top_k, top_p, repetition_penalty, no_repeat_ngram, banned)
    tokens = [
        each for each, _ in chunks(model, prompt, length, sampling, generator, lengths, native)
    ]
    drawn = torch.cat(tokens) if tokens else torch.empty(0, _batch(prompt), dtype=torch.int64)
    return drawn.squeeze(1) if prompt.dim() == 1 else drawn


def stream(model: nn.Module, prompt: Tensor, length: int, **options: Any) -> Iterator[Tensor]:
    """`generate`, token by token: int64 scalars, or ``[B]`` for several prompts.

    Args and errors are those of `generate`; ending the iteration early ends the generation.
    """
    names = ("temperature", "top_k", "top_p", "repetition_penalty", "no_repeat_ngram", "banned")
    rules = {name: options.pop(name) for name in names if name in options}
    sampling = make_sampling(**rules)
    for tokens, _ in chunks(model, prompt, length, sampling, **options):
        yield from tokens.squeeze(1) if prompt.dim() == 1 else tokens


def make_sampling(
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    banned: int | tuple[int, ...] | None = None,
) -> Sampling:
    """The rules as `generate` takes them."""
    indices = () if banned is None else (banned,) if isinstance(banned, int) else tuple(banned)
    return Sampling(temperature, top_k, top_p, repetition_penalty, no_repeat_ngram, indices)


def chunks(
    model: nn.Module,
    prompt: Tensor,
    length: int,
    sampling: Sampling,
    generator: torch.Generator | None = None,
    lengths: Tensor | None = None,
    native: bool | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """`generate`, as many tokens at a time as the loop hands over.

    Yields:
        Tokens, int64 ``[n, B]``, and their log-probabilities before any rule, float64 ``[n, B]``.
    """
    prompt, lengths = _check(prompt, length, lengths)
    able = serves(model)
    if native and not able:
        raise TextError("native: expected a plain LanguageModel in float32 or float64 on the CPU")
    if length == 0:
        return
    steps, batch = prompt.shape
    counts = torch.full((batch,), steps) if lengths is None else lengths
    history = History(prompt, counts, sampling)
    training = model.training
    model.eval()
    try:
        reader = Reader(model)
        logits = reader.read(prompt, lengths)
        if able and native is not False:
            loop = NativeLoop(model, reader.state, history, sampling)
            yield from _native_chunks(loop, length, batch, sampling, generator)
        else:
            yield from _python_chunks(reader, logits, length, history, sampling, generator)
    finally:
        model.train(training)


def _native_chunks(
    loop: NativeLoop,
    length: int,
    batch: int,
    sampling: Sampling,
    generator: torch.Generator | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    size = _FIRST_CHUNK
    while length > 0:
        begin = time.monotonic()
        yield loop.draw(sampling.uniform(min(size, length), batch, generator))
        length -= size
        if time.monotonic() - begin < _CHUNK_S / 2:
            size = min(2 * size, _LARGEST_CHUNK)


def _python_chunks(
    reader: Reader,
    logits: Tensor,
    length: int,
    history: History,
    sampling: Sampling,
    generator: torch.Generator | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    batch = len(history.counts)
    tokens: Tensor | None = None
    for _ in range(length):
        if tokens is not None:
            logits = reader.read(tokens.unsqueeze(0))
        uniform = sampling.uniform(1, batch, generator)[0]
        tokens, logprobs = draw(logits, sampling, history.rows(), uniform)
        history.make_room(1)
        history.add(tokens)
        yield tokens.unsqueeze(0), logprobs.unsqueeze(0)


class Reader:
    """A model and its state: tokens in, the float64 logits of the next one out, on the CPU.

    The head of a `LanguageModel` is computed in float64, as the native loop does it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.state: Any = None
        self._model: Any = model
        self._device = next(model.parameters()).device
        self._own = type(model) is LanguageModel
        if self._own:
            head: Any = self._model.head
            self._weight = head.weight.detach().double().t()
            self._bias = None if head.bias is None else head.bias.detach().double()

    def choose(self, rows: Tensor) -> None:
        """Goes on with these rows of the batch, int64 ``[n]``, in this order."""
        rows = rows.to(self._device)
        if isinstance(self.state, tuple):
            self.state = self.state[0][:, rows], self.state[1][:, rows]
        elif self.state is not None:
            self.state = self.state[:, rows]

    @torch.no_grad()
    def read(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Reads int64 ``[T, B]``, of row b the first ``lengths[b]``; logits ``[B, V]``."""
        ids = ids.to(self._device)
        options = {} if lengths is None else {"lengths": lengths}
        if self._own:
            return self._read_own(ids, options).cpu()
        logits: Tensor
        logits, self.state = self._model(ids, self.state, **options)
        if lengths is None:
            return logits[-1].double().cpu()
        last = (lengths - 1).to(logits.device).view(1, -1, 1).expand(1, -1, logits.shape[-1])
        return logits.gather(0, last)[0].double().cpu()

    def _read_own(self, ids: Tensor, options: dict[str, Tensor]) -> Tensor:
        embedding = self._model.embedding
        inputs = ids if embedding is None else embedding(ids)
        _, self.state = self._model.rnn(inputs, self.state, **options)
        h: Tensor = self.state[0] if isinstance(self.state, tuple) else self.state
        logits: Tensor = h[-1].double() @ self._weight
        return logits if self._bias is None else logits + self._bias


def _batch(prompt: Tensor) -> int:
    return prompt.shape[1] if prompt.dim() == 2 else 1


def _check(prompt: Tensor, length: int, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The prompt as ``[P, B]`` and the lengths as int64 on the CPU, both checked."""
    if prompt.dim() not in (1, 2) or prompt.numel() == 0:
        raise TextError(f"prompt: expected at least one token, got shape {list(prompt.shape)}")
    if length < 0:
        raise TextError(f"length: expected 0 or more, got {length}")
    prompt = (prompt.unsqueeze(1) if prompt.dim() == 1 else prompt).cpu()
    if lengths is None:
        return prompt, None
    steps, batch = prompt.shape
    if lengths.shape != (batch,) or not bool(((lengths >= 1) & (lengths <= steps)).all()):
        raise TextError(
            f"lengths: expected {batch} numbers from 1 to {steps}, got {lengths.tolist()}"
        )
    return prompt, lengths.to("cpu", torch.int64)
