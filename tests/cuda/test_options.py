"""Every option of every cell in every dtype on the GPU, against the float64 reference."""

from __future__ import annotations

import itertools

import pytest
import torch
from on_gpu import assert_right, call
from oracle import CELLS, DTYPES

OPTIONS = list(itertools.product((False, True), repeat=6))


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("hidden", [24, 64])
def test_products_of_options(family, cell, dtype, hidden):
    for i, (two, bias, state, lengths, resets, ids) in enumerate(OPTIONS):
        if dtype not in (torch.float64, torch.bfloat16) and i % 3 != CELLS.index(cell) % 3:
            continue
        args = call(
            cell, 6, 5, 9, hidden, dtype, directions=1 + two, bias=bias, state=state,
            lengths=lengths, resets=resets, ids=ids, seed=i,
        )  # fmt: skip
        assert_right(args, f"two={two} bias={bias} state={state} {lengths=} {resets=} {ids=}")


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_projection(family, dtype):
    for i, (two, bias, state, lengths, resets, ids) in enumerate(OPTIONS):
        if i % 4 == 0:
            args = call(
                "lstm", 5, 4, 7, 20, dtype, directions=1 + two, bias=bias, proj=6, state=state,
                lengths=lengths, resets=resets, ids=ids, seed=i,
            )  # fmt: skip
            assert_right(args, f"projection {i}")


SHAPES = [
    # T, B, I, H: one of everything, odd sizes, batches around tiles, hidden sizes around families
    (1, 1, 1, 1),
    (3, 1, 5, 33),
    (9, 7, 100, 128),
    (5, 8, 64, 200),
    (6, 17, 30, 256),
    (4, 33, 16, 300),
    (7, 64, 64, 384),
    (5, 3, 20, 512),
    (4, 130, 12, 512),
    (5, 16, 40, 768),
    (3, 100, 40, 1000),
    (3, 16, 40, 1536),
]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_shapes(family, cell, dtype):
    for i, (steps, batch, inputs, hidden) in enumerate(SHAPES):
        if dtype == torch.float64 and hidden > 400:
            continue
        args = call(cell, steps, batch, inputs, hidden, dtype, resets=i % 2 == 1, lengths=i % 3 == 1,
                    directions=1 + i % 2)  # fmt: skip
        assert_right(args, f"T {steps} B {batch} I {inputs} H {hidden}")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_name)
def test_long(family, cell, dtype):
    args = call(cell, 300, 5, 8, 48, dtype, resets=True, lengths=True, directions=2)
    assert_right(args)


def test_many_token_ids(family):
    """Ids in several chunks of the scatter, and more ids than rows."""
    assert_right(call("gru", 400, 20, 65, 40, torch.float32, ids=True))
    assert_right(call("lstm", 3, 2, 3000, 16, torch.float32, ids=True))
