"""The picture of a run."""

from __future__ import annotations

import sys

import pytest

from fusedrnn.lm import PlotUnavailableError, plot_perplexity

EPOCHS = [{"epoch": i, "perplexity": 20 / i, "valid_perplexity": 22 / i} for i in range(1, 8)]
FLOORS = {"unigram": 17.4, "bigram": 9.87}


@pytest.mark.parametrize("epochs", [EPOCHS, EPOCHS[:1], [{"epoch": 1, "perplexity": 3.0}], []])
def test_a_picture_is_written(tmp_path, epochs):
    Image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "perplexity.png"
    plot_perplexity(path, epochs, FLOORS, "a title")
    pixels = Image.imread(path)
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 500
    assert pixels[..., :3].min() < 0.5 < pixels[..., :3].max()


def test_what_is_drawn_is_what_was_measured(tmp_path, monkeypatch):
    figure_module = pytest.importorskip("matplotlib.figure")
    kept = []
    monkeypatch.setattr(
        figure_module.Figure, "savefig", lambda self, *_args, **_options: kept.append(self)
    )
    plot_perplexity(tmp_path / "p.png", EPOCHS, FLOORS, "a title")
    (axes,) = kept[0].axes
    lines = {line.get_label().split(" (")[0]: line for line in axes.get_lines()}
    assert list(lines["training"].get_xdata()) == [1, 2, 3, 4, 5, 6, 7]
    assert list(lines["training"].get_ydata()) == [e["perplexity"] for e in EPOCHS]
    assert list(lines["held out"].get_ydata()) == [e["valid_perplexity"] for e in EPOCHS]
    assert set(lines["unigram"].get_ydata()) == {17.4}
    assert set(lines["bigram"].get_ydata()) == {9.87}
    assert axes.get_xlabel() == "epoch"
    assert "perplexity" in axes.get_ylabel()


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotUnavailableError, match=r"pip install 'fusedrnn\[plot\]'"):
        plot_perplexity(tmp_path / "p.png", EPOCHS, FLOORS, "a title")
    assert list(tmp_path.iterdir()) == []
