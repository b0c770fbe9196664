"""The command, called as its user calls it, within the process of a test."""

from __future__ import annotations

import os
import re

from fusedrnn import cli

TEXT = "the time traveller for so it will be convenient to speak of him\n" * 40
SMALL = ["--hidden", "12", "--batch", "4", "--steps", "8", "--epochs", "2"]


def call(capsys, *arguments):
    """Exit code, standard output, standard error."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as exit:
        code = exit.code
    return code, *capsys.readouterr()


def refused(capsys, *arguments, code=1):
    """The one line that says why, after checking that it is one line, by the command."""
    before = sorted(os.listdir())
    got, out, err = call(capsys, *arguments)
    assert got == code
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert "Traceback" not in err
    if code == 1:
        assert line.startswith(f"fusedrnn {arguments[0]}: error: ")
        assert len(err.strip().splitlines()) == 1
    else:  # argparse, which names the command within the command too
        assert re.match(rf"fusedrnn {arguments[0]}( \w+)?: error: ", line)
    assert sorted(os.listdir()) == before
    return line
