"""Disks that are full, for a while or for good: the run goes on, or ends with what is saved."""

from __future__ import annotations

import resource

import pytest
from runs import everything_of, folder_of, lines_of, settings_of

from fusedrnn.train import SaveError, train


@pytest.fixture
def small_files():
    """A limit on the size of files: writing more fails as on a full disk. (Bytes.)"""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_for_a_while_loses_nothing(make_task, tmp_path, small_files, capsys):
    calm, full = folder_of(tmp_path / "calm"), folder_of(tmp_path / "full")
    train(make_task(), settings_of(), calm)

    def fill(update):
        if update.update == 10:
            small_files(len(calm.checkpoint.read_bytes()) - 100)
        if update.update == 12:
            small_files(resource.RLIM_INFINITY)

    train(make_task(), settings_of(), full, on_step=fill)
    message = "expected to write the run, got: File too large"
    assert message in capsys.readouterr().err
    assert everything_of(full) == everything_of(calm)
    assert not list(full.path.glob(".*"))


def test_a_disk_that_stays_full_leaves_the_checkpoint_before(make_task, tmp_path, small_files):
    calm, full = folder_of(tmp_path / "calm"), folder_of(tmp_path / "full")
    train(make_task(), settings_of(), calm)

    def fill(update):
        if update.update == 10:
            small_files(len(calm.checkpoint.read_bytes()) - 100)

    with pytest.raises(
        SaveError, match=r"File too large; .* holds the run after update 9, epoch 1"
    ):
        train(make_task(), settings_of(), full, on_step=fill)
    small_files(resource.RLIM_INFINITY)
    train(make_task(), settings_of(), full, resume=True)
    assert everything_of(full) == everything_of(calm)


@pytest.mark.parametrize("log_every", [0, 1])
def test_records_that_cannot_be_written_end_the_run_with_what_is_saved(
    make_task, tmp_path, small_files, log_every
):
    calm, full = folder_of(tmp_path / "calm"), folder_of(tmp_path / "full")
    settings = settings_of(log_every=log_every)
    train(make_task(), settings, calm)

    def fill(update):
        if update.update == 10:
            small_files(1)

    with pytest.raises(SaveError, match=r"full: .* File too large; .* holds the run after update"):
        train(make_task(), settings, full, on_step=fill)
    small_files(resource.RLIM_INFINITY)
    train(make_task(), settings, full, resume=True)
    assert lines_of(full.metrics) == lines_of(calm.metrics)
