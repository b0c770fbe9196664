"""The folder of a run."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusedrnn.errors import UserError
from fusedrnn.train.checkpoint import FILE_NAME
from fusedrnn.train.files import remove_leftovers, versions, write_atomically

try:
    import fcntl
except ImportError:  # a system without locks of this kind
    fcntl = None  # type: ignore[assignment]


class RunExistsError(UserError, RuntimeError):
    """The folder of a new run holds another run, or cannot be a folder."""


class RunFolder:
    """The folder of a run.

    ``config.json`` (the settings, to read), ``metrics.jsonl`` (one object per epoch),
    ``checkpoint.safetensors`` (the run as it was last saved; ``checkpoint.1.safetensors`` is the one
    before), ``best.safetensors`` (the model with the smallest held-out loss), ``perplexity.png`` or
    ``loss.png``; where asked for, ``steps.jsonl``, ``samples.jsonl``, ``tensorboard/`` and
    ``report.html``.

    Args:
        path: the folder; None for a new one, ``runs/<name>`` or ``runs/<name>-2`` and so on.
        name: what a new folder is called after.
        overwrite: whether a run in ``path`` may be replaced.
        resume: whether the run in ``path`` goes on.
        results: names of the files that the task's command writes beside these.

    Nothing is created or removed before `create`.

    Raises:
        RunExistsError: ``path`` is a file, or holds a run and may not be overwritten, or holds none
            to go on with.
    """

    def __init__(
        self,
        path: str | Path | None,
        name: str = "run",
        *,
        overwrite: bool = False,
        resume: bool = False,
        results: Sequence[str] = (),
    ) -> None:
        if path is None:
            names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
            path = next(new for new in (Path("runs", n) for n in names) if not new.exists())
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.steps = self.path / "steps.jsonl"
        self.samples = self.path / "samples.jsonl"
        self.checkpoint = self.path / FILE_NAME
        self.best = self.path / "best.safetensors"
        self.tensorboard = self.path / "tensorboard"
        self.plot = self.path / "perplexity.png"
        self.loss_plot = self.path / "loss.png"
        self.report = self.path / "report.html"
        self.results = tuple(self.path / name for name in results)
        self._overwrite, self._resume = overwrite, resume
        self._claimed = False
        if self.path.exists() and not self.path.is_dir():
            raise RunExistsError(f"{self.path}: expected a folder for the run, got a file")
        if resume and not self.config.exists():
            raise RunExistsError(
                f"{self.path}: expected a run to go on with, got no config.json in it"
            )
        self._expect_room()

    def _expect_room(self) -> None:
        held = [file.name for file in self.files if file.exists()]
        if held and not self._overwrite and not self._resume:
            raise RunExistsError(
                f"{self.path}: expected a folder without a run, got one with {', '.join(held)}; "
                "name another with --out, go on with this run with --resume or replace it with "
                "--overwrite"
            )

    @property
    def files(self) -> tuple[Path, ...]:
        """All that a run may write, whether it is there or not."""
        older = [file for file in versions(self.checkpoint) if file != self.checkpoint]
        return (
            self.checkpoint,
            *older,
            self.best,
            self.config,
            self.metrics,
            self.steps,
            self.samples,
            self.tensorboard,
            self.plot,
            self.loss_plot,
            self.report,
            *self.results,
        )

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Within it no other process trains into the folder or replaces its run.

        Makes the folder. May be entered again within. Raises RunExistsError where another process
        has the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self._claimed:
            yield
            return
        handle = _lock(self.path)
        self._claimed = True
        try:
            yield
        finally:
            self._claimed = False
            _unlock(handle)

    def create(self, config: Mapping[str, Any]) -> None:
        """Makes the folder, removes the files of a run to be overwritten, writes the settings.

        Raises RunExistsError where another process trains into it, or has made a run of it since.
        """
        with self.claimed():
            self._expect_room()
            for file in self.files:
                if file.is_dir():
                    shutil.rmtree(file)
                else:
                    file.unlink(missing_ok=True)
            remove_leftovers(self.checkpoint)
            remove_leftovers(self.config)
            self.write_config(config)

    def read_config(self) -> dict[str, Any]:
        """The settings that are there; nothing where they cannot be read."""
        try:
            found = json.loads(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the settings in place of those that are there."""
        text = json.dumps(dict(config), indent=2) + "\n"
        write_atomically(self.config, text.encode("utf-8"))


def _lock(folder: Path) -> int | None:
    """Locks a folder for this process, where the system can. Raises RunExistsError where another
    process has locked it."""
    if fcntl is None:
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that cannot be opened
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunExistsError(
            f"{folder}: expected a folder that nobody else trains into, got one where another "
            "process does"
        ) from None
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        fcntl.flock(handle, fcntl.LOCK_UN)  # also for children that have inherited the handle
        os.close(handle)
