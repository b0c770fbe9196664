"""`fusedrnn report`: a run as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fusedrnn.commands.flags import command
from fusedrnn.train.report import write_report


def add(commands: Any) -> None:
    parser = command(commands, "report", run, "write the report of a run as one HTML file")
    parser.add_argument("folder", metavar="RUN", help="folder of a run, of any task")
    parser.add_argument(
        "--out", metavar="FILE", help="where to (default: report.html in the folder)"
    )


def run(args: argparse.Namespace) -> int:
    print(write_report(Path(args.folder), Path(args.out) if args.out else None))
    return 0
