"""Which flags were given, and that useless ones are refused."""

from __future__ import annotations

import argparse

import pytest

from fusedrnn.commands.flags import FlagError, given, refuse

FLAGS = {"time": None, "time_format": None, "horizon": 1, "bidirectional": True, "file": None}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], []),
        (["file.csv", "horizon"], []),
        (["--horizon", "1"], ["horizon"]),
        (["--horizon=1", "--no-bidirectional"], ["horizon", "bidirectional"]),
        (["--hor", "1"], ["horizon"]),
        (["--time", "t"], ["time"]),
        (["--time-f", "%Y", "--time-format=%Y"], ["time_format", "time_format"]),
        (["--", "--horizon"], []),
    ],
    ids=str,
)
def test_given_flags(words, found):
    args = argparse.Namespace(**FLAGS, words=["forecast", *words])
    assert given(args) == found


def test_what_would_do_nothing_is_refused():
    args = argparse.Namespace(**FLAGS, words=["--time-format", "%Y"])
    refuse(args, ["horizon", "time"], "expected nothing")
    with pytest.raises(FlagError, match=r"^--time-format: expected nothing$"):
        refuse(args, ["horizon", "time_format"], "expected nothing")
