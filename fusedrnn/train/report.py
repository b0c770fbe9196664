"""The report of a run: one HTML file that opens anywhere, without a network.

Everything of the run's folder that a person looks at: curves over epochs (and over updates, where
``steps.jsonl`` has them), samples over time, floors, settings, machine, versions, the command.
"""

from __future__ import annotations

import html
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fusedrnn.errors import UserError
from fusedrnn.train.report_curves import charts_of
from fusedrnn.train.report_floors import floor_rows

FILE_NAME = "report.html"


class ReportError(UserError, RuntimeError):
    """A folder that holds no run to report on."""


def write_report(folder: Path, to: Path | None = None) -> Path:
    """Writes the report of the run in ``folder``.

    Args:
        to: the file; None for ``report.html`` in the folder.

    Returns:
        Where it is.

    Raises:
        ReportError: no run in the folder, or one without a finished epoch.
        OSError: the file cannot be written.
    """
    to = folder / FILE_NAME if to is None else to
    to.write_text(make_report(folder), encoding="utf-8")
    return to


def make_report(folder: Path) -> str:
    """The report as HTML; errors as `write_report`."""
    epochs = _lines(folder, "metrics.jsonl")
    if not epochs:
        raise ReportError(
            f"{folder}: expected a run with a finished epoch, got none in metrics.jsonl"
        )
    config = _config(folder)
    about = config.pop("about", {})
    about = about if isinstance(about, dict) else {}
    charts = charts_of(epochs, _lines(folder, "steps.jsonl"), about)
    samples = _samples(_lines(folder, "samples.jsonl"))
    parts = [
        _facts(epochs, about),
        '<h2>Curves</h2>\n<div class="charts" id="charts"></div>',
        "<noscript><p>The curves are drawn by a script in this file.</p></noscript>",
        _sample_section(samples),
        _tables(config, about, floor_rows(epochs, about, _number)),
        _command(about, config),
        f"<footer>{_text(_origin(folder, about))}</footer>",
    ]
    return _page(
        title=folder.resolve().name,
        subtitle=str(about.get("kind", "run")),
        body="\n".join(part for part in parts if part),
        data=json.dumps({"charts": charts, "samples": samples}),
    )


def _page(**parts: str) -> str:
    page = files("fusedrnn.train").joinpath("page")
    style, script = (page.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    made = page.joinpath("page.html").read_text("utf-8")
    values = {
        "title": _text(parts["title"]),
        "subtitle": _text(parts["subtitle"]),
        "style": style.strip(),
        "script": script.strip(),
        # A text may hold "</script>"; within JSON's strings "<" has another spelling.
        "data": parts["data"].replace("<", "\\u003c"),
        "body": parts["body"],
    }
    pieces = made.split("{{")
    return pieces[0] + "".join(
        values[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:])
    )


# --- what is in the folder -----------------------------------------------------------------------


def _lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The objects of a file of the run; none where there is no such file.

    A last line without its end is left out: the run may be writing it.
    """
    try:
        whole = (folder / name).read_text("utf-8").rpartition("\n")[0]
        found = [json.loads(line) for line in whole.splitlines() if line]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except ValueError as error:
        raise ReportError(f"{folder / name}: expected an object a line, got: {error}") from error
    if not all(isinstance(line, dict) for line in found):
        raise ReportError(f"{folder / name}: expected an object a line, got something else")
    return found


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ReportError(f"{folder / 'config.json'}: expected JSON, got: {error}") from error
    return found if isinstance(found, dict) else {}


def _samples(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    by_epoch: dict[int, list[str]] = {}
    for line in lines:
        by_epoch.setdefault(line.get("epoch", 0), []).append(str(line.get("text", "")))
    return [{"epoch": epoch, "texts": texts} for epoch, texts in sorted(by_epoch.items())]


# --- the parts of the page -----------------------------------------------------------------------


def _facts(epochs: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    last = epochs[-1]
    facts = {"epochs": f"{len(epochs)}"}
    for key, what in (
        ("valid_perplexity", "perplexity, best held out"),
        ("valid_loss", "loss, best held out"),
        ("perplexity", "perplexity in training, last"),
        ("loss", "loss in training, last"),
    ):
        values = [each[key] for each in epochs if _finite(each.get(key))]
        if values:
            facts[what] = _number(min(values) if key.startswith("valid") else values[-1])
    seconds = math.fsum(each.get("seconds", 0.0) for each in epochs)
    facts["training"] = _duration(seconds)
    for key in last:
        if key.endswith("_per_s"):
            count = math.fsum(each.get(key.removesuffix("_per_s"), 0) for each in epochs)
            facts[f"{key.removesuffix('_per_s')}/s"] = f"{count / max(seconds, 1e-9):,.0f}"
    if "parameters" in about:
        facts["parameters"] = f"{about['parameters']:,}"
    cells = (
        f'<div class="fact"><b>{_text(v)}</b><span>{_text(k)}</span></div>'
        for k, v in facts.items()
    )
    return '<div class="facts">' + "".join(cells) + "</div>"


def _sample_section(samples: Sequence[Mapping[str, Any]]) -> str:
    if not samples:
        return ""
    last = len(samples) - 1
    return (
        '<h2>Samples</h2>\n<label class="slider"><span id="epoch-label"></span>'
        f'<input type="range" id="epoch" min="0" max="{last}" value="{last}"></label>\n'
        '<div id="texts"></div>'
    )


def _tables(config: Mapping[str, Any], about: Mapping[str, Any], floors: Mapping[str, str]) -> str:
    tables = {
        "Floors": floors,
        "Configuration": config,
        "Machine": about.get("machine", {}),
        "Versions": about.get("versions", {}),
    }
    shown = (
        f'<div class="box"><h3>{title}</h3>{_table(rows)}</div>'
        for title, rows in tables.items()
        if rows
    )
    return '<h2>The run</h2>\n<div class="tables">' + "\n".join(shown) + "</div>"


def _table(rows: Mapping[str, Any]) -> str:
    def value(of: Any) -> str:
        return _text("none" if of is None else of if isinstance(of, str) else json.dumps(of))

    cells = (f"<tr><td>{_text(k)}</td><td>{value(v)}</td></tr>" for k, v in rows.items())
    return "<table>" + "".join(cells) + "</table>"


def _command(about: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """How to make the run again, in another folder than that of this one."""
    if "command" not in about:
        return ""
    words = shlex.split(str(about["command"]))
    out = str(config.get("out") or "")
    words = [word for word in words if word != "--overwrite"]
    if out and out in words:
        words[words.index(out)] = out.rstrip("/") + "-again"
    return f'<h2>To make it again</h2>\n<pre class="box">{_text(shlex.join(words))}</pre>'


def _origin(folder: Path, about: Mapping[str, Any]) -> str:
    started = f", begun {about['started']}" if "started" in about else ""
    return f"{folder}{started}. More: metrics.jsonl and config.json in that folder."


def _text(value: object) -> str:
    return html.escape(str(value))


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
