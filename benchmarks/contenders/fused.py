"""fusedrnn's own layers, with torch.nn's parameters in them."""

from __future__ import annotations

from torch import nn

from benchmarks.contenders import Call, Problem, Unsupported, torch_nn

NAME = "fusedrnn"


def missing() -> str | None:
    try:
        import fusedrnn  # noqa: F401
    except ImportError as error:
        return f"not built: {error}"
    return None


def layer(module: nn.Module, **options: bool) -> nn.Module:
    """Our layer of the same kind, sharing the parameters."""
    import fusedrnn

    ours = fusedrnn.from_torch(module)
    for name, value in options.items():
        if not hasattr(ours, name):
            raise Unsupported(f"{type(ours).__name__} has no {name!r}")
        setattr(ours, name, value)
    return ours


def build(problem: Problem) -> Call:
    ours = layer(problem.module)
    if problem.lengths is not None:
        return torch_nn.plain(problem, ours, lengths=problem.lengths)
    return torch_nn.plain(problem, ours)
