"""`fusedrnn classify` and `fusedrnn tag`: from a file to a run to predictions, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fusedrnn.cli import main
from fusedrnn.tasks.label import ClassifyTask, Labeller, TagTask

GOOD, BAD = ("good", "fine", "great"), ("bad", "awful", "poor")
COMMON = ["--hidden", "8", "--embedding", "8", "--dropout", "0", "--lr", "0.05"]
TAGS = {"the": "D", "a": "D", "cat": "N", "dog": "N", "runs": "V", "sees": "V"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of each kind, and a run of each command."""
    path = tmp_path_factory.mktemp("label")
    lines = [f"pos\tit is {a} and {b}" for a in GOOD for b in GOOD]
    lines += [f"neg\tit is {a} and {b}" for a in BAD for b in BAD]
    (path / "reviews.tsv").write_text("\n".join(lines) + "\n")
    words = [
        w.split() for w in ("the cat runs", "a dog sees the cat", "a cat sees", "dog runs")
    ] * 5
    blocks = ["".join(f"{word}\t{TAGS[word]}\n" for word in sentence) for sentence in words]
    (path / "tags.tsv").write_text("\n".join(blocks))
    conllu = [
        "".join(
            f"{i}\t{word}\t_\t{TAGS[word]}\t{TAGS[word].lower()}\t_\t0\troot\t_\t_\n"
            for i, word in enumerate(sentence, 1)
        )
        for sentence in words
    ]
    (path / "tags.conllu").write_text("\n".join(conllu) + "\n")
    classify, tag = path / "classify", path / "tag"
    flags = [*COMMON, "--epochs", "12", "--batch", "4"]
    assert (
        main(["classify", "train", str(path / "reviews.tsv"), "--out", str(classify), *flags]) == 0
    )
    flags = [*COMMON, "--epochs", "25", "--batch", "4", "--char-hidden", "4"]
    assert main(["tag", "train", str(path / "tags.tsv"), "--out", str(tag), *flags]) == 0
    return path


def _fails(capsys, *argv):
    """The one line on standard error of a command that must end with 1."""
    assert main(list(map(str, argv))) == 1
    (line,) = capsys.readouterr().err.strip().split("\n")
    return line


def test_a_run_is_written(folder):
    for name in ("classify", "tag"):
        run = folder / name
        last = json.loads((run / "metrics.jsonl").read_text().split("\n")[-2])
        assert last["valid_accuracy"] == 1.0
        assert {"loss", "valid_loss", "valid_macro_f1", "seconds"} <= set(last)
        scores = json.loads((run / "scores.json").read_text())
        assert scores["accuracy"] == 1.0
        total = sum(map(sum, scores["confusion"]))
        assert total == sum(row["support"] for row in scores["classes"])
        assert next(iter(scores["floors"].values())) < 1.0 or name == "tag"


def test_pictures(folder):
    pytest.importorskip("matplotlib")
    for name in ("classify", "tag"):
        assert (folder / name / "confusion.png").read_bytes()[:4] == b"\x89PNG"
        assert (folder / name / "loss.png").exists()


