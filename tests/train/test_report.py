"""The report of a run: what is in it, and what a browser makes of it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from fusedrnn import cli
from fusedrnn.train.report import ReportError, make_report, write_report

ABOUT = {
    "kind": "language model",
    "unit": "tokens",
    "perplexity": True,
    "parameters": 12345,
    "floors": {"unigram": 24.5, "bigram": 11.25},
    "command": "fusedrnn train 'my text.txt' --hidden 48 --overwrite --out runs/a",
    "started": "2026-01-02 03:04:05 UTC",
    "machine": {"processor": "a <fast> one", "cores": 2},
    "versions": {"torch": "2.13.0"},
}
CONFIG = {"hidden": 48, "out": "runs/a", "text": None, "clip": 1.0, "about": ABOUT}
SAMPLES = [{"epoch": e, "text": f"</script><b>&amp; text {e}\u2028"} for e in (1, 1, 2)]


def epochs(count=4, **more):
    for i in range(1, count + 1):
        loss = 3.0 / i
        yield {
            "epoch": i,
            "loss": loss,
            "perplexity": math.exp(loss),
            "valid_loss": loss + 0.1,
            "valid_perplexity": math.exp(loss + 0.1),
            "tokens": 1000,
            "seconds": 2.0,
            "tokens_per_s": 500.0,
            "grad_norm": 0.5,
            "largest_grad_norm": 0.9,
            "lr": 0.01,
            **more,
        }


def write(folder, **files):
    """A run with these files: lists of objects for .jsonl, an object for the configuration."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        if name == "config":
            (folder / "config.json").write_text(json.dumps(content))
        else:
            lines = "".join(json.dumps(line) + "\n" for line in content)
            (folder / f"{name}.jsonl").write_text(lines)
    return folder


def test_floors_stand_beside_the_run_in_every_unit(tmp_path):
    held_out = {"tokens": 100, "characters": 400, "words": 50, "unknown": 0}
    about = {**ABOUT, "floors": {"unigram": 16.0}, "held_out": held_out}
    lines = list(epochs(2, valid_perplexity=8.0))
    write(tmp_path / "run", metrics=lines, config={"about": about})
    page = make_report(tmp_path / "run")
    cells = re.findall(r"<tr><td>([^<]*)</td><td>([^<]*)</td>", page)
    assert ("unigram", "16, 1 bits per character, 8 bits per word") in cells
    assert ("this run, best held out", "8, 0.75 bits per character, 6 bits per word") in cells


def test_floors_of_losses_may_be_none_at_all(tmp_path):
    about = {**ABOUT, "perplexity": False, "floors": {"naive": 0.0}, "held_out": {}}
    write(tmp_path / "run", metrics=list(epochs(1)), config={"about": about})
    assert "<tr><td>naive</td><td>0</td></tr>" in make_report(tmp_path / "run")


