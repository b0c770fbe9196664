"""Presets: flags like any other; and the small model of Zaremba et al. 2014, detail by detail."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from fusedrnn import cli
from fusedrnn.commands import text_flags, training_flags
from fusedrnn.commands import train as command
from fusedrnn.lm.presets import PRESETS
from fusedrnn.train import Trainer, train

BATCH, STEPS, HIDDEN = 20, 20, 200


def _parse(*words):
    return cli.parse(["train", *map(str, words)])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_made_of_flags_and_other_flags_win(name):
    plain, preset = vars(_parse()), vars(_parse("--preset", name))
    assert PRESETS[name].items() <= preset.items()
    assert {key for key in plain if plain[key] != preset[key]} <= {
        *PRESETS[name],
        "preset",
        "words",
    }
    flags = ["--hidden", 7, "--lr", 0.125, "--epochs", 3]
    for words in (["--preset", name, *flags], [*flags, "--preset", name]):
        args = _parse(*words)
        assert (args.hidden, args.lr, args.epochs) == (7, 0.125, 3)
        assert args.batch == PRESETS[name]["batch"]
    training_flags.settings_of(_parse("--preset", name))


@pytest.mark.parametrize("name", PRESETS)
def test_flags_that_ask_for_the_default_win_too(name):
    asked = ["--hidden", 256, "--tokens", "char", "--epochs", 10, "--dropout", 0.0, "--clip", 1.0]
    asked += ["--line-end", "", "--valid-fraction", 0.05, "--batch", 32, "--schedule", "constant"]
    plain = vars(_parse())
    for words in (["--preset", name, *asked], [*asked, "--preset", name]):
        args = vars(_parse(*words))
        names = [flag[2:].replace("-", "_") for flag in asked[::2]]
        assert {each: args[each] for each in names} == {each: plain[each] for each in names}


def _sentences(lines, seed):
    """Text of the form of the Penn Treebank's: lower-case words, <unk>, N, a space at each end."""
    draw = random.Random(seed)
    words = [f"{first}{last}" for first in ("ba", "no", "ti") for last in ("lor", "mes", "nak")]
    return "".join(
        " " + " ".join(draw.choice([*words, "<unk>", "N", "the", "of"]) for _ in range(9)) + " \n"
        for _ in range(lines)
    )


@pytest.fixture
def penn(tmp_path):
    (tmp_path / "train.txt").write_text(_sentences(170, 0))
    (tmp_path / "valid.txt").write_text(_sentences(50, 1))
    return _parse(
        tmp_path / "train.txt", "--valid", tmp_path / "valid.txt", "--preset", "zaremba-small"
    )


def test_the_words_are_those_of_the_paper(penn):
    corpus = text_flags.build(penn)
    lines = _sentences(170, 0).splitlines()
    expected = [word for line in lines for word in (*line.split(), "<eos>")]
    assert corpus.vocab.decode(corpus.train) == expected
    assert len(corpus.vocab) == len(set(expected))  # <unk> is a word of the text
    assert len(corpus.train) == 1700
    assert len(corpus.valid) == 500


def test_everything_begins_within_a_tenth(penn):
    model = command._make_task(penn, text_flags.build(penn)).model
    for name, each in model.named_parameters():
        assert each.abs().max() <= 0.1, name
        if each.numel() > 100:
            assert each.abs().max() > 0.09
            assert each.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.15), name
    shapes = {name: list(each.shape) for name, each in model.named_parameters()}
    words = shapes["head.bias"][0]
    assert shapes["embedding.weight"] == [words, HIDDEN]
    assert shapes["rnn.weight_ih_l1"] == shapes["rnn.weight_hh_l0"] == [4 * HIDDEN, HIDDEN]
    assert "rnn.weight_ih_l2" not in shapes
    assert shapes["head.weight"] == [words, HIDDEN]
    assert model.config["dropout"] == 0.0


class Paper(nn.Module):
    """The model of the paper on torch.nn, with the parameters of ours."""

    def __init__(self, ours):
        super().__init__()
        self.embedding = nn.Embedding(*ours.embedding.weight.shape)
        self.rnn = nn.LSTM(HIDDEN, HIDDEN, num_layers=2)
        self.head = nn.Linear(HIDDEN, ours.head.out_features)
        self.load_state_dict(ours.state_dict())


def _by_the_paper(model, ids, epochs):
    """Losses per word of each epoch, learning rate by learning rate, as section 4.1 has it."""
    length = len(ids) // BATCH
    data = ids[: length * BATCH].view(BATCH, length).t()
    means = []
    for epoch in range(1, epochs + 1):
        rate = 1.0 if epoch <= 4 else 0.5 ** (epoch - 4)
        state, total, batches = None, 0.0, (length - 1) // STEPS
        for number in range(batches):
            begin = number * STEPS
            words, following = data[begin : begin + STEPS], data[begin + 1 : begin + STEPS + 1]
            outputs, state = model.rnn(model.embedding(words), state)
            state = tuple(each.detach() for each in state)
            logits = model.head(outputs).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, following.flatten(), reduction="sum")
            model.zero_grad()
            (loss / BATCH).backward()  # summed over time, mean over the batch
            norm = torch.stack([each.grad.norm() for each in model.parameters()]).norm()
            with torch.no_grad():
                for each in model.parameters():
                    each -= rate * min(1.0, 5.0 / norm.item()) * each.grad
            total += loss.item()
        means.append(total / (batches * BATCH * STEPS))
    return means


def test_the_losses_are_those_of_the_paper(penn):
    corpus = text_flags.build(penn)
    task = command._make_task(penn, corpus)
    paper = Paper(task.model)
    # The paper leaves out what does not fill a row; here the last word is a label at least.
    settings = training_flags.settings_of(penn)
    history = train(task, settings).history
    assert len(history) == 13
    rates = [1.0] * 4 + [0.5**k for k in range(1, 10)]
    assert [record["lr"] for record in history] == rates
    losses = _by_the_paper(paper, corpus.train[:-1], 13)
    assert [record["loss"] for record in history] == pytest.approx(losses, rel=1e-4)
    assert max(record["largest_grad_norm"] for record in history) > 5  # clipping mattered
    assert history[-1]["valid_perplexity"] < history[0]["valid_perplexity"]


def test_the_state_is_carried_through_the_held_out_text(penn):
    corpus = text_flags.build(penn)
    task = command._make_task(penn, corpus)
    length = -(-(len(corpus.valid) - 1) // BATCH)
    seen = []
    task.model.register_forward_hook(lambda _, inputs, __: seen.append(inputs))
    task.evaluate()
    assert len(seen) == -(-length // STEPS)
    assert seen[0][1] is None
    assert all(inputs[1] is not None for inputs in seen[1:])
    assert Trainer(task, training_flags.settings_of(penn)) is not None
