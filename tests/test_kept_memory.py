"""The arrays that forward leaves to backward lie in memory that is kept from call to call."""

from __future__ import annotations

import gc
import os
import threading

import pytest
import torch
from torch import Tensor

import fusedrnn
from fusedrnn import _direct

LARGE = (64, 40, 8, 512)  # steps, batch, input and hidden size: saved gates of 5 MiB and more
LAYERS = {"rnn": fusedrnn.RNN, "lstm": fusedrnn.LSTM, "gru": fusedrnn.GRU}


def saved(y: Tensor) -> dict[str, int]:
    """Address and bytes of the largest storage that backward of ``y`` holds beside ``y`` itself."""
    found: dict[str, int] = {"at": 0, "bytes": 0}
    node = y.grad_fn
    for tensor in node.saved_tensors:  # type: ignore[union-attr]
        if tensor is None or tensor.data_ptr() == y.data_ptr():
            continue
        storage = tensor.untyped_storage()
        if storage.nbytes() > found["bytes"]:
            found = {"at": storage.data_ptr(), "bytes": storage.nbytes()}
    return found


def layer_and_input(
    kind: str, dtype: torch.dtype = torch.float32
) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(0)
    steps, batch, size, hidden = LARGE
    return LAYERS[kind](size, hidden, dtype=dtype), torch.randn(
        steps, batch, size, dtype=dtype, requires_grad=True
    )


def gradients(layer: torch.nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    y, _ = layer(x)
    return y.detach().clone(), *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])


@pytest.fixture(params=["direct", "op"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of a call past torch's autograd have such memory."""
    if request.param == "op":
        monkeypatch.setattr(_direct, "READY", False)
    elif not _direct.READY:
        pytest.skip("this torch publishes no DLPack functions")
    return str(request.param)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_next_call_takes_the_same_memory(kind: str, way: str) -> None:
    if way == "op" and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11):
        pytest.skip("torch before 2.11 takes no memory of ours")
    layer, x = layer_and_input(kind)
    y, _ = layer(x)
    first = saved(y)
    assert first["bytes"] >= 4 << 20
    beside, _ = layer(x)
    assert saved(beside)["at"] != first["at"]  # both are alive
    del y
    gc.collect()
    y, _ = layer(x)
    assert saved(y)["at"] == first["at"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.usefixtures("way")
def test_memory_of_others_changes_nothing(kind: str, dtype: torch.dtype) -> None:
    layer, x = layer_and_input(kind, dtype)
    want = gradients(layer, x)
    other, z = layer_and_input(kind, dtype)
    for steps in (64, 60, 56):  # blocks that are a little larger than what is asked for
        with torch.no_grad():
            z.fill_(float("nan"))
        gradients(other, z[:steps].detach().requires_grad_())
        for a, b in zip(want, gradients(layer, x), strict=True):
            assert torch.equal(a, b)


def test_gradients_that_wait_are_not_overwritten() -> None:
    layer, x = layer_and_input("gru")
    want = gradients(layer, x)
    y, _ = layer(x)
    gradients(layer, torch.zeros_like(x, requires_grad=True))
    got = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    for a, b in zip(want[1:], got, strict=True):
        assert torch.equal(a, b)


def test_another_thread_gives_it_back() -> None:
    layer, x = layer_and_input("lstm")
    want = gradients(layer, x)
    graphs = [layer(x)[0] for _ in range(3)]
    wrong = []

    def backward() -> None:
        for _ in range(20):
            got = gradients(layer, x)
            wrong.extend(a for a, b in zip(want, got, strict=True) if not torch.equal(a, b))

    threads = [threading.Thread(target=backward) for _ in range(2)]
    for thread in threads:
        thread.start()
    graphs.clear()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "options",
    [{"proj_size": 64}, {"bidirectional": True}, {"num_layers": 2}],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_large_layers_agree_with_torch(options: dict[str, int], packed: bool) -> None:
    torch.manual_seed(0)
    steps, batch, size, hidden = LARGE
    theirs = torch.nn.LSTM(size, hidden, **options)
    ours = fusedrnn.LSTM(size, hidden, **options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(steps, batch, size, requires_grad=True)
    lengths = torch.randint(1, steps + 1, (batch,))
    lengths[0] = steps

    def results(layer: torch.nn.Module) -> list[Tensor]:
        given = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        y = layer(given)[0].data if packed else layer(x)[0]
        return [y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])]

    for _ in range(2):  # in new memory, and in memory that comes back
        for a, b in zip(results(theirs), results(ours), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * a.abs().max().item())


def test_a_compiled_layer() -> None:
    layer, x = layer_and_input("gru")
    want = gradients(layer, x)
    compiled = torch.compile(lambda x: layer(x)[0].square().sum(), backend="aot_eager")
    for _ in range(2):
        got = torch.autograd.grad(compiled(x), [x, *layer.parameters()])
        for a, b in zip(want[1:], got, strict=True):
            assert torch.equal(a, b)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_its_own() -> None:
    layer, x = layer_and_input("lstm")
    want = gradients(layer, x)  # leaves memory behind that is kept
    waiting, _ = layer(x)
    child = os.fork()
    if child == 0:
        torch.set_num_threads(
            1
        )  # torch's own parallel calls would wait for threads that are not there
        same = all(map(torch.equal, want, gradients(layer, x)))
        os._exit(0 if same and all(map(torch.equal, want, gradients(layer, x))) else 1)
    again = gradients(layer, x)
    assert os.waitpid(child, 0)[1] == 0
    assert all(map(torch.equal, want, again))
    got = torch.autograd.grad(waiting.square().sum(), [x, *layer.parameters()])
    assert all(map(torch.equal, want[1:], got))


def test_it_can_be_written_to_a_file_and_moved(tmp_path) -> None:
    """What hooks on saved tensors do with them."""
    layer, x = layer_and_input("gru")
    want = gradients(layer, x)
    count = 0

    def pack(t: Tensor) -> str:
        nonlocal count
        count += 1
        torch.save(t, tmp_path / f"{count}.pt")
        return f"{count}.pt"

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda name: torch.load(tmp_path / name)):
        y, _ = layer(x)
    got = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    for a, b in zip(want[1:], got, strict=True):
        assert torch.equal(a, b)
