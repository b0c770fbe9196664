"""The layers inside a plain module of Lightning: the example of docs/training.md, run as it stands."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
EXAMPLE = re.compile(r"^```python lightning\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = [
    # Lightning's own: it asks torch in ways that torch calls old, and advises on loaders.
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*log_every_n_steps.*:UserWarning"),
]


def test_the_example_of_the_page_trains(tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what its import brings along
        pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    (example,) = EXAMPLE.findall(PAGE.read_text(encoding="utf-8"))
    names: dict = {}
    exec(compile(example, str(PAGE), "exec"), names)
    trainer, module = names["trainer"], names["module"]
    assert trainer.state.finished
    assert trainer.global_step == 2 * (20_000 // (32 * 35))
    with torch.no_grad():
        batch = next(iter(trainer.train_dataloader))
        module.state = None
        loss = module.training_step(batch, 0)
    assert float(loss) < 3.2  # drawing evenly from its vocabulary would be above 4.3
