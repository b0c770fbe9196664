"""Makes the runs and the page ``docs/reproduced.md``.

    python -m benchmarks.reproduce                    all of them (about two hours)
    python -m benchmarks.reproduce forecasting        the tables named
    python -m benchmarks.reproduce --only lstm        the rows whose name holds this word
    python -m benchmarks.reproduce --page             the page alone, from the record

Each row is written down as soon as it is known. A module of this package with a list ``TABLE`` of
(name of the row, function that makes it) is a table; the function returns the other columns.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks.machine import ROOT, facts_line
from benchmarks.reproduce import record as records

TITLES = {
    "language_model": "Language models",
    "forecast": "Forecasting",
    "translate": "Translation",
    "gradients": "What gradients do",
    "label": "Classification, tagging and long memory",
}
RECORD = ROOT / "benchmarks/results/reproduced.json"
PAGE = ROOT / "docs/reproduced.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.reproduce", description=__doc__.split("\n")[0]
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TITLES)}")
    parser.add_argument("--only", default="", metavar="WORD", help="rows whose name holds it")
    parser.add_argument("--page", action="store_true", help="make the page from the record alone")
    args = parser.parse_args()
    for table in args.tables:
        if table not in TITLES:
            parser.error(f"table: expected one of {', '.join(TITLES)}, got {table!r}")
    record = records.load(RECORD)
    failed = 0
    for table in [] if args.page else args.tables or TITLES:
        failed += _make(record, table, args.only)
    _write_page(record, PAGE)
    return 1 if failed else 0


def _make(record: dict[str, object], table: str, only: str) -> int:
    """Makes the rows of a table; returns how many of them failed."""
    failed = 0
    for name, make in importlib.import_module(f"benchmarks.reproduce.{table}").TABLE:
        if only not in name:
            continue
        print(f"{table}: {name} ...", flush=True)
        begin = time.perf_counter()
        try:
            row = {"name": name, **make()}
        except Exception as error:  # one run that fails must not lose the others
            failed += 1
            print(f"  failed: {error}", file=sys.stderr)
            continue
        row.setdefault("seconds", round(time.perf_counter() - begin))
        record["machine"] = facts_line()
        records.merge(record, table, row)
        records.save(RECORD, record)
        print(f"  {row['ours']} in {row['seconds']} s", flush=True)
    return failed


def _write_page(record: dict[str, object], path: Path) -> None:
    path.write_text(records.page(record, TITLES, str(record.get("machine"))), encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
