"""Bad arguments: the errors of torch.nn, side by side, and those of what torch.nn does not have."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.torch_version import TorchVersion

import fusedrnn

NAMES = ("RNN", "LSTM", "GRU")
names = pytest.mark.parametrize("name", NAMES)


def raised(function):
    """The exception of a call; fails if there is none."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  its type is the matter of the tests
        function()
    return caught


CONSTRUCTORS = {
    "dropout above 1": (ValueError, (3, 4), {"dropout": 1.5, "num_layers": 2}),
    "dropout below 0": (ValueError, (3, 4), {"dropout": -0.1, "num_layers": 2}),
    "dropout a bool": (ValueError, (3, 4), {"dropout": True, "num_layers": 2}),
    "dropout a string": (ValueError, (3, 4), {"dropout": "a"}),
    "dropout None": (TypeError, (3, 4), {"dropout": None}),
    "input_size 0": (ValueError, (0, 4), {}),
    "input_size negative": (ValueError, (-3, 4), {}),
    "input_size a float": (TypeError, (3.0, 4), {}),
    "input_size a string": (TypeError, ("3", 4), {}),
    "hidden_size 0": (ValueError, (3, 0), {}),
    "hidden_size negative": (ValueError, (3, -1), {}),
    "hidden_size a float": (TypeError, (3, 4.0), {}),
    "num_layers 0": (ValueError, (3, 4), {"num_layers": 0}),
    "num_layers negative": (ValueError, (3, 4), {"num_layers": -1}),
    "num_layers a string": (TypeError, (3, 4), {"num_layers": "2"}),
    "num_layers a float": (TypeError, (3, 4), {"num_layers": 1.5}),
    "bias an int": (TypeError, (3, 4), {"bias": 1}),
    "bias a string": (TypeError, (3, 4), {"bias": "yes"}),
    "batch_first an int": (TypeError, (3, 4), {"batch_first": 1}),
    "proj_size negative": (ValueError, (3, 4), {"proj_size": -1}),
    "proj_size of hidden_size": (ValueError, (3, 4), {"proj_size": 4}),
    "unknown keyword": (TypeError, (3, 4), {"hidden": 1}),
    "nothing": (TypeError, (), {}),
    "no hidden_size": (TypeError, (3,), {}),
    "dtype a string": (TypeError, (3, 4), {"dtype": "float32"}),
    "dtype an integer type": (RuntimeError, (3, 4), {"dtype": torch.int64}),
    "device unknown": (RuntimeError, (3, 4), {"device": "nowhere"}),
}
# what torch.nn looks at only in versions that ours does not ask for
NEWER = {
    "input_size 0",
    "input_size negative",
    "bias an int",
    "bias a string",
    "batch_first an int",
}


@names
@pytest.mark.parametrize("case", CONSTRUCTORS)
def test_constructor_errors_are_torchs(name, case):
    error, args, kwargs = CONSTRUCTORS[case]
    assert raised(lambda: getattr(fusedrnn, name)(*args, **kwargs)).type is error
    if case not in NEWER or TorchVersion(torch.__version__) >= (2, 13):
        assert raised(lambda: getattr(nn, name)(*args, **kwargs)).type is error


@pytest.mark.parametrize("name", ["RNN", "GRU"])
def test_only_lstm_projects(name):
    for family in (fusedrnn, nn):
        with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
            getattr(family, name)(3, 4, proj_size=0)


def test_unknown_nonlinearity():
    for family, value in itertools.product((fusedrnn, nn), ("gelu", None, 3)):
        with pytest.raises(ValueError, match="onlinearity"):
            family.RNN(3, 4, nonlinearity=value)
    assert fusedrnn.RNN(3, 4, 1, "relu").mode == "RNN_RELU"


@names
def test_dropout_with_one_layer_warns(name):
    for family in (fusedrnn, nn):
        with pytest.warns(UserWarning, match="dropout"):
            getattr(family, name)(3, 4, dropout=0.5)


def test_arguments_by_position():
    """The order of torch.nn: RNN has nonlinearity fourth, LSTM proj_size eighth."""
    for family in (fusedrnn, nn):
        assert family.RNN(3, 4, 2, "relu", False, True, 0.5, True).bidirectional is True
        assert family.LSTM(3, 4, 2, False, True, 0.5, True, 2).proj_size == 2
        assert family.GRU(3, 4, 2, False, True, 0.5, True).dropout == 0.5


