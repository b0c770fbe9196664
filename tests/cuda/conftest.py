"""Everything here needs a CUDA device, and is skipped, with the reason, where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fusedrnn import _ops


def _why_not() -> str | None:
    if not torch.cuda.is_available():
        return "needs a CUDA device, and torch sees none"
    if not _ops.HAS_CUDA_OPS:
        return "needs the CUDA part of fusedrnn, which was not built"
    if torch.cuda.get_device_capability() < (8, 0):
        return "needs a GPU of compute capability 8.0 or later"
    return None


@pytest.fixture(autouse=True)
def _device() -> Iterator[None]:
    """Skips without a device; with one, float32 is exact unless a test allows TF32."""
    reason = _why_not()
    if reason is not None:
        pytest.skip(reason)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(params=["step", "auto", "block"])
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test that takes this runs with the step family, the plan's choice, and the block family,
    which the plan does not choose unasked."""
    if request.param == "auto":
        monkeypatch.delenv("FUSEDRNN_CUDA_FAMILY", raising=False)
    else:
        monkeypatch.setenv("FUSEDRNN_CUDA_FAMILY", request.param)
    return str(request.param)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The block family is for float32: in other types its turn would run the step family again, as it
    does where H is above 128."""
    here = Path(__file__).parent

    def repeats(item: pytest.Item) -> bool:
        given = getattr(item, "callspec", None)
        if given is None or here not in item.path.parents or given.params.get("family") != "block":
            return False
        return given.params.get("dtype", torch.float32) != torch.float32

    config.hook.pytest_deselected(items=[item for item in items if repeats(item)])
    items[:] = [item for item in items if not repeats(item)]
