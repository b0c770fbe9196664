"""The command itself: help, info, errors, terminals and readers that leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from command_line import SMALL, call

import fusedrnn

pytestmark = pytest.mark.usefixtures("text_folder")


def test_info(capsys):
    code, out, _ = call(capsys, "info", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["version"] == fusedrnn.__version__
    assert facts["isa"] in facts["available_isas"]
    assert facts["threads"] >= 1
    assert {"torch", "cuda_build", "cuda_device"} <= facts.keys()
    code, out, _ = call(capsys, "info")
    assert all(name in out for name in facts)


def test_help_names_every_command_and_flag(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert all(command in out for command in ("train", "sample", "eval", "info"))
    _, out, _ = call(capsys, "train", "--help")
    named = "cell hidden layers embedding tokens filter max-tokens batch steps order optimizer lr"
    for flag in f"{named} clip dropout epochs valid-fraction device seed out".split():
        assert f"--{flag}" in out
    assert "(default: None)" not in out


def test_the_command_as_a_module_on_a_narrow_terminal(capsys, tmp_path):
    (tmp_path / "greek.txt").write_text("αβγδ " * 200, encoding="utf-8")
    call(capsys, "train", "greek.txt", *SMALL, "--out", "run")
    process = subprocess.run(
        [sys.executable, "-m", "fusedrnn", "sample", "run", "--prompt", "αβ"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.startswith(r"\u03b1\u03b2")


def test_no_command_is_an_error(capsys):
    code, _, err = call(capsys)
    assert code == 2
    assert "required: COMMAND" in err


def test_a_reader_that_leaves_early_is_no_error(trained):
    code = "import sys; from fusedrnn.cli import main; sys.exit(main(sys.argv[1:]))"
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-c", code, "sample", "run"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert process.returncode == 1
    assert process.stderr == ""
