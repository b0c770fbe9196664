"""A trained model that learns new tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusedrnn.lm.model import LanguageModel
from fusedrnn.text.errors import TextError
from fusedrnn.text.vocab import Vocab


@torch.no_grad()
def extend_vocab(
    model: LanguageModel, vocab: Vocab, tokens: Sequence[str]
) -> tuple[LanguageModel, Vocab]:
    """The model and its vocabulary with further tokens at their end, to go on training with.

    Everything that the model knew stays: the logits of the old tokens after any old tokens are the
    same numbers as before. What a new token needs (its row of the embedding or its column of the
    first layer's input weight, its row of the head) begins as the mean of the old tokens'.

    Args:
        tokens: none of them in the vocabulary, none twice.

    Returns:
        a new model on the same device, of the same dtype and mode, and a new vocabulary; those given
        are left as they are.

    Raises:
        TextError: tokens that are there already, or a vocabulary of another size than the model's.
    """
    size = int(model.config["vocab_size"])
    if len(vocab) != size:
        raise TextError(f"vocabulary: expected the model's {size} entries, got {len(vocab)}")
    extended = vocab.extended(tokens)
    with torch.device("meta"):
        larger = LanguageModel(**{**model.config, "vocab_size": len(extended)})
    wanted = {name: tensor.shape for name, tensor in larger.state_dict().items()}
    grown = {name: _grown(old, wanted[name]) for name, old in model.state_dict().items()}
    larger.load_state_dict(grown, assign=True)
    if model.config.get("tied"):
        larger.tie()
    return larger.train(model.training), extended


def _grown(old: Tensor, shape: torch.Size) -> Tensor:
    """The tensor, larger in at most one dimension: what is new is the mean of what was there."""
    for dimension, (before, after) in enumerate(zip(old.shape, shape, strict=True)):
        if after > before:
            sizes = [-1] * old.dim()
            sizes[dimension] = after - before
            return torch.cat([old, old.mean(dimension, keepdim=True).expand(sizes)], dimension)
    return old.clone()
