"""Corpora whose making was broken off, by a kill or between the passes, or whose notes are damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from corpus_text import TEXT, same

from fusedrnn.text import (
    CharTokenizer,
    TextError,
    WordTokenizer,
    load_corpus,
    passes,
    store,
)

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("tokenizer", [CharTokenizer("letters"), WordTokenizer()], ids=repr)
def test_broken_off_at_any_save_and_gone_on_with(monkeypatch, tokenizer):
    """Every pass is killed at its first save, its second, ...; at last one comes through."""
    expected = load_corpus("text.txt", tokenizer, cached=False, valid_fraction=0.2)
    monkeypatch.setattr(store, "SAVE_EVERY_S", 0.0)
    real = store.write_json

    class Killed(BaseException):
        pass

    for attempt in range(1, 100):  # a pass that began anew every time would never end
        left = [attempt % 3 + 1]

        def write(path, value, left=left):
            real(path, value)
            left[0] -= path.name in ("counting.json", "encoding.json")
            if not left[0]:
                if path.name == "encoding.json":  # what was written after the state was saved
                    with open(path.with_name("ids.bin"), "ab") as file:
                        file.write(b"more")
                raise Killed

        monkeypatch.setattr(store, "write_json", write)
        try:
            corpus = load_corpus("text.txt", tokenizer, cached=True, valid_fraction=0.2)
            break
        except Killed:
            continue
    assert 5 < attempt < 99
    same(corpus, expected)
    assert corpus.train_sizes == expected.train_sizes
    assert sorted(os.listdir(next((store.cache_folder() / "corpora").iterdir()))) == [
        "about.json",
        "ids.bin",
        "lock",
    ]


_NOTES = ["prepared.json", "counting.json", "counted.json", "encoding.json", "about.json"]
_ABOUT_OF_OLD = {"sizes": {"tokens": 4}, "width": 1}


@pytest.mark.parametrize("name", _NOTES)
@pytest.mark.parametrize("shape", [{}, [], None, 3, "text", [[]], {"vocab": {}}, _ABOUT_OF_OLD])
def test_notes_of_another_shape_count_as_none(name, shape):
    expected = load_corpus("text.txt", CharTokenizer(), cached=True, valid_fraction=0.2)
    (folder,) = (store.cache_folder() / "corpora").iterdir()
    if name != "about.json":
        (folder / "about.json").unlink()
    (folder / name).write_text(json.dumps(shape))
    again = load_corpus("text.txt", CharTokenizer(), cached=True, valid_fraction=0.2)
    same(again, expected)
    assert again.train_sizes == expected.train_sizes


def test_a_corpus_that_is_made_anew_leaves_what_was_mapped_as_it_is():
    mapped = load_corpus("text.txt", CharTokenizer(), cached=True)
    before = mapped.train.clone()
    (folder,) = (store.cache_folder() / "corpora").iterdir()
    about = json.loads((folder / "about.json").read_text())
    del about["sizes"]["skipped"]  # as notes of before have it
    (folder / "about.json").write_text(json.dumps(about))
    file = (folder / "ids.bin").stat().st_ino
    same(load_corpus("text.txt", CharTokenizer(), cached=True), mapped)
    assert (folder / "ids.bin").stat().st_ino != file
    assert torch.equal(mapped.train, before)


@pytest.mark.parametrize("missing", ["stamp", "sha256", "size"])
def test_a_hash_that_lacks_something_is_made_anew(missing):
    expected = load_corpus("text.txt", CharTokenizer(), cached=True)
    (note,) = (store.cache_folder() / "hashes").iterdir()
    whole = json.loads(note.read_text())
    note.write_text(json.dumps({name: whole[name] for name in whole if name != missing}))
    assert load_corpus("text.txt", CharTokenizer(), cached=True).digest == expected.digest
    assert json.loads(note.read_text()) == whole


@pytest.mark.parametrize("field", ["width", "train", "sizes", "documents", "vocab", "tokenizer"])
def test_a_whole_corpus_with_a_damaged_field_is_made_anew(field):
    expected = load_corpus("text.txt", CharTokenizer(), cached=True, valid_fraction=0.2)
    (folder,) = (store.cache_folder() / "corpora").iterdir()
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, field: ["damaged"]}))
    same(load_corpus("text.txt", CharTokenizer(), cached=True, valid_fraction=0.2), expected)


def test_killed_by_the_system_and_gone_on_with(tmp_path):
    with open("big.txt", "w") as file:
        file.writelines(f"{TEXT}{n}\n" for n in range(300))
    code = (
        "from fusedrnn.text import *; from fusedrnn.text import store; store.SAVE_EVERY_S = 0.01\n"
        "load_corpus('big.txt', WordTokenizer(), cached=True, valid_fraction=0.1)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kills = 0
    for delay in (0.0, 0.02, 0.05):
        child = subprocess.Popen([sys.executable, "-c", code], env=environment)
        folder = tmp_path / "cache" / "corpora"
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if list(folder.glob("*/*ing.json")):
                time.sleep(delay)
                child.send_signal(signal.SIGKILL)
                kills += child.wait() == -signal.SIGKILL
            time.sleep(0.002)
    assert kills
    corpus = load_corpus("big.txt", WordTokenizer(), cached=True, valid_fraction=0.1)
    same(corpus, load_corpus("big.txt", WordTokenizer(), cached=False, valid_fraction=0.1))


def test_a_text_that_changes_between_the_passes_is_an_error(monkeypatch):
    real = passes.count

    def count(*arguments, **options):
        state = real(*arguments, **options)
        with open("text.txt", "a") as file:
            file.write("more")
        return state

    monkeypatch.setattr("fusedrnn.text.corpus.count", count)
    with pytest.raises(TextError, match="the text changed while it was read"):
        load_corpus("text.txt", CharTokenizer())
