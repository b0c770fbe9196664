"""A run of training on disk and on screen: its folder and its progress bar."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from fusedrnn.errors import UserError
from fusedrnn.lm.checkpoint import FILE_NAME
from fusedrnn.lm.metrics import perplexity


class RunExistsError(UserError, RuntimeError):
    """The folder of a new run holds another run, or cannot be a folder."""


class RunFolder:
    """The folder of a run: ``config.json`` (the settings, to read), ``metrics.jsonl`` (one object
    per epoch), ``checkpoint.safetensors`` and ``perplexity.png``.

    Args:
        path: the folder; None for a new one, ``runs/<name>`` or ``runs/<name>-2`` and so on.
        name: what a new folder is called after.
        overwrite: whether a run in ``path`` may be replaced.

    Nothing is created or removed before `create`.

    Raises:
        RunExistsError: ``path`` is a file, or holds a run and may not be overwritten.
    """

    def __init__(self, path: str | Path | None, name: str, *, overwrite: bool = False) -> None:
        if path is None:
            names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
            path = next(new for new in (Path("runs", n) for n in names) if not new.exists())
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoint = self.path / FILE_NAME
        self.plot = self.path / "perplexity.png"
        self.files = (self.checkpoint, self.config, self.metrics, self.plot)
        if self.path.exists() and not self.path.is_dir():
            raise RunExistsError(f"{self.path}: expected a folder for the run, got a file")
        held = [file.name for file in self.files if file.exists()]
        if held and not overwrite:
            raise RunExistsError(
                f"{self.path}: expected a folder without a run, got one with {', '.join(held)}; "
                "name another with --out or replace this run with --overwrite"
            )

    def create(self, config: Mapping[str, Any]) -> None:
        """Makes the folder, removes the files of a run to be overwritten, writes the settings."""
        self.path.mkdir(parents=True, exist_ok=True)
        for file in self.files:
            file.unlink(missing_ok=True)
        self.config.write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")


class Progress:
    """A bar over the tokens of all epochs, on standard error.

    Args:
        tokens_of: how many tokens an epoch, counted from 0, trains on.
        epochs: number of epochs.

    The loss is read from its tensor only when the bar is about to be drawn, because reading it
    waits for the device.
    """

    def __init__(self, tokens_of: Callable[[int], int], epochs: int) -> None:
        # A terminal is redrawn often; a log file gets a line now and then.
        self._interval = 0.2 if sys.stderr.isatty() else 10.0
        self._tokens_of, self._epochs = tokens_of, epochs
        self._drawn = time.monotonic()
        self._bar = tqdm(
            unit=" tokens",
            unit_scale=True,
            mininterval=self._interval,
            dynamic_ncols=True,
        )
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """To be called before each epoch, counted from 0."""
        if epoch < self._epochs:
            # Epochs differ by a batch now and then: taken for equal to this one, they end right.
            remaining = (self._epochs - epoch) * self._tokens_of(epoch)
            self._bar.total = self._bar.n + remaining
            self._bar.set_description(f"epoch {epoch + 1}/{self._epochs}", refresh=False)

    def step(self, tokens: int, loss: Tensor) -> None:
        """To be called after each training step with its tokens and its mean loss."""
        now = time.monotonic()
        if now - self._drawn >= self._interval:
            self._drawn = now
            value = loss.item()
            shown = f"loss {value:.3f}, perplexity {perplexity(value):.2f}"
            self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update(tokens)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()
