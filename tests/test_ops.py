"""The native ops as torch sees them: schemas, fake kernels, and every instruction set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from oracle import CELLS, DTYPES, random_options, states_of, weights_of
from torch import library

from fusedrnn import _C, _ops
from fusedrnn.reference import CELLS as INFO

FORWARD = torch.ops.fusedrnn.layer_forward.default
BACKWARD = torch.ops.fusedrnn.layer_backward.default


def forward_args(
    cell, ids=False, options=True, proj=0, save=True, dtype=torch.float32, batch=3, packed=False
):
    torch.manual_seed(0)
    steps, inputs, hidden, directions = 4, 5, 6, 2
    x = (
        torch.randint(0, inputs, (steps, batch))
        if ids
        else torch.randn(steps, batch, inputs).to(dtype)
    )
    state = states_of(cell, batch, hidden, directions, proj, dtype)
    h0, c0 = (None if s is None else s.detach() for s in state)
    w = [t.detach() for t in weights_of(cell, inputs, hidden, directions, proj=proj, dtype=dtype)]
    lengths, resets = random_options(steps, batch) if options else (None, None)
    if packed:
        lengths, resets = torch.tensor([4, 2, 1]), None
        x = torch.cat([row[: (lengths > t).sum()] for t, row in enumerate(x)])
    index = _ops.CELLS[cell].number
    return (
        x,
        h0 if options else None,
        c0 if options else None,
        w,
        lengths,
        resets,
        index,
        directions,
        save,
        False,
    )


def backward_args(args):
    x, h0, c0, w, lengths, resets, index, directions, _, tf32 = args
    y, h_n, c_n, *saved = FORWARD(*args)
    cell = list(_ops.CELLS)[index]
    dc = torch.ones_like(c_n) if INFO[cell].has_c else None
    need_dx = x.is_floating_point()
    return (
        torch.ones_like(y), torch.ones_like(h_n), dc, x, h0, c0, w, lengths, resets, y, *saved,
        index, directions, need_dx, True, tf32,
    )  # fmt: skip


VARIANTS = {
    "plain": {"options": False},
    "options": {},
    "ids": {"ids": True},
    "not saved": {"save": False},
    "empty batch": {"batch": 0},
    "half": {"dtype": torch.float16},
    "double": {"dtype": torch.float64},
    "packed": {"packed": True},
    "packed ids": {"packed": True, "ids": True},
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_opcheck(cell, variant):
    check(forward_args(cell, **VARIANTS[variant]))


def test_opcheck_projection():
    check(forward_args("lstm", proj=2))
    check(forward_args("lstm", proj=2, options=False))
    check(forward_args("lstm", proj=2, packed=True))


def check(args):
    """opcheck of forward and backward. What is saved past a row's length is not defined, so a call
    with lengths is compared without what it saves."""
    lengths, save = args[4], args[8]
    library.opcheck(FORWARD, args if lengths is None else (*args[:8], False, *args[9:]))
    if save:
        library.opcheck(BACKWARD, backward_args(args))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_fake_kernels_tell_the_truth(cell, variant):
    """Shapes, dtypes and strides on the meta device are those of the real results."""

    def meta(value):
        if isinstance(value, list):
            return [meta(v) for v in value]
        return value.to("meta") if isinstance(value, torch.Tensor) else value

    def same(fake, real):
        for f, r in zip(fake, real, strict=True):
            if isinstance(r, list):
                same(f, r)
            else:
                assert (f.shape, f.dtype, f.stride()) == (r.shape, r.dtype, r.stride())

    args = forward_args(cell, **VARIANTS[variant])
    # what is accumulated in is a matter of the backend, and meta stands for a GPU's
    same(FORWARD(*map(meta, args))[:3], FORWARD(*args)[:3])
    if variant != "not saved":
        args = backward_args(args)
        same(BACKWARD(*map(meta, args)), BACKWARD(*args))


def test_the_cells_of_both_sides_are_the_same():
    """Native list and Python table: names, gates, cell state."""
    native = {c["name"]: (c["gates"], c["has_c"]) for c in _C.cells()}
    assert native == {name: (cell.gates, cell.has_c) for name, cell in INFO.items()}


@pytest.mark.parametrize("isa", _C.available_isas())
def test_each_instruction_set(isa):
    """The tests of every option and of the sizes of tiles, with the instruction set forced."""
    here = Path(__file__).parent
    command = [
        sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
        str(here / "test_functional.py"), "-k", "every_option or sizes or forced",
    ]  # fmt: skip
    run = subprocess.run(
        command,
        cwd=here.parent,
        env={**os.environ, "FUSEDRNN_ISA": isa, "FUSEDRNN_TEST_EXAMPLES": "40"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


def test_an_unknown_instruction_set_is_named():
    code = "import torch, fusedrnn; fusedrnn.GRU(2, 2)(torch.zeros(1, 1, 2))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FUSEDRNN_ISA": "x86-64-v9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "x86-64-v9" in run.stderr
    assert all(isa in run.stderr for isa in _C.available_isas())


def test_the_instruction_sets_agree_within_tolerance_of_dtypes():
    """There is a row in the table of tolerances for every dtype that the ops take."""
    from fusedrnn.tolerances import TOLERANCES

    assert set(TOLERANCES) == set(DTYPES)
