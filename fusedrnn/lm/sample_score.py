"""How likely a given text is to a model, token by token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusedrnn.lm.metrics import perplexity
from fusedrnn.lm.model import State
from fusedrnn.text.errors import TextError
from fusedrnn.text.tokenize import Tokenizer
from fusedrnn.text.vocab import Vocab

_STRETCH = 256  # tokens whose logits are held at once


@torch.no_grad()
def score(model: nn.Module, ids: Tensor, *, lengths: Tensor | None = None) -> Tensor:
    """Log-probabilities of given tokens, each after all those before it.

    Args:
        model: a `LanguageModel`, or anything called like one.
        ids: int64 ``[T]`` or ``[T, B]``, T of at least 2.
        lengths: int64 ``[B]`` in ``[1, T]``, how many tokens of each column count; None for all.

    Returns:
        float64 ``[T - 1]`` or ``[T - 1, B]`` on the CPU, in nats: entry t is that of ``ids[t + 1]``.
        The first token has none, as nothing comes before it. Past a row's length: 0.

    Raises:
        TextError: fewer than two tokens, lengths that do not fit.
    """
    if ids.dim() not in (1, 2) or len(ids) < 2 or ids.numel() == 0:
        raise TextError(f"score: expected at least two tokens, got shape {list(ids.shape)}")
    columns = ids.unsqueeze(1) if ids.dim() == 1 else ids
    steps, batch = columns.shape
    if lengths is not None and (
        lengths.shape != (batch,) or not bool(((lengths >= 1) & (lengths <= steps)).all())
    ):
        raise TextError(f"lengths: expected {batch} numbers from 1 to {steps}, got {lengths}")
    columns = columns.to(next(model.parameters()).device)
    training = model.training
    model.eval()
    state: State | None = None
    found: list[Tensor] = []
    try:
        for begin in range(0, steps - 1, _STRETCH):
            end = min(begin + _STRETCH, steps - 1)
            logits, state = model(columns[begin:end], state)
            following = columns[begin + 1 : end + 1].unsqueeze(-1)
            found.append(logits.double().log_softmax(-1).gather(-1, following).squeeze(-1).cpu())
    finally:
        model.train(training)
    scores = torch.cat(found)
    if lengths is not None:
        scores[torch.arange(1, steps).unsqueeze(1) >= lengths.cpu().unsqueeze(0)] = 0.0
    return scores.squeeze(1) if ids.dim() == 1 else scores


@dataclass(frozen=True)
class TextScore:
    """Log-probabilities of a text.

    Attributes:
        tokens: all tokens as the model reads them; unknown ones as ``<unk>``.
        logprobs: of each token but the first, in nats, given those before it.
    """

    tokens: list[str]
    logprobs: list[float]

    @property
    def total(self) -> float:
        """The log-probability of the text after its first token, in nats."""
        return sum(self.logprobs)

    @property
    def perplexity(self) -> float:
        """Per token."""
        return perplexity(-self.total / len(self.logprobs))


def score_text(
    model: nn.Module, tokenizer: Tokenizer, vocab: Vocab, text: str, *, unknown: str = "error"
) -> TextScore:
    """The log-probabilities of a text under a model.

    Args:
        unknown: what becomes of tokens outside the vocabulary: ``"error"`` names them, ``"unk"``
            counts them as ``<unk>``, ``"skip"`` leaves them out.

    Raises:
        UnknownTokenError: with ``unknown="error"``.
        TextError: fewer than two tokens.
    """
    ids = encode_prompt(tokenizer, vocab, text, unknown)
    return TextScore(vocab.decode(ids), score(model, ids).tolist())


def encode_prompt(tokenizer: Tokenizer, vocab: Vocab, text: str, unknown: str) -> Tensor:
    """The indices of a prompt, int64 ``[tokens]``; ``unknown`` as in `score_text`."""
    return vocab.encode(tokenizer.tokenize_prompt(text), unknown=unknown)
