"""The language model as a task: batches, documents, tied weights, dropout, what is described."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fusedrnn.lm import LanguageModel, LanguageModelTask, evaluate, load_checkpoint
from fusedrnn.lm.dropout import SequenceDropout
from fusedrnn.lm.streams import Streams
from fusedrnn.text import CharTokenizer, TextError, Vocab
from fusedrnn.text.batches import make_order
from fusedrnn.train import RunFolder, Settings, train

V = 7


def _ids(tokens=200, dtype=torch.int64):
    return torch.randint(V, (tokens,), generator=torch.Generator().manual_seed(1)).to(dtype)


def _model(cell="gru", **options):
    torch.manual_seed(0)
    return LanguageModel(V, cell, **{"hidden": 6, **options})


@pytest.mark.parametrize("order", ["sequential", "random"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.int32, torch.uint16])
@pytest.mark.parametrize("batch", [1, 3])
def test_batches_are_those_of_the_order(order, dtype, batch):
    ids = _ids()
    streams = Streams(ids.to(dtype), batch, 5, order, seed=2)
    for epoch in range(3):
        starts = make_order(order, 200, batch, 5, 2).starts(epoch)
        blocks = list(streams.blocks(epoch, [1] * len(starts)))
        assert len(blocks) == streams.chunks(epoch) == len(starts)
        for (inputs, labels, _), row in zip(blocks, starts, strict=True):
            expected = torch.stack([ids[start : start + 6] for start in row], 1)
            assert inputs.dtype == labels.dtype == torch.int64
            assert torch.equal(torch.cat([inputs, labels[-1:]]), expected)
            assert torch.equal(labels[:-1], inputs[1:])


def test_a_part_of_a_larger_text():
    text = _ids(300)
    whole, part = Streams(text[50:250].clone(), 3, 5), Streams(text[50:250], 3, 5)
    pairs = zip(whole.blocks(1, [2, 1, 3]), part.blocks(1, [2, 1, 3]), strict=True)
    assert all(torch.equal(one[0], other[0]) for one, other in pairs)


def test_processes_share_the_rows():
    every, shares = Streams(_ids(), 6, 5), [Streams(_ids(), 6, 5) for _ in range(3)]
    for rank, each in enumerate(shares):
        each.share(rank, 3)
    for whole, *parts in zip(*(each.blocks(0, [1, 1]) for each in (every, *shares)), strict=True):
        for side in (0, 1):
            assert torch.equal(torch.cat([part[side] for part in parts], 1), whole[side])
    with pytest.raises(TextError, match="batch: expected a multiple of 4, the processes, got 6"):
        Streams(_ids(), 6, 5).share(0, 4)


def test_every_epoch_can_begin_with_the_first_token():
    streams = Streams(_ids(201), 4, 5, same_start=True)
    for epoch in range(3):
        assert streams.chunks(epoch) == 10
        inputs, _, _ = next(iter(streams.blocks(epoch, [10])))
        assert torch.equal(inputs, _ids(201)[:200].view(4, 50).t())


@pytest.mark.parametrize("order", ["sequential", "random"])
def test_documents_are_marked_wherever_they_come_to_lie(order):
    documents = torch.tensor([0, 3, 4, 50, 120, 199])
    ids = torch.arange(200)
    streams = Streams(ids, 3, 5, order, documents=documents)
    for inputs, _, resets in streams.blocks(1, [1] * streams.chunks(1)):
        assert torch.equal(resets, torch.isin(inputs, documents))
    assert all(block[2] is None for block in Streams(ids, 3, 5).blocks(0, [1]))


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_the_state_is_reset_where_a_document_begins(cell):
    """A text of two documents, each read from zeros: as two calls."""
    ids = _ids(42).clamp_min(1)
    ids[[0, 17, 30]] = 0
    model = _model(cell).double()
    task = LanguageModelTask(
        model, ids, batch=1, steps=41, same_start=True, separator=0, valid_ids=ids
    )
    (batch,) = task.batches(0)
    losses = []
    for begin, end in ((0, 17), (17, 30), (30, 41)):
        logits, _ = model(ids[begin:end].unsqueeze(1))
        labels = ids[begin + 1 : end + 1]
        loss = torch.nn.functional.cross_entropy(logits[:, 0], labels, reduction="sum")
        losses.append(loss.item())
    expected = sum(losses) / 41
    assert task.loss(model, batch, None).loss.item() == pytest.approx(expected, rel=1e-12)
    places = torch.tensor([0, 17, 30])
    for where in ({"separator": 0}, {"documents": places}):
        for steps in (5, 41):
            got = evaluate(model, ids, batch=1, steps=steps, **where)
            assert got == pytest.approx(expected, rel=1e-12)
    listed = LanguageModelTask(
        model, ids, batch=1, steps=41, same_start=True, documents=places, valid_ids=ids,
        valid_documents=places,
    )  # fmt: skip
    (marked,) = listed.batches(0)
    assert listed.loss(model, marked, None).loss.item() == pytest.approx(expected, rel=1e-12)
    assert listed.evaluate()["valid_loss"] == pytest.approx(expected, rel=1e-12)
    assert task.evaluate()["valid_loss"] == pytest.approx(expected, rel=1e-12)
    without = LanguageModelTask(model, ids, batch=1, steps=41, same_start=True)
    assert without.loss(model, batch, None).loss.item() != pytest.approx(expected, rel=1e-6)


def test_tied_weights_are_one_parameter_trained_and_saved_once(tmp_path):
    model = _model(embedding=6, tied=True)
    assert model.head.weight is model.embedding.weight
    untied = _model(embedding=6)
    count = sum(each.numel() for each in model.parameters())
    assert count == sum(each.numel() for each in untied.parameters()) - V * 6
    vocab = Vocab("abcdef")
    options = {"batch": 2, "steps": 5, "tokenizer": CharTokenizer(), "vocab": vocab}
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    train(LanguageModelTask(model, _ids(), **options), Settings(epochs=2), folder)
    loaded = load_checkpoint(tmp_path / "run").model
    assert loaded.head.weight is loaded.embedding.weight
    assert torch.equal(loaded.head.weight, model.head.weight)
    with pytest.raises(ValueError, match=r"tied: expected an embedding as large .* 6, got 5"):
        _model(embedding=5, tied=True)
    with pytest.raises(ValueError, match=r"tied: expected an embedding as large .* 6, got 0"):
        _model(tied=True)


@pytest.mark.parametrize("cell", ["elman", "elman-relu", "gru", "lstm"])
def test_variational_dropout_draws_one_mask_per_sequence(cell):
    dropped = SequenceDropout(0.5)
    x = dropped(torch.ones(9, 4, 50))
    assert set(x.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(x, x[:1].expand_as(x))
    assert not torch.equal(x[:, 0], x[:, 1])
    assert torch.equal(dropped.eval()(x), x)

    model = _model(cell, layers=3, embedding=5, dropout=0.4, variational=True).double()
    plain = _model(cell, layers=3, embedding=5).double()
    plain.load_state_dict(model.state_dict())
    ids = _ids(24).view(8, 3)
    _, state = plain(ids)
    assert not torch.equal(model(ids, state)[0], plain(ids, state)[0])
    # All masks of ones: the layers one by one are the layers in one.
    model.dropout.p = 0.0
    for one, other in zip(_flat(model(ids, state)), _flat(plain(ids, state)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    resets = torch.zeros(8, 3, dtype=torch.bool)
    resets[4] = True
    for one, other in zip(
        _flat(model(ids, resets=resets)), _flat(plain(ids, resets=resets)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def _flat(result):
    logits, state = result
    return [logits, *(state if isinstance(state, tuple) else (state,))]


def test_what_a_run_must_have_in_common():
    def prints(ids=None, **options):
        model = _model()
        task = LanguageModelTask(model, _ids() if ids is None else ids, batch=2, steps=5, **options)
        return task.fingerprint()

    base = prints()
    changed = _ids()
    changed[100] = (changed[100] + 1) % V
    others = [
        prints(changed),
        prints(valid_ids=changed),
        prints(seed=1),
        prints(order="random"),
        prints(truncation="full"),
        prints(summed=True),
        prints(separator=0),
        prints(same_start=True),
        prints(documents=torch.tensor([0, 50])),
        prints(valid_ids=_ids(), valid_documents=torch.tensor([0, 50])),
    ]
    assert prints() == base
    assert prints(documents=torch.tensor([0, 50])) != prints(documents=torch.tensor([0, 51]))
    assert all(other != base for other in others)


def test_samples_change_nothing():
    vocab = Vocab("abcdef")
    model = _model(dropout=0.5, layers=2)
    task = LanguageModelTask(
        model, _ids(), batch=2, steps=5, tokenizer=CharTokenizer(), vocab=vocab
    )
    random = torch.get_rng_state()
    one, two = task.samples(2)
    assert one != two
    assert task.samples(2) == [one, two]
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training


class _Largest(TorchDispatchMode):
    """The most bytes of a tensor that was made."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.most = max(self.most, made.numel() * made.element_size())
        return made


def test_evaluation_does_not_copy_the_text():
    """Held-out text may be a file larger than memory."""
    ids = _ids(50_000, torch.uint8)
    with _Largest() as seen:
        loss = evaluate(_model(), ids, batch=4, steps=100, documents=torch.tensor([0, 9_000]))
    assert seen.most == len(ids)  # a view of it
    assert loss == evaluate(
        _model(), ids.long(), batch=4, steps=100, documents=torch.tensor([0, 9_000])
    )
