"""The numbers of a run as TensorBoard reads them."""

from __future__ import annotations

import sys

import pytest

from fusedrnn.train import RunFolder, Settings, train
from fusedrnn.train.metrics import read_metrics
from fusedrnn.train.tensorboard import TensorBoardUnavailableError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:google|tensorboard")


def _scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(each.step, each.value) for each in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_what_the_records_say(make_task, tmp_path):
    pytest.importorskip("tensorboard")
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    settings = {"lr": 0.01, "log_every": 2, "tensorboard": True}
    train(make_task(), Settings(epochs=2, **settings), folder)
    train(make_task(), Settings(epochs=3, **settings), folder, resume=True)
    scalars = _scalars(folder.tensorboard)
    epochs, steps = (list(read_metrics(path)) for path in (folder.metrics, folder.steps))
    for key in ("loss", "valid_loss", "grad_norm", "lr"):
        expected = [(each["epoch"], pytest.approx(each[key], rel=1e-6)) for each in epochs]
        assert scalars[f"epoch/{key}"] == expected
    expected = [(each["update"], pytest.approx(each["loss"], rel=1e-6)) for each in steps]
    assert scalars["update/loss"] == expected


def test_without_tensorboard_the_error_says_what_to_install(make_task, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    with pytest.raises(TensorBoardUnavailableError, match=r"pip install 'fusedrnn\[tensorboard\]'"):
        train(make_task(), Settings(epochs=1, tensorboard=True), folder)
