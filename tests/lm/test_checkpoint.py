"""Checkpoints: exact both ways, atomic, and a clear error for everything that is not one."""

from __future__ import annotations

import json
import os
import pickle
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from fusedrnn.lm import Checkpoint, CheckpointError, LanguageModel, load_checkpoint, save_checkpoint
from fusedrnn.lm.model import CELLS
from fusedrnn.text import CharTokenizer, Vocab, WordTokenizer
from fusedrnn.train import checkpoint as module
from fusedrnn.train import files

NAME = "checkpoint.safetensors"


def _checkpoint(cell="gru", seed=0, tokenizer=None, **options):
    torch.manual_seed(seed)
    vocab = Vocab(["a", "b", "\ud800", "\n", "\x00"], reserved=["<pad>"])
    model = LanguageModel(len(vocab), cell, **{"hidden": 6, **options})
    return Checkpoint(model, tokenizer or CharTokenizer(), vocab, {"epochs": 3})


def _about(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["fusedrnn"])


def _rewrite(path, tensors=None, **changes):
    about = _about(path)
    for name, value in changes.items():
        (about["about"] if name in ("model", "tokenizer", "vocab") else about)[name] = value
    save_file(tensors or load_file(path), path, {"fusedrnn": json.dumps(about)})


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"layers": 2, "embedding": 4, "dropout": 0.25}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_loaded_is_what_was_saved(tmp_path, cell, options, dtype):
    saved = _checkpoint(cell, tokenizer=WordTokenizer("letters"), **options)
    saved.model.to(dtype)
    save_checkpoint(tmp_path / NAME, saved)
    random_state = torch.get_rng_state()
    for path in (tmp_path, tmp_path / NAME):
        loaded = load_checkpoint(path)
        assert loaded.model.config == saved.model.config
        assert loaded.tokenizer == saved.tokenizer
        assert loaded.vocab == saved.vocab
        assert loaded.info == {"epochs": 3}
        state = saved.model.state_dict()
        assert loaded.model.state_dict().keys() == state.keys()
        for name, value in loaded.model.state_dict().items():
            assert value.dtype == dtype
            assert torch.equal(value, state[name])
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_loaded_model_computes_and_trains_like_the_saved_one(tmp_path):
    saved = _checkpoint("lstm", layers=2)
    save_checkpoint(tmp_path / NAME, saved)
    loaded = load_checkpoint(tmp_path)
    ids = torch.tensor([[1, 2], [3, 4]])
    for model in (saved.model, loaded.model):
        model(ids)[0].square().sum().backward()
    assert torch.equal(saved.model(ids)[0], loaded.model(ids)[0])
    for mine, other in zip(saved.model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)


def test_the_file_is_safetensors_and_json(tmp_path):
    save_checkpoint(tmp_path / NAME, _checkpoint())
    assert all(name.startswith("model.") for name in load_file(tmp_path / NAME))
    assert _about(tmp_path / NAME)["about"]["model"]["cell"] == "gru"


def test_the_file_gets_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    save_checkpoint(tmp_path / NAME, _checkpoint())
    usual, got = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", NAME))
    assert got == usual


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    save_checkpoint(tmp_path / NAME, _checkpoint(seed=0))
    before = (tmp_path / NAME).read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if failing == "write":
            patch.setattr(module, "to_bytes", lambda *_: FailingBytes())
        elif failing == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(files.Path, "replace", fail)
        with pytest.raises((OSError, TypeError)):
            save_checkpoint(tmp_path / NAME, _checkpoint(seed=1))
    assert os.listdir(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == before
    save_checkpoint(tmp_path / NAME, _checkpoint(seed=1))
    assert (tmp_path / NAME).read_bytes() != before
    assert os.listdir(tmp_path) == [NAME]


class FailingBytes:
    """Not bytes: a file refuses to write it, after it was opened."""


@pytest.mark.parametrize("part", [0, 1, 7, 8, 9, 100, -1, -4, 0.5, 0.9])
def test_a_truncated_file(tmp_path, part):
    path = tmp_path / NAME
    save_checkpoint(path, _checkpoint())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole)) if isinstance(part, float) else part])
    with pytest.raises(CheckpointError, match="truncated or foreign file"):
        load_checkpoint(path)


class Explosive:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("kind", ["text", "pickle", "torch", "safetensors", "metadata", "folder"])
def test_a_foreign_file(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / NAME
    if kind == "text":
        path.write_text("a plain text")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Explosive()))
    elif kind == "torch":
        torch.save({"model": Explosive()}, path)
    elif kind == "safetensors":
        save_file({"w": torch.zeros(2)}, path)
    elif kind == "metadata":
        save_file({"w": torch.zeros(2)}, path, {"fusedrnn": "{"})
    else:
        path.mkdir()
    with pytest.raises(CheckpointError, match=r"expected a checkpoint.*, got"):
        load_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file_or_an_empty_folder(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / "none" / NAME):
        with pytest.raises(CheckpointError, match="expected a checkpoint, got no such file"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, "expected checkpoint version 2, got 3"),
        ({"kind": "series"}, "expected a checkpoint of kind .language model., got one of .series."),
        ({"format": "x"}, "of another kind"),
        ({"model": None}, "expected a whole checkpoint"),
        ({"model": {}}, "expected a whole checkpoint"),
        ({"model": {"vocab_size": 7, "code": "print()"}}, "expected a whole checkpoint"),
        ({"model": {"vocab_size": 7, "cell": "gru", "hidden": 10**6}}, "expected shape"),
        ({"model": {"vocab_size": 7, "cell": "gru", "hidden": 10**9}}, "expected a whole"),
        ({"model": {"vocab_size": 7, "cell": "lstm", "hidden": 6}}, "expected shape"),
        ({"model": {"vocab_size": 7, "cell": "gru", "hidden": "6"}}, "hidden: expected a whole"),
        ({"tokenizer": {"name": "morse", "filter": "none"}}, "expected one of .*char, .*word"),
        ({"vocab": Vocab("ab").to_dict()}, "expected a vocabulary of 7 entries, got 3"),
        ({"vocab": {}}, "expected a whole checkpoint"),
        ({"info": 3}, "expected a whole checkpoint"),
    ],
)
def test_a_damaged_description(tmp_path, changes, message):
    path = tmp_path / NAME
    save_checkpoint(path, _checkpoint())
    _rewrite(path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def _drop(tensors):
    del tensors["model.head.bias"]


def _add(tensors):
    tensors["model.more"] = torch.zeros(1)


def _integers(tensors):
    tensors["model.head.bias"] = tensors["model.head.bias"].long()


def _mix(tensors):
    tensors["model.head.bias"] = tensors["model.head.bias"].double()


def _reshape(tensors):
    tensors["model.head.bias"] = tensors["model.head.bias"].view(1, -1)


@pytest.mark.parametrize("damage", [_drop, _add, _integers, _mix, _reshape])
def test_damaged_tensors(tmp_path, damage):
    path = tmp_path / NAME
    save_checkpoint(path, _checkpoint())
    tensors = load_file(path)
    damage(tensors)
    _rewrite(path, tensors)
    with pytest.raises(CheckpointError, match=r"expected (shape|one floating dtype)"):
        load_checkpoint(path)
