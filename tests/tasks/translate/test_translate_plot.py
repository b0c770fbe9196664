"""The picture of attention."""

from __future__ import annotations

import sys

import pytest
import torch

from fusedrnn.tasks.translate.plot import plot_attention
from fusedrnn.tasks.translate.predict import Attended
from fusedrnn.train.plot import PlotUnavailableError

ATTENDED = Attended(
    ["i", "$lost_", ".", "<eos>"], ["j'ai", "perdu", "<eos>"], torch.eye(4)[:3] * 0.9 + 0.02
)


def test_what_is_drawn_is_what_was_attended(tmp_path, monkeypatch):
    figure_module = pytest.importorskip("matplotlib.figure")
    kept = []
    monkeypatch.setattr(
        figure_module.Figure, "savefig", lambda self, *_args, **_options: kept.append(self)
    )
    plot_attention(tmp_path / "a.png", ATTENDED)
    axes = kept[0].axes[0]
    (image,) = axes.get_images()
    assert torch.equal(torch.tensor(image.get_array().tolist()), ATTENDED.weights)
    assert image.get_clim() == (0.0, 1.0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ATTENDED.source
    assert [label.get_text() for label in axes.get_yticklabels()] == ATTENDED.target
    assert [text.get_text() for text in axes.texts] == ["0.92", "0.92", "0.92"]


def test_a_picture_is_written(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    plot_attention(tmp_path / "a.png", ATTENDED)
    pixels = image.imread(tmp_path / "a.png")
    assert min(pixels.shape[:2]) > 100
    assert pixels[..., :3].min() < 0.5 < pixels[..., :3].max()


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotUnavailableError, match=r"pip install 'fusedrnn\[plot\]'"):
        plot_attention(tmp_path / "a.png", ATTENDED)
    assert list(tmp_path.iterdir()) == []
