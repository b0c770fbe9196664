"""Short runs of training in a folder, and all that they leave there."""

from __future__ import annotations

from fusedrnn.train import RunFolder, Settings, checkpoint
from fusedrnn.train.metrics import read_metrics


class Killed(BaseException):
    """What a process does not survive, as nothing in the loop may catch it."""


def folder_of(path, **options):
    folder = RunFolder(path, **options)
    if not options:
        folder.create({})
    return folder


def settings_of(**changes):
    return Settings(**{"epochs": 4, "lr": 0.01, "log_every": 1, "save_every_s": 0.0, **changes})


def lines_of(path):
    timed = ("seconds", "numbers_per_s")
    return [{k: v for k, v in line.items() if k not in timed} for line in read_metrics(path)]


def everything_of(folder):
    found = checkpoint.read(folder.checkpoint, "running sums", training=True)
    tensors = {**found.model, **found.training.tensors}
    records = [lines_of(path) for path in (folder.metrics, folder.steps)]
    return {name: each.tolist() for name, each in tensors.items()}, records, found.info


def killed_at(update):
    def die(now):
        if now.update == update:
            raise Killed

    return die
