"""Training a task, in one call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from fusedrnn.train import distributed
from fusedrnn.train.folder import RunExistsError, RunFolder
from fusedrnn.train.settings import Settings
from fusedrnn.train.task import Task
from fusedrnn.train.trainer import OnStep, Result, Trainer

OnEpoch = Callable[[dict[str, Any]], None]


def train(
    task: Task,
    settings: Settings,
    folder: RunFolder | None = None,
    *,
    resume: bool = False,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Trains the task's model, and writes the run into a folder.

    Args:
        folder: of a run that `RunFolder.create` has begun; None leaves nothing.
        resume: whether the run in ``folder`` goes on from its last checkpoint, exactly as if it had
            never stopped.
        on_step: called after each update.
        on_epoch: called with the entry of `Result.history` after each epoch.

    Ctrl-C and SIGTERM end the run after the update that is being made, and save it.

    Raises:
        DivergedError: a loss or a gradient that is not finite; no parameter has seen it on the CPU.
        ResumeError, CheckpointError: a run that cannot go on.
        SaveError: a checkpoint at the end, or the metrics, cannot be written.
        RunExistsError: another process trains into ``folder``.
        UserError: a task or a batch that several processes cannot share.
    """
    with alone_in(folder):
        trainer = Trainer(task, settings, folder, resume=resume, on_step=on_step)
        return finish(trainer, on_epoch)


@contextlib.contextmanager
def alone_in(folder: RunFolder | None) -> Iterator[None]:
    """Within it no process but those of this run trains into ``folder``. Raises RunExistsError, in
    all processes of the run, where another run does."""
    with contextlib.ExitStack() as stack:
        refusal = None
        if folder is not None and distributed.rank() == 0:
            try:
                stack.enter_context(folder.claimed())
            except RunExistsError as error:
                refusal = str(error)
        if folder is not None:
            refusal = distributed.from_first(refusal)
        if refusal is not None:
            raise RunExistsError(refusal)
        yield


def finish(trainer: Trainer, on_epoch: OnEpoch | None = None) -> Result:
    """Trains to the end, or until Ctrl-C or SIGTERM."""
    with trainer.interrupts.watched():
        for record in trainer.epochs():
            if on_epoch is not None:
                on_epoch(record)
    return trainer.result
