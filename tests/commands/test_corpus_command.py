"""`fusedrnn corpus`, as its user meets it."""

from __future__ import annotations

import json
import os

import pytest

from fusedrnn import cli


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSEDRNN_CACHE", str(tmp_path / "cache"))


def _run(capsys, *arguments):
    code = cli.main(["corpus", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_the_known_facts_of_the_time_machine(data_file, capsys):
    path = data_file("timemachine.txt")
    letters = ("--filter", "letters", "--no-plot", "--json")
    code, out, _ = _run(capsys, path, *letters)
    facts = json.loads(out)
    assert code == 0
    assert (facts["tokens"], facts["vocabulary"]) == (170_580, 28)
    code, out, _ = _run(capsys, path, *letters, "--tokens", "word")
    facts = json.loads(out)
    assert (facts["tokens"], facts["vocabulary"]) == (32_775, 4_580)
    ten = "the 2261, i 1267, and 1245, of 1155, a 816, to 695, was 552, in 541, that 443, my 440"
    assert ", ".join(f"{word} {count}" for (word,), count in facts["top_1grams"]) == ten
    assert facts["top_2grams"][:3] == [
        [["of", "the"], 309],
        [["in", "the"], 169],
        [["i", "had"], 130],
    ]
    assert facts["top_3grams"][:2] == [
        [["the", "time", "traveller"], 59],
        [["the", "time", "machine"], 30],
    ]


def test_what_a_person_reads(capsys):
    with open("a.txt", "w") as file:
        file.write("the cat and the dog\nthe cat\n" * 10)
    code, out, err = _run(capsys, "a.txt", "a.txt", "--tokens", "word", "--no-plot", "--floors")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "text: a.txt, a.txt: 140 words, 0 of them held out, vocabulary of 5 entries"
    )
    assert lines[1] == "training part: 560 characters, 140 words, 2 documents, 0 tokens unknown"
    assert "tokens: 4 distinct, 0 of them once only" in lines
    assert "  the          60   42.86 %" in lines
    assert "bigrams: 6 distinct, 0 of them once only" in lines
    assert any(line.startswith("  Kneser-Ney, order") for line in lines)
    assert os.listdir() == ["a.txt"]


def test_blanks_are_seen_among_characters(capsys):
    with open("a.txt", "w") as file:
        file.write("a b\n" * 4)
    _, out, _ = _run(capsys, "a.txt", "--no-plot", "--top", "1")
    assert "  'a'           4   25.00 %" in out.splitlines()
    assert "  'a '           4   26.67 %" in out.splitlines()


def test_the_picture_of_zipfs_law(data_file, capsys):
    image = pytest.importorskip("matplotlib.image")
    code, out, _ = _run(capsys, data_file("timemachine.txt"), "--tokens", "word", "--json")
    assert code == 0
    json.loads(out)
    pixels = image.imread("timemachine-zipf.png")
    assert pixels.shape[0] > 300
    colours = {tuple(colour) for colour in (pixels[::3, ::3, :3] * 255).round().reshape(-1, 3)}
    assert {(31, 95, 168), (200, 84, 27), (61, 138, 90)} <= colours  # three curves


def test_without_matplotlib_there_is_everything_else(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backends.backend_agg", None)
    with open("a.txt", "w") as file:
        file.write("some text")
    code, out, err = _run(capsys, "a.txt", "--json")
    assert code == 0
    assert json.loads(out)["tokens"] == 9
    assert "pip install 'fusedrnn[plot]'" in err