def test_the_report_of_a_language_model_shows_its_smoothed_floors(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("the time traveller for so it will be\n" * 30)
    flags = [
        "--hidden",
        "4",
        "--epochs",
        "1",
        "--batch",
        "4",
        "--steps",
        "16",
        "--valid-fraction",
        "0.1",
    ]
    run = str(tmp_path / "run")
    assert cli.main(["train", str(tmp_path / "text.txt"), *flags, "--out", run]) == 0
    shown = capsys.readouterr().out
    assert cli.main(["report", run]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    name = r"Kneser-Ney, order \d+"
    assert re.search(name + r" +\d\.\d+", shown)
    assert re.search(r"this model +\d\.\d+", shown)
    assert re.search(f"<td>{name}</td><td>[^<]*bits per character[^<]*bits per word</td>", page)
    assert re.search(f'"name": "{name}"', page)  # a level line of the curves


@pytest.fixture
def folder(tmp_path):
    steps = [
        {"epoch": 1, "update": u, "loss": 1 / u, "grad_norm": 1.0, "lr": 0.1} for u in range(1, 60)
    ]
    return write(
        tmp_path / "a-run", metrics=list(epochs()), steps=steps, samples=SAMPLES, config=CONFIG
    )


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found[1])


class _Text(HTMLParser):
    """The text of a page, without scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.words, self._skip = [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._skip = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._skip = False

    def handle_data(self, data):
        if not self._skip:
            self.words.append(data)

    def __str__(self):
        return " ".join(" ".join(self.words).split())


# --- what is in the file -------------------------------------------------------------------------


def test_the_curves_are_those_of_the_metrics(folder):
    charts = {chart["title"]: chart for chart in data_of(make_report(folder))["charts"]}
    assert list(charts) == [
        "perplexity",
        "loss",
        "gradient norm, before clipping",
        "learning rate",
        "tokens/s",
        "loss, update by update",
        "gradient norm, before clipping, update by update",
        "learning rate, update by update",
    ]
    training, held_out = charts["perplexity"]["series"]
    assert (training["name"], held_out["name"]) == ("training", "held out")
    assert training["points"] == [[e["epoch"], e["perplexity"]] for e in epochs()]
    assert held_out["points"] == [[e["epoch"], e["valid_perplexity"]] for e in epochs()]
    assert charts["perplexity"]["levels"] == [
        {"name": "unigram", "value": 24.5},
        {"name": "bigram", "value": 11.25},
    ]
    assert charts["loss"]["levels"] == []
    assert len(charts["loss, update by update"]["series"][0]["points"]) == 59


def test_metrics_of_any_task_get_their_curves(tmp_path):
    lines = [
        {"epoch": i, "loss": 1.0 / i, "windows": 50, "seconds": 1.0, "windows_per_s": 50.0,
         "valid_loss": 2.0 / i, "valid_mae": 0.5, "bleu": 30.0 + i}
        for i in (1, 2, 3)
    ]  # fmt: skip
    about = {"kind": "forecast", "unit": "windows", "perplexity": False, "floors": {"naive": 0.7}}
    run = write(tmp_path / "run", metrics=lines, config={"about": about})
    charts = {chart["title"]: chart for chart in data_of(make_report(run))["charts"]}
    assert list(charts) == ["loss", "mae", "bleu", "windows/s"]
    assert charts["loss"]["levels"] == [{"name": "naive", "value": 0.7}]
    assert [s["name"] for s in charts["mae"]["series"]] == ["held out"]


def test_all_that_a_reader_asks_is_there(folder):
    text = str(_Text(make_report(folder)))
    for said in (
        "a-run", "language model", "4 epochs", "8.0 s training", "500 tokens/s",
        "12,345 parameters", "unigram 24.5", "hidden 48", "text none",
        "processor a <fast> one", "torch 2.13.0", "begun 2026-01-02 03:04:05 UTC",
        "fusedrnn train 'my text.txt' --hidden 48 --out runs/a-again",
    ):  # fmt: skip
        assert said in text
    best = min(math.exp(3.0 / i + 0.1) for i in range(1, 5))
    assert f"{best:.4g} perplexity, best held out" in text


def test_samples_by_epoch_and_no_text_breaks_the_page(folder):
    page = make_report(folder)
    texts = [line["text"] for line in SAMPLES]
    assert data_of(page)["samples"] == [
        {"epoch": 1, "texts": texts[:2]},
        {"epoch": 2, "texts": texts[2:]},
    ]
    assert page.count("</script>") == 2


def test_the_file_needs_no_network(folder):
    page = make_report(folder)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert re.findall(r"https?://[^\s\"]+", page) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|url\(", page)


def test_a_long_run_is_thinned_out_to_its_last_point(tmp_path):
    steps = [{"update": u, "loss": 1.0 / u} for u in range(1, 5001)]
    run = write(tmp_path / "run", metrics=list(epochs(1)), steps=steps)
    (chart,) = (c for c in data_of(make_report(run))["charts"] if c["x"] == "update")
    points = chart["series"][0]["points"]
    assert len(points) <= 1500
    assert points[-1] == [5000, 1.0 / 5000]


def test_a_line_that_is_being_written_is_left_out(folder):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 5, "lo')
    assert "4 epochs" in str(_Text(make_report(folder)))


def test_folders_without_a_run(tmp_path, capsys):
    with pytest.raises(ReportError, match="expected a run with a finished epoch"):
        make_report(tmp_path)
    assert cli.main(["report", str(tmp_path / "absent")]) == 1
    assert "expected a run with a finished epoch" in capsys.readouterr().err
    for name, content in (("metrics.jsonl", "no json\n"), ("metrics.jsonl", "[1]\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ReportError, match="expected an object a line"):
            make_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_command_on_a_run_of_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the time traveller\n" * 60)
    small = ["--hidden", "8", "--batch", "2", "--steps", "8", "--epochs", "2", "--samples", "1"]
    assert cli.main(["train", "text.txt", *small, "--out", "run"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "run"]) == 0
    assert capsys.readouterr().out == f"{os.path.join('run', 'report.html')}\n"
    text = str(_Text((tmp_path / "run" / "report.html").read_text("utf-8")))
    for said in ("2 epochs", "unigram", "instruction set", "fusedrnn "):
        assert said in text
    assert cli.main(["report", "run", "--out", "elsewhere.html"]) == 0
    assert (tmp_path / "elsewhere.html").exists()


# --- what a browser makes of it ------------------------------------------------------------------


def browse(path, *flags):
    """The page as the browser left it, and what its console said."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no chromium on this machine to open the report with")
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--enable-logging=stderr", f"--user-data-dir={path.parent / 'profile'}", *flags,
            "--dump-dom", path.resolve().as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("size", ["1200,900", "500,900"])
def test_a_browser_draws_every_curve(folder, size):
    path = write_report(folder)
    charts = data_of(path.read_text("utf-8"))["charts"]
    page, console = browse(path, f"--window-size={size}")
    assert console == []
    assert f'data-drawn="{len(charts)}"' in page
    curves = re.findall(r'<path class="line" d="M([^"]*)"', page)
    assert [len(curve.split("L")) for curve in curves] == [
        len(series["points"]) for chart in charts for series in chart["series"]
    ]
    assert "NaN" not in "".join(curves)
    assert page.count('class="level"') == 2
    assert "text 2" in page  # the samples of the last epoch
    assert "epoch 2" in page


def test_a_falling_loss_is_drawn_falling(folder):
    page, _ = browse(write_report(folder))
    first = re.search(r'<path class="line" d="M([^"]*)"', page)[1]
    x, y = zip(*(map(float, point.split(",")) for point in first.split("L")), strict=True)
    assert list(x) == sorted(set(x))
    assert list(y) == sorted(set(y))  # downwards on a screen


def test_an_error_in_the_page_would_be_seen(folder):
    path = write_report(folder)
    path.write_text(
        path.read_text("utf-8").replace("const boxes =", "const boxes = nothing && ", 1)
    )
    page, console = browse(path)
    assert "data-drawn" not in page
    assert any("nothing is not defined" in line for line in console)


def test_a_run_of_one_epoch(tmp_path):
    zero = {"grad_norm": 0.0, "largest_grad_norm": 0.0}
    path = write_report(write(tmp_path / "run", metrics=list(epochs(1, **zero))))
    page, console = browse(path)
    assert console == []
    assert "NaN" not in page.partition("<script")[0]