def state(name, *shape, dtype=torch.float32):
    h = torch.zeros(*shape, dtype=dtype)
    return (h, h) if name == "LSTM" else h


CALLS = {
    "0-D input": lambda n: (torch.tensor(1.0),),
    "1-D input": lambda n: (torch.randn(3),),
    "4-D input": lambda n: (torch.randn(2, 2, 2, 3),),
    "wrong input size": lambda n: (torch.randn(5, 2, 4),),
    "wrong input size, unbatched": lambda n: (torch.randn(5, 4),),
    "no steps": lambda n: (torch.randn(0, 2, 3),),
    "no steps, unbatched": lambda n: (torch.randn(0, 3),),
    "float64 input": lambda n: (torch.randn(5, 2, 3).double(),),
    "bfloat16 input": lambda n: (torch.randn(5, 2, 3).bfloat16(),),
    "bool input": lambda n: (torch.zeros(5, 2, 3, dtype=torch.bool),),
    "complex input": lambda n: (torch.randn(5, 2, 3, dtype=torch.complex64),),
    "integer input": lambda n: (torch.zeros(5, 2, 3, dtype=torch.int64),),
    "2-D hx for batched input": lambda n: (torch.randn(5, 2, 3), state(n, 2, 4)),
    "3-D hx for unbatched input": lambda n: (torch.randn(5, 3), state(n, 1, 2, 4)),
    "4-D hx": lambda n: (torch.randn(5, 2, 3), state(n, 1, 1, 2, 4)),
    "hx of too few layers": lambda n: (torch.randn(5, 2, 3), state(n, 2, 2, 4)),
    "hx of a wrong batch": lambda n: (torch.randn(5, 2, 3), state(n, 1, 3, 4)),
    "hx of a wrong size": lambda n: (torch.randn(5, 2, 3), state(n, 1, 2, 5)),
    "hx that would broadcast": lambda n: (torch.randn(5, 2, 3), state(n, 1, 1, 4)),
    "unbatched hx of a wrong size": lambda n: (torch.randn(5, 3), state(n, 1, 5)),
    "hx of another dtype": lambda n: (
        torch.randn(5, 2, 3),
        state(n, 1, 2, 4, dtype=torch.float64),
    ),
    "packed data of a wrong size": lambda n: (pack_padded_sequence(torch.randn(5, 2, 4), [5, 3]),),
    "packed data of a wrong dimension": lambda n: (
        PackedSequence(torch.randn(8, 1, 3), torch.tensor([2, 2, 2, 1, 1])),
    ),
    "hx of a wrong batch, packed": lambda n: (
        pack_padded_sequence(torch.randn(5, 2, 3), [5, 3]),
        state(n, 1, 3, 4),
    ),
}


@names
@pytest.mark.parametrize("case", CALLS)
def test_forward_errors_are_torchs(name, case):
    errors = []
    for family in (fusedrnn, nn):
        module = getattr(family, name)(3, 4)
        errors.append(raised(lambda m=module: m(*CALLS[case](name))))
    assert errors[0].type is errors[1].type


@names
def test_packed_data_of_another_dtype(name):
    """ValueError as for padded data; of torch.nn's layers, LSTM stumbles later, over a product."""
    packed = pack_padded_sequence(torch.randn(5, 2, 3).double(), [5, 3])
    assert raised(lambda: getattr(fusedrnn, name)(3, 4)(packed)).type is ValueError
    theirs = raised(lambda: getattr(nn, name)(3, 4)(packed)).type
    assert theirs is (RuntimeError if name == "LSTM" else ValueError)


@pytest.mark.parametrize("which", [0, 1])
def test_errors_of_one_of_two_states(which):
    for family in (fusedrnn, nn):
        for shape in ((2, 4), (1, 3, 4), (1, 2, 5)):
            hx = [torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)]
            hx[which] = torch.zeros(shape)
            with pytest.raises(RuntimeError):
                family.LSTM(3, 4)(torch.randn(5, 2, 3), tuple(hx))


