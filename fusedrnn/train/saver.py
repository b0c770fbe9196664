"""When a run is written to its folder, what of it, and how it is found again."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from fusedrnn.errors import UserError
from fusedrnn.train import checkpoint, distributed
from fusedrnn.train.checkpoint import Checkpoint, CheckpointError, Training
from fusedrnn.train.files import remove_leftovers, versions
from fusedrnn.train.folder import RunFolder
from fusedrnn.train.settings import Settings
from fusedrnn.train.state import differences
from fusedrnn.train.task import Task


class ResumeError(UserError, RuntimeError):
    """A run that cannot go on as asked: other data, other settings, another model."""


class SaveError(UserError, RuntimeError):
    """A run that cannot be written, on a full disk for example."""


class Saver:
    """Writes the checkpoints of a run, in process 0 alone.

    Args:
        folder: None for a run that leaves nothing.
        pack: gives what the run goes on from, and what is worth knowing about it.

    Attributes:
        saved: the position of the last save, or None.
    """

    def __init__(
        self,
        task: Task,
        settings: Settings,
        folder: RunFolder | None,
        pack: Callable[[], tuple[Training, dict[str, Any]]],
    ) -> None:
        self._task, self._settings, self._folder, self._pack = task, settings, folder, pack
        self._due = time.monotonic() + settings.save_every_s
        self._best: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self.saved: dict[str, Any] | None = None

    def due(self) -> bool:
        return self._folder is not None and time.monotonic() >= self._due

    def keep_best(self, info: dict[str, Any]) -> None:
        """Sets the parameters of now aside as the best; they reach the disk with the next save, so
        that neither outlives the other."""
        if self._folder is not None and distributed.rank() == 0:
            state = self._task.model.state_dict()
            self._best = {name: each.detach().clone() for name, each in state.items()}, info

    def save(self) -> None:
        """Writes the run now.

        Raises:
            SaveError: the run cannot be written; the checkpoint before is as it was.
        """
        if self._folder is None:
            return
        training, info = self._pack()  # collected from all processes, so by all of them
        if distributed.rank() == 0:
            with self.writing():
                self._write(self._folder, training, info)
        self.saved = dict(training.state["position"])
        self._wait()

    def _write(self, folder: RunFolder, training: Training, info: dict[str, Any]) -> None:
        about, kind = self._task.describe(), self._task.kind
        if self._best is not None:
            model, best_info = self._best
            checkpoint.write(folder.best, Checkpoint(about, model, best_info, kind=kind))
            self._best = None
        now = Checkpoint(about, self._task.model.state_dict(), info, training, kind)
        checkpoint.write(folder.checkpoint, now, keep=self._settings.keep)

    def try_to_save(self) -> None:
        """Writes the run now; where that fails, says so and lets it go on with what is there."""
        try:
            self.save()
        except SaveError as error:
            with contextlib.suppress(OSError):  # what is printed may go to the same disk
                print(error, file=sys.stderr, flush=True)
            self._wait()

    def _wait(self) -> None:
        self._due = time.monotonic() + self._settings.save_every_s

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turns what the disk refuses into one line that says what there is."""
        try:
            yield
        except OSError as error:
            where = self._folder.path if self._folder else "nowhere"
            raise SaveError(
                f"{where}: expected to write the run, got: {error.strerror or error}; {self.kept()}"
            ) from error

    def kept(self) -> str:
        """Which checkpoint holds what, for messages."""
        if self._folder is None:
            return "the run is not saved"
        if self.saved is None:
            return "no checkpoint was written yet"
        update, epochs = self.saved["update"], self.saved["epoch"]
        return f"{self._folder.checkpoint} holds the run after update {update}, epoch {epochs}"


def load(task: Task, settings: Settings, folder: RunFolder) -> Checkpoint | None:
    """The newest whole checkpoint of a run; None where it was broken off before the first.

    Raises:
        CheckpointError: checkpoints, but none that is whole.
        ResumeError: other data, settings or model than the run's.
    """
    remove_leftovers(folder.checkpoint)
    remove_leftovers(folder.best)
    found = _newest(folder.checkpoint, task.kind)
    if found is None or found.training is None:
        return None
    state = found.training.state
    wrong = settings.differences(dict(state["settings"]))
    wrong += differences(state["fingerprint"], task.fingerprint())
    wrong += differences(found.about, task.describe())
    wrong = list(dict.fromkeys(wrong))  # a setting may stand in both
    if wrong:
        more = f" and {len(wrong) - 3} more differences" if len(wrong) > 3 else ""
        raise ResumeError(f"{folder.path}: expected the run's own: {'; '.join(wrong[:3])}{more}")
    return found


def _newest(path: Path, kind: str) -> Checkpoint | None:
    first: CheckpointError | None = None
    there = versions(path)
    if there and there[0] != path:
        first = CheckpointError(f"{path}: expected the newest checkpoint, got none")
    for file in there:
        try:
            found = checkpoint.read(file, kind, training=True)
        except CheckpointError as error:
            first = first or error
        else:
            if first is not None:
                print(f"{first}; going on from {file}", file=sys.stderr)
            return found
    if first is not None:
        raise first
    return None


def training_state(
    settings: Settings, fingerprint: Mapping[str, Any], **values: Any
) -> dict[str, Any]:
    """The JSON part of a run, with what it must be compared with when it goes on."""
    return {"settings": asdict(settings), "fingerprint": dict(fingerprint), **values}
