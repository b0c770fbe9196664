"""Checkpoints: one file that holds a trained model and, where a run may go on, all of the run.

The file is in safetensors format. Tensors are named ``model.<name>`` (the parameters) and
``training.<name>`` (what the optimizer, the random generators and the carried state hold); the
metadata holds one JSON object: what kind of task it is, all that rebuilds the model, and where the
run was. Nothing in it is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from fusedrnn.errors import UserError
from fusedrnn.train.files import write_atomically

FILE_NAME = "checkpoint.safetensors"
_KEY = "fusedrnn"
_FORMAT = "fusedrnn checkpoint"
_VERSION = 2


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that is missing, truncated, or not what was asked for; the message says which."""


@dataclass(frozen=True)
class Training:
    """What a run needs to go on: tensors by name, and a JSON object."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """What is in a checkpoint.

    Attributes:
        about: what rebuilds the model, as `Task.describe` gave it.
        model: the parameters and buffers by name, on the CPU.
        info: anything else worth keeping, in JSON's own types (settings of the run, epochs done).
        training: what a run goes on from; None where the file holds a model alone.
        kind: `Task.kind`.
    """

    about: dict[str, Any]
    model: dict[str, Tensor]
    info: dict[str, Any] = field(default_factory=dict)
    training: Training | None = None
    kind: str = ""


def write(path: Path, checkpoint: Checkpoint, *, keep: int = 1) -> None:
    """Writes a checkpoint to ``path``, replacing what was there in one step.

    Args:
        keep: how many checkpoints remain, see `write_atomically`.

    Raises:
        OSError: the file cannot be written; what was at ``path`` is untouched.
    """
    own, aliases = _without_aliases(checkpoint.model)
    tensors = {f"model.{name}": tensor for name, tensor in own.items()}
    metadata: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "kind": checkpoint.kind,
        "about": checkpoint.about,
        "info": checkpoint.info,
        "aliases": aliases,
    }
    if checkpoint.training is not None:
        metadata["training"] = checkpoint.training.state
        for name, tensor in checkpoint.training.tensors.items():
            tensors[f"training.{name}"] = tensor
    ready = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
    write_atomically(path, to_bytes(ready, {_KEY: json.dumps(metadata)}), keep=keep)


def read(path: str | Path, kind: str, *, training: bool = False) -> Checkpoint:
    """Reads what `write` wrote.

    Args:
        path: the file, or the folder that holds it as ``checkpoint.safetensors``.
        kind: the kind of task that is asked for.
        training: whether to read what a run goes on from, too.

    Raises:
        CheckpointError: no such file, a truncated or damaged one, one of another kind or not one of
            ours.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    metadata, tensors = _read(path, training)
    if metadata.get("kind") != kind:
        raise CheckpointError(
            f"{path}: expected a checkpoint of kind {kind!r}, got one of {metadata.get('kind')!r}"
        )
    try:
        model = _named(tensors, "model.")
        for name, original in dict(metadata["aliases"]).items():
            model[name] = model[original]
        state = metadata.get("training") if training else None
        rest = None if state is None else Training(_named(tensors, "training."), dict(state))
        return Checkpoint(dict(metadata["about"]), model, dict(metadata["info"]), rest, kind)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a whole checkpoint, got: {error!r}") from error


def _read(path: Path, training: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a checkpoint, got no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            wanted = [name for name in file.keys() if training or name.startswith("model.")]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint in safetensors format, got a truncated or foreign file "
            f"({error})"
        ) from error
    try:
        about = json.loads(metadata.get(_KEY, ""))
    except ValueError:
        about = None
    if not isinstance(about, dict) or not str(about.get("format")).startswith("fusedrnn "):
        raise CheckpointError(
            f"{path}: expected a checkpoint of this project, got a safetensors file of another kind"
        )
    if about.get("version") != _VERSION:
        raise CheckpointError(
            f"{path}: expected checkpoint version {_VERSION}, got {about.get('version')!r}"
        )
    return about, tensors


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _without_aliases(model: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors with each one once, and for the further names of one (tied weights) the first.

    Only whole tensors are compared: the parameters of one module never overlap in part.
    """
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    own, aliases = {}, {}
    for name, tensor in model.items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and place in first:
            aliases[name] = first[place]
        else:
            own[name], first[place] = tensor, name
    return own, aliases