def test_classify_predicts_in_a_new_process(folder):
    done = subprocess.run(
        [sys.executable, "-m", "fusedrnn", "classify", folder / "classify", "great", "it is poor"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(row[0], row[2]) for row in rows] == [("pos", "great"), ("neg", "it is poor")]
    here = Labeller.load(folder / "classify", ClassifyTask.kind).classify(["great", "it is poor"])
    assert [row[1] for row in rows] == [f"{probability:.3f}" for _, probability in here]


def test_tag_predicts(folder, capsys, tmp_path):
    assert main(["tag", str(folder / "tag"), "the dog runs", "a cat"]) == 0
    out = capsys.readouterr().out
    assert out == "the\tD\ndog\tN\nruns\tV\n\na\tD\ncat\tN\n\n"
    assert main(["tag", str(folder / "tag"), "--file", str(folder / "tags.conllu")]) == 0
    tagged = tmp_path / "tagged.tsv"
    tagged.write_text(capsys.readouterr().out)
    # What was tagged is a two-column file that can be scored in its turn.
    assert main(["tag", "eval", str(folder / "tag"), str(tagged), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0


def test_classify_files_and_scores(folder, capsys, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("it is good\nit is awful\n")
    assert main(["classify", str(folder / "classify"), "--file", str(texts)]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["pos", "neg"]
    assert main(["classify", "eval", str(folder / "classify"), str(folder / "reviews.tsv")]) == 0
    assert "accuracy 1.0000" in capsys.readouterr().out


def test_a_run_goes_on(folder, tmp_path):
    """Five epochs, and two and then three more, are one and the same run."""
    flags = [*COMMON, "--batch", "4", "--dropout", "0.5", "--char-hidden", "4"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    start = ["tag", "train", str(folder / "tags.conllu"), *flags, "--tag", "xpos"]
    assert main([*start, "--epochs", "5", "--out", whole]) == 0
    assert main([*start, "--epochs", "2", "--out", parts]) == 0
    assert main([*start, "--epochs", "5", "--out", parts, "--resume"]) == 0
    one, two = (Labeller.load(each, TagTask.kind) for each in (whole, parts))
    assert one.labels == two.labels == ["d", "n", "v"]
    state = two.model.state_dict()
    assert all((state[name] == value).all() for name, value in one.model.state_dict().items())


def test_results_of_a_run_last_as_long_as_the_run(folder, tmp_path, capsys):
    out, file = tmp_path / "run", folder / "reviews.tsv"
    flags = ["classify", "train", file, *COMMON, "--epochs", "1", "--out", out]
    assert main(list(map(str, flags))) == 0
    capsys.readouterr()
    before = (out / "scores.json").read_bytes()
    assert "the run has 8, got 9" in _fails(capsys, *flags, "--hidden", "9", "--resume")
    assert "scores.json" in _fails(capsys, *flags)
    assert (out / "scores.json").read_bytes() == before
    assert main([*map(str, flags), "--overwrite", "--valid-fraction", "0"]) == 0
    assert not (out / "scores.json").exists()
    assert not (out / "confusion.png").exists()


def test_labels_and_folders_are_no_formulas(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "odd.tsv"
    path.write_text("$\\no$\tgood\n$^$\tbad\n" * 8)
    flags = [*COMMON, "--epochs", "1", "--out", str(tmp_path / "$\\run$")]
    assert main(["classify", "train", str(path), *flags]) == 0
    assert (tmp_path / "$\\run$" / "confusion.png").exists()


def test_options_of_the_model(folder, tmp_path, capsys):
    out = str(tmp_path / "run")
    flags = [
        *COMMON,
        "--epochs",
        "1",
        "--cell",
        "elman-relu",
        "--init",
        "identity",
        "--pool",
        "max",
    ]
    flags += ["--no-bidirectional", "--class-weights", "balanced", "--tokens", "char"]
    valid = ["--valid", str(folder / "reviews.tsv")]
    assert (
        main(["classify", "train", str(folder / "reviews.tsv"), "--out", out, *flags, *valid]) == 0
    )
    model = Labeller.load(out, ClassifyTask.kind).model
    assert (model.config["pool"], model.config["cell"]) == ("max", "elman-relu")
    assert "18 held out" in capsys.readouterr().out


def test_series_of_numbers(tmp_path, capsys):
    path = tmp_path / "series.tsv"
    rows = [f"up\t{i} {i + 1} {i + 3}\ndown\t{i + 3} {i + 1}" for i in range(10)]
    path.write_text("\n".join(rows))
    flags = ["--tokens", "number", "--hidden", "8", "--dropout", "0", "--lr", "0.05"]
    flags += ["--epochs", "20", "--out", str(tmp_path / "run")]
    assert main(["classify", "train", str(path), *flags]) == 0
    capsys.readouterr()
    assert main(["classify", str(tmp_path / "run"), "2 3 5", "6 4"]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["up", "down"]
    line = _fails(capsys, "classify", tmp_path / "run", "1 two")
    assert "expected finite numbers, got 'two' as number 2" in line
    path.write_text("up\t1 2\ndown\t3 nan\n")
    line = _fails(capsys, "classify", "train", path, *flags, "--overwrite")
    assert "line 2, column 2: expected finite numbers, got 'nan' as number 2" in line


def test_bad_files_are_refused_before_anything_is_written(folder, tmp_path, capsys):
    path, out = tmp_path / "bad.tsv", tmp_path / "run"
    path.write_text("a\tx\nb\n")
    line = _fails(capsys, "classify", "train", path, "--out", out)
    assert (
        line
        == f"fusedrnn classify: error: {path}, line 2: expected 2 columns, label<TAB>text, got 1"
    )
    path.write_text("a\tX\n\n\nb\tY\n")
    assert "line 3: expected a sentence" in _fails(capsys, "tag", "train", path, "--out", out)
    path.write_text("a\tX\n\nb\tY\n")
    flags = ["--valid", str(folder / "tags.tsv"), "--out", out]
    line = _fails(capsys, "tag", "train", path, *flags)
    assert line.endswith("tags.tsv, line 1, column 2: expected one of X, Y, got 'D'")
    assert not out.exists()


def test_unknown_labels_and_foreign_runs(folder, tmp_path, capsys):
    path = tmp_path / "more.tsv"
    path.write_text("pos\tgood\nmixed\tgood\n")
    line = _fails(capsys, "classify", "eval", folder / "classify", path)
    assert line.endswith(f"{path}, line 2, column 1: expected one of neg, pos, got 'mixed'")
    path.write_text("1\tcat\t_\tX\t_\t_\t0\troot\t_\t_\n\n")
    line = _fails(capsys, "tag", "eval", folder / "tag", path, "--format", "conllu")
    assert line.endswith(f"{path}, line 1, column 4: expected one of D, N, V, got 'X'")
    line = _fails(capsys, "classify", folder / "tag", "text")
    assert "expected a checkpoint of kind 'classifier', got one of 'tagger'" in line
    assert "expected a text to label" in _fails(capsys, "classify", folder / "classify")
    assert "expected a sentence to tag" in _fails(capsys, "tag", folder / "tag")
    assert "expected a sentence with words" in _fails(capsys, "tag", folder / "tag", " ")


def test_flags_that_cannot_be_together(folder, tmp_path, capsys):
    file, out = folder / "reviews.tsv", tmp_path / "run"
    for flags, message in (
        (["--init", "identity"], "expected an RNN with nonlinearity='relu', got LSTM"),
        (["--init", "chrono"], "expected the steps of the longest dependency, got None"),
        (["--init", "chrono", "--longest", "9", "--cell", "elman"], "expected an LSTM or a GRU"),
        (["--longest", "9"], "--longest: expected it with --init chrono alone, got --init default"),
    ):
        assert message in _fails(capsys, "classify", "train", file, "--out", out, *flags)
    assert not out.exists()
    numbers = tmp_path / "numbers.tsv"
    numbers.write_text("up\t1 2\ndown\t2 1\n" * 4)
    for flags in (["--embedding", "64"], ["--filter", "letters"], ["--min-freq=3"]):
        line = _fails(capsys, "classify", "train", numbers, "--tokens", "number", *flags)
        assert "expected words or characters, got numbers" in line
    with pytest.raises(SystemExit) as caught:
        main(["classify", "train", str(file), "--pool", "median"])
    assert caught.value.code == 2
