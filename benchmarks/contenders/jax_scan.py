"""JAX: lax.scan over time under jit, the input projection hoisted out of the scan."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import Call, Problem, Unsupported

NAME = "JAX scan"


def missing() -> str | None:
    try:
        import jax  # noqa: F401
    except ImportError as error:
        return f"not installed: {error}"
    return None


def _steps() -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    def rnn(state: Any, projected: Any, w: Any, b: Any) -> Any:
        h, c = state
        return jnp.tanh(projected + h @ w + b), c

    def lstm(state: Any, projected: Any, w: Any, b: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(projected + h @ w + b, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    def gru(state: Any, projected: Any, w: Any, b: Any) -> Any:
        h, c = state
        xr, xz, xn = jnp.split(projected, 3, axis=1)
        hr, hz, hn = jnp.split(h @ w + b, 3, axis=1)
        z, n = jax.nn.sigmoid(xz + hz), jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
        return n + z * (h - n), c

    return {"rnn": rnn, "lstm": lstm, "gru": gru}


def build(problem: Problem) -> Call:
    import jax
    import jax.numpy as jnp

    case = problem.case
    if case.ragged or case.dtype != "float32":
        raise Unsupported("only float32 without lengths")
    step = _steps()[case.cell]

    def direction(x: Any, weights: Any, reverse: bool) -> Any:
        w_ih, w_hh, b_ih, b_hh = weights
        zeros = jnp.zeros((case.batch, case.hidden), x.dtype)

        def body(state: Any, projected: Any) -> Any:
            state = step(state, projected, w_hh.T, b_hh)
            return state, state[0]

        return jax.lax.scan(body, (zeros, zeros), x @ w_ih.T + b_ih, reverse=reverse)[1]

    def layers(x: Any, weights: Any) -> Any:
        for first in range(0, len(weights), case.directions):
            mine = weights[first : first + case.directions]
            x = jnp.concatenate([direction(x, w, bool(d)) for d, w in enumerate(mine)], axis=-1)
        return x

    def gradients(x: Any, weights: Any, dy: Any) -> Any:
        y, backward = jax.vjp(layers, x, weights)
        return y, *backward(dy)

    flat = [jnp.asarray(p.detach().numpy()) for p in problem.module.parameters()]
    weights = [tuple(flat[k : k + 4]) for k in range(0, len(flat), 4)]
    x, dy = jnp.asarray(problem.x.numpy()), jnp.asarray(problem.dy.numpy())
    run_forward, run_training = jax.jit(layers), jax.jit(gradients)

    def forward() -> list[Any]:
        return [jax.block_until_ready(run_forward(x, weights))]

    def training() -> list[Any]:
        y, dx, dw = jax.block_until_ready(run_training(x, weights, dy))
        return [y, dx, dw[0][0]]

    return training if problem.training else forward
