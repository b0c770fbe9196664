"""From sentence pairs to a task that is ready to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fusedrnn.tasks.translate.codec import Codec
from fusedrnn.tasks.translate.model import EncoderDecoder
from fusedrnn.tasks.translate.pairs import Pair, split_pairs
from fusedrnn.tasks.translate.predict import Translator
from fusedrnn.tasks.translate.task import Forcing, TranslationTask


def build_task(
    pairs: Sequence[Pair],
    *,
    tokens: str = "word",
    min_freq: int = 1,
    pieces: int = 4000,
    max_length: int | None = None,
    reverse: bool = False,
    valid_fraction: float = 0.0,
    batch: int = 64,
    seed: int = 0,
    forcing: Forcing | None = None,
    device: str | torch.device = "cpu",
    **model: Any,
) -> TranslationTask:
    """Splits pairs, learns both vocabularies from the training part and begins a model.

    Args:
        tokens, min_freq, pieces: see `Codec.build`, for both languages.
        max_length: longer sentences are cut to so many tokens, end mark included; None for none.
        reverse: see `Translator`.
        valid_fraction: see `split_pairs`.
        batch, forcing: see `TranslationTask`.
        seed: of the split, the order and, through `torch.manual_seed`, the parameters.
        model: of `EncoderDecoder`, all but the sizes of the vocabularies.

    Raises:
        UserError, ValueError: settings that cannot be; nothing has been done then.
    """
    train, valid = split_pairs(pairs, valid_fraction, seed)
    options: dict[str, Any] = {"min_freq": min_freq, "size": pieces}
    source = Codec.build([one for one, _ in train], tokens, **options)
    target = Codec.build([other for _, other in train], tokens, **options)
    longest = max(len(target.encode(other, max_length)) for _, other in train)
    torch.manual_seed(seed)
    network = EncoderDecoder(len(source), len(target), **model).to(device)
    translator = Translator(network, source, target, longest, max_length, reverse)
    return TranslationTask(translator, train, valid, batch=batch, seed=seed, forcing=forcing)
