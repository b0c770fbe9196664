"""Checkpoints of language models: `fusedrnn.train.checkpoint`, from and to a model that can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusedrnn.lm.model import LanguageModel
from fusedrnn.text.tokenize import Tokenizer, from_description
from fusedrnn.text.vocab import Vocab
from fusedrnn.train import checkpoint as files
from fusedrnn.train.checkpoint import FILE_NAME, CheckpointError

__all__ = [
    "FILE_NAME",
    "KIND",
    "Checkpoint",
    "CheckpointError",
    "load_checkpoint",
    "save_checkpoint",
]

KIND = "language model"


@dataclass(frozen=True)
class Checkpoint:
    """A model with what turns text into its indices and back.

    Attributes:
        info: anything else worth keeping, in JSON's own types (settings of the run, epochs done).
    """

    model: LanguageModel
    tokenizer: Tokenizer
    vocab: Vocab
    info: Mapping[str, Any] = field(default_factory=dict)


def describe(model: LanguageModel, tokenizer: Tokenizer, vocab: Vocab) -> dict[str, Any]:
    """All that rebuilds the three but the parameters, in JSON's own types."""
    return {"model": model.config, "tokenizer": tokenizer.describe(), "vocab": vocab.to_dict()}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint to ``path``, replacing what was there in one step.

    Raises:
        OSError: the file cannot be written; what was at ``path`` is untouched and nothing else
            remains.
    """
    model = checkpoint.model
    about = describe(model, checkpoint.tokenizer, checkpoint.vocab)
    info = dict(checkpoint.info)
    files.write(Path(path), files.Checkpoint(about, model.state_dict(), info, kind=KIND))


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Reads what `save_checkpoint` or a run of training wrote.

    Args:
        path: the file, or the folder that holds it as ``checkpoint.safetensors``.

    Raises:
        CheckpointError: no such file, a truncated or damaged one, or not one of ours.
    """
    found = files.read(path, KIND)
    about = found.about
    try:
        tokenizer = from_description(about["tokenizer"])
        vocab = Vocab.from_dict(about["vocab"])
        config = dict(about["model"])
        model = _build(config, found.model)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: expected a whole checkpoint, got: {error}") from error
    if len(vocab) != config["vocab_size"]:
        raise CheckpointError(
            f"{path}: expected a vocabulary of {config['vocab_size']} entries, got {len(vocab)}"
        )
    return Checkpoint(model.to(device), tokenizer, vocab, found.info)


def _build(config: dict[str, Any], tensors: dict[str, Tensor]) -> LanguageModel:
    """The model with these parameters. Shapes are compared before any memory is taken."""
    with torch.device("meta"):
        model = LanguageModel(**config)
    got = {name: list(tensor.shape) for name, tensor in tensors.items()}
    expected = {name: list(t.shape) for name, t in model.state_dict().items()}
    for name in sorted(got.keys() | expected.keys()):
        if got.get(name) != expected.get(name):
            raise ValueError(
                f"tensor {name}: expected shape {expected.get(name)}, got {got.get(name)}"
            )
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) != 1 or not next(iter(dtypes)).is_floating_point:
        raise ValueError(f"tensors: expected one floating dtype, got {sorted(map(str, dtypes))}")
    model.load_state_dict(tensors, assign=True)
    model.tie()  # which assigning has undone
    return model
