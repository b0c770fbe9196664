"""Checkpoints: one file that holds a trained model and everything needed to use it.

The file is in safetensors format: the parameters as tensors, named ``model.<name>``, and in its
metadata one JSON object with the model's configuration, the tokenizer and the vocabulary. Nothing
in it is ever executed. It is written beside its final place, flushed to the disk and renamed, so
that a reader (and a crash) meets the old file or the new one and never a part of one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from fusedrnn.errors import UserError
from fusedrnn.lm.model import LanguageModel
from fusedrnn.text.tokenize import Tokenizer, from_description
from fusedrnn.text.vocab import Vocab

FILE_NAME = "checkpoint.safetensors"
_KEY = "fusedrnn"
_FORMAT = "fusedrnn language model"
_VERSION = 1
_PREFIX = "model."


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that is missing, truncated, or not one of ours; the message says which."""


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


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint to ``path``, replacing what was there in one step.

    Raises:
        OSError: the file cannot be written; what was at ``path`` is untouched and nothing else
            remains.
    """
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "model": checkpoint.model.config,
        "tokenizer": checkpoint.tokenizer.describe(),
        "vocab": checkpoint.vocab.to_dict(),
        "info": dict(checkpoint.info),
    }
    tensors = {
        _PREFIX + name: tensor.detach().cpu().contiguous()
        for name, tensor in checkpoint.model.state_dict().items()
    }
    write_atomically(path, to_bytes(tensors, {_KEY: json.dumps(about)}))


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Reads what `save_checkpoint` wrote.

    Args:
        path: the file, or the folder that holds it as ``checkpoint.safetensors``.

    Raises:
        CheckpointError: no such file, a truncated or damaged one, or not one of ours.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    about, tensors = _read(path)
    try:
        tokenizer = from_description(about["tokenizer"])
        vocab = Vocab.from_dict(about["vocab"])
        config, info = dict(about["model"]), dict(about["info"])
        model = _build(config, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: expected a whole checkpoint, got: {error}") from error
    if len(vocab) != config["vocab_size"]:
        raise CheckpointError(
            f"{path}: expected a vocabulary of {config['vocab_size']} entries, got {len(vocab)}"
        )
    return Checkpoint(model.to(device), tokenizer, vocab, info)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a checkpoint, got no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint in safetensors format, got a truncated or foreign file "
            f"({error})"
        ) from error
    try:
        about = json.loads(metadata.get(_KEY, ""))
    except ValueError:
        about = None
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: expected a checkpoint of this project, got a safetensors file of another kind"
        )
    if about.get("version") != _VERSION:
        raise CheckpointError(
            f"{path}: expected checkpoint version {_VERSION}, got {about.get('version')!r}"
        )
    return about, tensors


def _build(config: dict[str, Any], tensors: dict[str, Tensor]) -> LanguageModel:
    """The model with these parameters. Shapes are compared before any memory is taken."""
    with torch.device("meta"):
        model = LanguageModel(**config)
    got = {name: list(tensor.shape) for name, tensor in tensors.items()}
    expected = {_PREFIX + name: list(t.shape) for name, t in model.state_dict().items()}
    for name in sorted(got.keys() | expected.keys()):
        if got.get(name) != expected.get(name):
            raise ValueError(
                f"tensor {name}: expected shape {expected.get(name)}, got {got.get(name)}"
            )
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) != 1 or not next(iter(dtypes)).is_floating_point:
        raise ValueError(f"tensors: expected one floating dtype, got {sorted(map(str, dtypes))}")
    model.load_state_dict(
        {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}, assign=True
    )
    return model


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a whole file or none: to a neighbour, flushed to the disk, renamed to ``path``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a rename in ``folder`` survive a power cut, on systems that can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
