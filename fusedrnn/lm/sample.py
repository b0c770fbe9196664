"""Sampling: the model reads a prompt, then its own output, one token at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fusedrnn.lm.model import State
from fusedrnn.text.errors import TextError
from fusedrnn.text.tokenize import Tokenizer
from fusedrnn.text.vocab import Vocab


@torch.no_grad()
def generate(
    model: nn.Module,
    prompt: Tensor,
    length: int,
    *,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    banned: int | None = None,
) -> Tensor:
    """Continues a text.

    Args:
        model: a `LanguageModel`, or anything called like one.
        prompt: int64 ``[P]``, at least one token; the model reads all of it before the first draw.
        length: number of tokens to draw, 0 or more.
        temperature: logits are divided by it; 0 takes the likeliest token (the first of equals).
        generator: a CPU generator for the draws; None for torch's global one.
        banned: an index that is never drawn.

    Returns:
        int64 ``[length]`` on the CPU, the continuation alone.

    Raises:
        TextError: an empty prompt, a negative length, a temperature that is negative or not finite,
            a model whose logits are not finite.
    """
    if prompt.dim() != 1 or len(prompt) == 0:
        raise TextError(f"prompt: expected at least one token, got shape {list(prompt.shape)}")
    _check(length, temperature)
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    state: State | None = None
    inputs = prompt
    drawn: list[Tensor] = []
    try:
        for _ in range(length):
            logits, state = model(inputs.unsqueeze(1).to(device), state)
            inputs = _draw(logits[-1, 0].double().cpu(), temperature, generator, banned)
            drawn.append(inputs)
    finally:
        model.train(training)
    return torch.cat(drawn) if drawn else prompt.new_empty(0, device="cpu")


def _check(length: int, temperature: float) -> None:
    if length < 0:
        raise TextError(f"length: expected 0 or more, got {length}")
    if not (math.isfinite(temperature) and temperature >= 0.0):
        raise TextError(f"temperature: expected a finite number of 0 or more, got {temperature}")


def _draw(
    logits: Tensor, temperature: float, generator: torch.Generator | None, banned: int | None
) -> Tensor:
    """One index as int64 ``[1]`` from float64 logits ``[V]``; an impossible token has -inf."""
    if logits.isnan().any() or logits.max() == math.inf:
        raise TextError("logits: expected finite numbers, got a model that gives others")
    if banned is not None:
        logits = logits.clone()
        logits[banned] = -math.inf
    if temperature == 0.0:
        return logits.argmax(keepdim=True)
    # From the largest downwards, so that a tiny temperature cannot overflow.
    scores = (logits - logits.max()) / temperature
    return torch.multinomial(scores.softmax(0), 1, generator=generator)


def sample_text(
    model: nn.Module,
    tokenizer: Tokenizer,
    vocab: Vocab,
    prompt: str = "",
    length: int = 200,
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> str:
    """The prompt and ``length`` tokens more, as text. Same arguments, same machine: the same text.

    Without a prompt the first token is drawn by the frequencies of the training text (the most
    frequent one at temperature 0). The unknown token is never drawn, as no text can show it.

    Raises:
        UnknownTokenError: a prompt with tokens that the training text did not have, naming them.
        TextError: see `generate`.
    """
    _check(length, temperature)
    if len(vocab) == 1:
        raise TextError("vocabulary: expected tokens to draw, got the unknown token alone")
    generator = torch.Generator().manual_seed(seed)
    tokens = vocab.encode(tokenizer.tokenize_prompt(prompt), unknown="error")
    if len(tokens) == 0 and length > 0:
        frequencies = torch.tensor(vocab.counts, dtype=torch.float64).log()
        tokens, length = _draw(frequencies, temperature, generator, 0), length - 1
    if length > 0:
        more = generate(
            model, tokens, length, temperature=temperature, generator=generator, banned=0
        )
        tokens = torch.cat([tokens, more])
    return tokenizer.join(vocab.decode(tokens))
