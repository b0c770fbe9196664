"""New tokens for a trained model."""

from __future__ import annotations

import pytest
import torch

from fusedrnn.lm import LanguageModel, extend_vocab
from fusedrnn.lm.model import CELLS
from fusedrnn.text import TextError, Vocab


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options", [{}, {"embedding": 5, "layers": 2}, {"embedding": 8, "tied": True}]
)
def test_old_logits_stay(cell, options):
    torch.manual_seed(0)
    vocab = Vocab("abcabcaab")
    model = LanguageModel(len(vocab), cell, hidden=8, **options).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    larger, extended = extend_vocab(model, vocab, ["x", "yz"])
    ids = vocab.encode("abcaxb".replace("x", "c")).unsqueeze(1)
    with torch.no_grad():
        expected, _ = model(ids)
        got, _ = larger(ids)
        after_new, _ = larger(extended.encode(["x", "yz", "a"]).unsqueeze(1))
    assert got.shape == (6, 1, len(vocab) + 2)
    torch.testing.assert_close(got[..., : len(vocab)], expected, rtol=0, atol=1e-6)
    assert after_new.isfinite().all()
    torch.testing.assert_close(larger.head.weight[-1], model.head.weight.mean(0))
    torch.testing.assert_close(larger.head.bias[-1], model.head.bias.mean())
    assert list(extended) == [*vocab, "x", "yz"]
    assert larger.config == {**model.config, "vocab_size": len(extended)}
    assert not larger.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    if options.get("tied"):
        assert larger.head.weight is larger.embedding.weight
    logits, _ = larger.train()(extended.encode(["x", "yz"]).unsqueeze(1))
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in larger.parameters())


def test_what_cannot_be_added():
    vocab = Vocab("ab")
    model = LanguageModel(3, hidden=4)
    with pytest.raises(TextError, match="'a' more than once"):
        extend_vocab(model, vocab, ["a"])
    with pytest.raises(TextError, match="expected the model's 3 entries, got 2"):
        extend_vocab(model, Vocab("a"), ["x"])