@names
def test_states_of_a_wrong_python_type(name):
    """Where torch.nn stumbles over a missing attribute, this is said."""
    module = getattr(fusedrnn, name)(3, 4)
    h = torch.zeros(1, 2, 4)
    for hx in ([h, h, h], "state", 1.0, *(((h,), h) if name == "LSTM" else ((h, h),))):
        with pytest.raises(TypeError, match="expected hx to be a"):
            module(torch.randn(5, 2, 3), hx)


@names
def test_a_bad_call_says_what_was_expected_and_what_came(name):
    module = getattr(fusedrnn, name)(3, 4)
    with pytest.raises(RuntimeError, match=r"Expected 3, got 7"):
        module(torch.randn(5, 2, 7))
    with pytest.raises(RuntimeError, match=r"\(1, 2, 4\), got \[1, 2, 9\]"):
        module(torch.randn(5, 2, 3), state(name, 1, 2, 9))
    with pytest.raises(ValueError, match=r"torch.float32, got torch.float64"):
        module(torch.randn(5, 2, 3).double())
    with pytest.raises(RuntimeError, match=r"larger than 0, got 0"):
        module(torch.randn(0, 2, 3))


@names
def test_wrong_devices(name):
    """meta stands for a GPU: any two devices differ."""
    module = getattr(fusedrnn, name)(3, 4)
    with pytest.raises(RuntimeError, match="expected input on the weights' cpu, got meta"):
        module(torch.randn(5, 2, 3, device="meta"))
    hx = torch.zeros(1, 2, 4, device="meta")
    with pytest.raises(RuntimeError, match="expected h_0 on cpu, got it on meta"):
        module(torch.randn(5, 2, 3), (hx, hx) if name == "LSTM" else hx)


@names
@pytest.mark.parametrize("value", [-1, 3, 2**40])
def test_token_ids_out_of_range(name, value):
    module = getattr(fusedrnn, name)(3, 4)
    ids = torch.zeros(5, 2, dtype=torch.int64)
    ids[3, 1] = value
    with pytest.raises(IndexError, match=r"token ids in \[0, 3\)"):
        module(ids)
    with pytest.raises(IndexError, match=r"token ids in \[0, 3\)"):
        getattr(fusedrnn, f"{name}Cell")(3, 4)(ids[3])


LENGTHS = {
    "negative": (torch.tensor([-1, 2]), "in \\[0, 5\\]"),
    "above T": (torch.tensor([2, 6]), "in \\[0, 5\\]"),
    "floating": (torch.tensor([2.0, 3.0]), "integer tensor"),
    "bool": (torch.tensor([True, False]), "integer tensor"),
    "too many": (torch.tensor([2, 3, 4]), "shape \\[2\\]"),
    "2-D": (torch.tensor([[2, 3]]), "shape \\[2\\]"),
    "0-D": (torch.tensor(2), "shape \\[2\\]"),
    "a list": ([2, 3], "integer tensor"),
}


@names
@pytest.mark.parametrize("case", LENGTHS)
def test_bad_lengths(name, case):
    lengths, message = LENGTHS[case]
    with pytest.raises(ValueError, match=message):
        getattr(fusedrnn, name)(3, 4)(torch.randn(5, 2, 3), lengths=lengths)


RESETS = {
    "integers": (torch.zeros(5, 2, dtype=torch.int64), "bool tensor"),
    "transposed": (torch.zeros(2, 5, dtype=torch.bool), "shape \\[5, 2\\]"),
    "1-D": (torch.zeros(5, dtype=torch.bool), "shape \\[5, 2\\]"),
    "a list": ([[False] * 2] * 5, "bool tensor"),
}


@names
@pytest.mark.parametrize("case", RESETS)
def test_bad_resets(name, case):
    resets, message = RESETS[case]
    with pytest.raises(ValueError, match=message):
        getattr(fusedrnn, name)(3, 4)(torch.randn(5, 2, 3), resets=resets)


@names
def test_options_of_unbatched_input(name):
    module, x = getattr(fusedrnn, name)(3, 4), torch.randn(5, 3)
    with pytest.raises(ValueError, match="0-D tensor lengths"):
        module(x, lengths=torch.tensor([3]))
    with pytest.raises(ValueError, match="1-D tensor resets"):
        module(x, resets=torch.zeros(5, 1, dtype=torch.bool))
