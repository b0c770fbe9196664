"""The `fusedrnn` command.

Exit codes: 0 done; 1 the work could not be done (a text, checkpoint or folder that does not serve);
2 a flag that cannot be; 130 interrupted. Errors are one line on standard error.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

import fusedrnn
from fusedrnn import _C
from fusedrnn.commands import (
    classify,
    corpus,
    evaluate,
    forecast,
    gradients,
    info,
    report,
    sample,
    tag,
    train,
    translate,
)
from fusedrnn.errors import UserError

COMMANDS = (
    train,
    sample,
    evaluate,
    info,
    corpus,
    translate,
    forecast,
    gradients,
    classify,
    tag,
    report,
)


class _SettingError(UserError, ValueError):
    """An environment variable that asks for what this machine does not have."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (None: those of the process); returns the exit code."""
    args = parse(sys.argv[1:] if argv is None else argv)
    run: Callable[[argparse.Namespace], int] = args.run
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character of a sample gets its number instead of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_instruction_set()
        return run(args)
    except UserError as error:
        message = str(error)
    except BrokenPipeError:  # whoever read the output has gone, e.g. `head`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  nothing is left to write or to close
        return 1
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    print(f"fusedrnn {args.command}: error: {message}", file=sys.stderr)
    return 1


def parse(words: Sequence[str]) -> argparse.Namespace:
    """What the words of a command line ask for; ``words`` itself says how a run goes on, and which
    flags were given."""
    args = _build_parser().parse_args(words)
    args.words = list(words)
    return args


def _build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; the namespace it returns names its command in ``run``."""
    parser = argparse.ArgumentParser(
        prog="fusedrnn", description="Recurrent models on fused kernels."
    )
    parser.add_argument("--version", action="version", version=f"fusedrnn {fusedrnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.add(commands)
    return parser


def _check_instruction_set() -> None:
    """Makes the choice of kernels now, so that a wrong FUSEDRNN_ISA is found before any work."""
    try:
        _C.isa()
    except RuntimeError as error:
        raise _SettingError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
