"""from_torch and to_torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx.proxy import TraceError

import fusedrnn

LAYERS = ("RNN", "LSTM", "GRU")
ALL = (*LAYERS, "RNNCell", "LSTMCell", "GRUCell")


class Model(nn.Module):
    """Recurrent layers at several depths, one of them in two places."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.shared = nn.LSTM(4, 4, batch_first=True)
        self.blocks = nn.ModuleList([nn.ModuleDict({"a": nn.GRU(4, 4, 2), "again": self.shared})])
        self.cell = nn.GRUCell(4, 4)
        self.head = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, ids):
        x, _ = self.shared(self.embed(ids))
        x, _ = self.blocks[0]["a"](x)
        x, _ = self.blocks[0]["again"](x)
        return self.head(self.cell(x[:, -1]))


@pytest.mark.parametrize("name", ALL)
def test_a_layer_itself(name):
    theirs = getattr(nn, name)(3, 4, dtype=torch.float64)
    ours = fusedrnn.from_torch(theirs)
    assert type(ours) is getattr(fusedrnn, name)
    assert all(a is b for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    back = fusedrnn.to_torch(ours)
    assert type(back) is getattr(nn, name)
    assert all(a is b for a, b in zip(back.parameters(), theirs.parameters(), strict=True))
    torch.testing.assert_close(back(x), theirs(x))
    assert repr(back) == repr(theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 2, "bidirectional": True, "proj_size": 2, "bias": False},
        {"num_layers": 3, "dropout": 0.5, "batch_first": True},
    ],
)
def test_every_option_is_kept(options):
    theirs = nn.LSTM(3, 4, **options, dtype=torch.float64)
    ours = fusedrnn.from_torch(theirs)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_a_whole_model():
    torch.manual_seed(0)
    model = Model()
    ids = torch.randint(0, 7, (2, 5))
    parameters, keys, want = list(model.parameters()), list(model.state_dict()), model(ids)
    before = torch.get_rng_state()
    assert fusedrnn.from_torch(model) is model
    assert torch.equal(before, torch.get_rng_state())
    kinds = [type(m) for m in model.modules()]
    assert not {nn.LSTM, nn.GRU, nn.GRUCell} & set(kinds)
    assert model.shared is model.blocks[0]["again"]
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert keys == list(model.state_dict())
    torch.testing.assert_close(model(ids), want)
    fusedrnn.to_torch(model)
    assert type(model.shared) is nn.LSTM
    assert model.shared is model.blocks[0]["again"]
    torch.testing.assert_close(model(ids), want)


def test_an_optimizer_goes_on_working():
    model = Model()
    optimizer = torch.optim.Adam(model.parameters())
    fusedrnn.from_torch(model)
    before = model.shared.weight_hh_l0.detach().clone()
    model(torch.randint(0, 7, (2, 5))).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.shared.weight_hh_l0)


def test_state_of_the_module_is_kept():
    theirs = nn.GRU(3, 4).eval()
    theirs.weight_hh_l0.requires_grad_(False)
    seen = []
    handle = theirs.register_forward_hook(lambda m, a, o: seen.append(type(m)))
    ours = fusedrnn.from_torch(theirs)
    assert not ours.training
    assert not ours.weight_hh_l0.requires_grad
    ours(torch.randn(2, 3))
    assert seen == [fusedrnn.GRU]
    handle.remove()
    ours(torch.randn(2, 3))
    assert seen == [fusedrnn.GRU]


def test_the_old_module_stays_whole():
    theirs = nn.GRU(3, 4)
    ours = fusedrnn.from_torch(theirs)
    ours.double()  # the parameters are shared
    assert theirs(torch.randn(2, 3).double())[0].dtype == torch.float64
    old = theirs.weight_ih_l0
    ours.weight_ih_l0 = nn.Parameter(torch.zeros(12, 3))
    assert theirs.weight_ih_l0 is old
    assert theirs._flat_weights[0] is old


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_weight_norm_of_the_older_kind_is_kept():
    theirs = nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    x = torch.randn(5, 2, 3)
    want = theirs(x)
    ours = fusedrnn.from_torch(theirs)
    torch.testing.assert_close(ours(x), want)
    with torch.no_grad():
        ours.weight_hh_l0_g.mul_(2)
    assert not torch.equal(ours(x)[0], want[0])


def test_subclasses_are_left_alone():
    class Special(nn.LSTM):
        pass

    model = nn.Sequential(Special(3, 4), nn.LSTM(4, 4))
    fusedrnn.from_torch(model)
    assert type(model[0]) is Special
    assert type(model[1]) is fusedrnn.LSTM
    alone = Special(3, 4)
    assert fusedrnn.from_torch(alone) is alone


def test_a_converted_layer_can_be_saved_and_moved():
    import copy

    ours = copy.deepcopy(fusedrnn.from_torch(nn.LSTM(3, 4)))
    assert ours.to(torch.float64)(torch.randn(2, 3).double())[0].dtype == torch.float64
    twice = fusedrnn.from_torch(ours)
    assert twice is ours


@pytest.mark.parametrize("name", LAYERS)
def test_what_knows_the_layers_of_torch_alone_takes_what_to_torch_gives(name):
    ours = nn.Sequential(getattr(fusedrnn, name)(3, 4))
    x = torch.randn(5, 2, 3)
    expected = ours(x)[0]
    with pytest.raises(TraceError):
        torch.fx.symbolic_trace(ours)
    traced = torch.fx.symbolic_trace(fusedrnn.to_torch(ours))
    torch.testing.assert_close(traced(x)[0], expected)
    assert type(fusedrnn.from_torch(ours)[0]) is getattr(fusedrnn, name)
    torch.testing.assert_close(traced(x)[0], expected)
