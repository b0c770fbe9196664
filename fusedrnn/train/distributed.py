"""Several processes that train one model, through torch.distributed alone.

Nothing here does anything in a single process. Where `torch.distributed` has been initialised (by
``torchrun`` and `from_environment`, or by the caller), every process trains on its own rows of each
batch, gradients are averaged by DistributedDataParallel, and process 0 writes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fusedrnn.errors import UserError
from fusedrnn.train.trees import flatten, unflatten

# Megabytes of gradients in one exchange: torch's own number, said aloud. Where nothing is said, torch
# closes the first exchange at one megabyte, to send it while others are still computed. A layer's
# gradients are all there at the same moment, so that gains nothing and costs another round trip.
_EXCHANGED_TOGETHER = 25


# gloo's network thread only tries for the lock of a connection, again and again, while the thread that
# sends holds it. Woken on that thread's core it takes the core away and spins there for the rest of its
# time slice, some 3 ms in which nothing is sent. A thread of a batch policy waits for its turn instead.
@contextlib.contextmanager
def _threads_wait_their_turn() -> Iterator[None]:
    """Threads that the calling thread starts within it do not preempt others when they wake up (Linux)."""
    batch = getattr(os, "SCHED_BATCH", None)
    changed = False
    with contextlib.suppress(OSError):  # where it is forbidden all works without
        if batch is not None and os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, batch, os.sched_param(0))
            changed = True
    try:
        yield
    finally:
        if changed:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


# Seconds before a group is taken apart. Its threads give up the tensors of the last exchange, for which
# they need Python's lock; who takes the group apart holds that lock and waits for the threads to end.
_GROUP_RESTS = 0.1


class DistributedError(UserError, RuntimeError):
    """Another process of the run has ended, or the processes cannot meet."""


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if world() > 1 else 0


@contextlib.contextmanager
def from_environment(device: torch.device) -> Iterator[torch.device]:
    """Joins the processes that ``torchrun`` started, if it did, and leaves them at the end.

    Yields the device of this process: CUDA devices are numbered by the local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    try:
        if device.type == "cuda":
            dist.init_process_group("nccl")
        else:
            with _threads_wait_their_turn():
                dist.init_process_group("gloo")
    except (RuntimeError, ValueError) as error:
        raise DistributedError(f"expected to meet the other processes, got: {error}") from error
    try:
        yield device
        time.sleep(
            _GROUP_RESTS
        )  # not after an error, which must be told before another process ends this one
    finally:
        dist.destroy_process_group()


def wrap(model: nn.Module) -> nn.Module:
    """The model that averages its gradients over all processes, beginning as that of process 0."""
    if world() == 1:
        return model
    return DistributedDataParallel(
        model, gradient_as_bucket_view=True, bucket_cap_mb=_EXCHANGED_TOGETHER
    )


def without_exchange(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Within it backward passes add to the gradients of this process alone."""
    if isinstance(model, DistributedDataParallel):
        context: contextlib.AbstractContextManager[None] = model.no_sync()
        return context
    return contextlib.nullcontext()


def _device() -> torch.device:
    nccl = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Each flag, set where it is set in any process."""
    if world() == 1:
        return flags
    shared = torch.tensor(flags, dtype=torch.int32, device=_device())
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return tuple(bool(each) for each in shared.tolist())


def summed(values: list[float]) -> list[float]:
    """Each value, summed over all processes."""
    if world() == 1:
        return values
    shared = torch.tensor(values, dtype=torch.float64, device=_device())
    dist.all_reduce(shared)
    result: list[float] = shared.tolist()
    return result


def from_first(value: Any) -> Any:
    """What process 0 has, in every process."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, device=_device())
    return box[0]


def gathered(value: Any) -> list[Any]:
    """What each process has, in the order of their numbers; known to all of them."""
    if world() == 1:
        return [value]
    values = [None] * world()
    dist.all_gather_object(values, value)
    return values


def joined(tree: Any, dim: int) -> Any:
    """A carried state of all processes as that of one, on the CPU: joined along the rows."""
    shape, tensors = flatten(tree)
    parts = gathered([each.cpu() for each in tensors])
    whole = [
        torch.cat(each, dim) if len(each) > 1 else each[0] for each in zip(*parts, strict=True)
    ]
    return unflatten(shape, whole)


def own_rows(tensor: Tensor, dim: int) -> Tensor:
    """The rows of this process of a tensor that holds those of all."""
    rows = tensor.shape[dim] // world()
    return tensor.narrow(dim, rank() * rows, rows)


@contextlib.contextmanager
def clear_errors(hint: Callable[[], str]) -> Iterator[None]:
    """Says in one line that another process is gone, in place of what the transport says."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        known = isinstance(error, dist.DistError) or "gloo" in text or "NCCL" in text
        if world() == 1 or isinstance(error, UserError) or not known:
            raise
        first = text.strip().splitlines()[0][:200]
        raise DistributedError(
            f"process {rank()} of {world()}: expected an answer from the other processes, got: "
            f"{first}; {hint()}"
        ) from error
