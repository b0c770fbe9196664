"""A run taken apart for a checkpoint and put together again, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusedrnn.train import distributed
from fusedrnn.train.trees import flatten, transform, unflatten


@dataclass
class Position:
    """How far a run is.

    Attributes:
        epoch: epochs that are over.
        batch: batches of the epoch after those that are over.
        update: updates of the parameters.
        best: smallest loss of an epoch, by which the best checkpoint is chosen; None before one.
        waited: epochs since then.
        rate: the learning rate of the last update.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    best: float | None = None
    waited: int = 0
    rate: float = 0.0


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's tensors by ``<parameter>.<name>``, and what else it holds per parameter."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            place = tensors if isinstance(value, Tensor) else values
            place[f"{index}.{name}"] = value
    return tensors, values


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Gives a new optimizer over the same parameters what `pack_optimizer` took."""
    state: dict[int, dict[str, Any]] = {}
    for place, value in (*tensors.items(), *values.items()):
        index, name = place.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def pack_random(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators, uint8 ``[processes, bytes]``, collected from all."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    every = distributed.gathered(own)
    return {name: torch.stack([each[name] for each in every]) for name in own}


def unpack_random(device: torch.device, states: Mapping[str, Tensor], seed: int) -> None:
    """Sets torch's generators as they were. Where the number of processes has changed, each begins
    a sequence of its own from ``seed``."""
    rank = distributed.rank()
    if len(states["cpu"]) != distributed.world():
        torch.manual_seed(seed + rank)
        return
    torch.set_rng_state(states["cpu"][rank])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"][rank], device)


def pack_carried(carried: Any, dim: int) -> tuple[dict[str, Tensor], Any]:
    """The carried state of all processes: tensors by number, and how they are nested."""
    shape, tensors = flatten(distributed.joined(carried, dim))
    return {str(i): tensor for i, tensor in enumerate(tensors)}, shape


def unpack_carried(
    tensors: Mapping[str, Tensor], shape: Any, dim: int, device: torch.device
) -> Any:
    """The part of this process of what `pack_carried` took."""
    tree = unflatten(shape, [tensors[str(i)] for i in range(len(tensors))])
    return transform(tree, lambda each: distributed.own_rows(each, dim).contiguous().to(device))


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = prefix + "."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def differences(saved: Any, now: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, one line each, as "path: the run has ..., got ..."."""
    if isinstance(saved, dict) and isinstance(now, dict):
        keys = [*saved, *(key for key in now if key not in saved)]
        found = []
        for key in keys:
            found += differences(saved.get(key), now.get(key), f"{path}.{key}" if path else key)
        return found
    if isinstance(saved, list) and isinstance(now, list):
        found = []
        if len(saved) != len(now):
            found.append(f"{path}: the run has {len(saved)} entries, got {len(now)}")
        for i, (one, other) in enumerate(zip(saved, now, strict=False)):
            if one != other:
                found += differences(one, other, f"{path}[{i}]")
        return found
    return [] if saved == now else [f"{path}: the run has {_shown(saved)}, got {_shown(now)}"]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
