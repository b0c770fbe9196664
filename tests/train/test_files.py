"""A file is written whole or not at all, with older versions beside it."""

from __future__ import annotations

import os
import stat

import pytest
from runs import Killed

from fusedrnn.train import files


def test_the_file_gets_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    files.write_atomically(tmp_path / "file", b"x")
    usual, got = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "file"))
    assert got == usual


def test_without_hard_links_older_versions_are_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    for data in (b"1", b"2", b"3"):
        files.write_atomically(tmp_path / "a.b", data, keep=3)
    assert [files.previous(tmp_path / "a.b", i).read_bytes() for i in range(3)] == [
        b"3",
        b"2",
        b"1",
    ]


@pytest.mark.parametrize("part", [0, 1, 2])
def test_at_every_moment_the_file_is_whole(tmp_path, monkeypatch, part):
    """A kill between any two steps of a write leaves a whole file under its own name."""
    path = tmp_path / "a.b"
    for data in (b"1", b"2"):
        files.write_atomically(path, data, keep=3)
    calls = []

    def count(function):
        def call(*arguments, **options):
            calls.append(function)
            if len(calls) > part:
                raise Killed
            return function(*arguments, **options)

        return call

    for owner, name in ((os, "link"), (os, "fsync"), (files.Path, "replace")):
        monkeypatch.setattr(owner, name, count(getattr(owner, name)))
    with pytest.raises(Killed):
        files.write_atomically(path, b"3", keep=3)
    assert path.read_bytes() == b"2"
