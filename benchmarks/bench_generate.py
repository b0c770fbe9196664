"""Tokens per second of generation with a one-layer LSTM over characters, three ways.

    python -m benchmarks.bench_generate            two minutes; --json for a record

- the loop people write over ``nn.LSTM``: one-hot row, layer, linear head, softmax, multinomial;
- the same loop over our layer, which takes the token itself;
- ``lm.generate``, the whole loop in one native call.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import fusedrnn
from benchmarks.machine import facts_line
from benchmarks.timing import Effort, interleave, table_options
from fusedrnn import lm

VOCABULARY, TEMPERATURE = 65, 0.8
CASES = [(hidden, batch) for batch in (1, 16) for hidden in (128, 256, 512)]
TOKENS = {"nn.LSTM, Python loop": 100, "fusedrnn.LSTM, Python loop": 200, "native": 2000}


def python_loop(
    rnn: nn.Module, head: nn.Linear, rows: Tensor | None, batch: int
) -> Callable[[int], None]:
    """Draws tokens as one would write it; ``rows`` are the one-hot rows for a layer without ids."""

    @torch.no_grad()
    def run(count: int) -> None:
        ids, state = torch.zeros(1, batch, dtype=torch.int64), None
        for _ in range(count):
            outputs, state = rnn(ids if rows is None else rows[ids], state)
            ids = torch.multinomial((head(outputs[-1]) / TEMPERATURE).softmax(-1), 1).t()

    return run


def contenders(hidden: int, batch: int) -> dict[str, Callable[[int], object]]:
    torch.manual_seed(0)
    model = lm.LanguageModel(VOCABULARY, "lstm", hidden)
    layer = nn.LSTM(VOCABULARY, hidden)
    layer.load_state_dict(model.rnn.state_dict())
    assert isinstance(model.rnn, fusedrnn.LSTM)
    prompt = torch.zeros(1, batch, dtype=torch.int64)
    return {
        "nn.LSTM, Python loop": python_loop(layer, model.head, torch.eye(VOCABULARY), batch),
        "fusedrnn.LSTM, Python loop": python_loop(model.rnn, model.head, None, batch),
        "native": lambda count: lm.generate(model, prompt, count, temperature=TEMPERATURE, native=True),
    }  # fmt: skip


def measure(hidden: int, batch: int, seconds: float) -> dict[str, float]:
    """Median seconds of a round of one token for each row of the batch."""
    calls = contenders(hidden, batch)
    fixed = {name: (lambda name=name: calls[name](TOKENS[name])) for name in calls}
    times = interleave(fixed, Effort(seconds=seconds, sample=1e-3))
    return {name: statistics.median(values) / TOKENS[name] for name, values in times.items()}


def main() -> None:
    args = table_options(__doc__.splitlines()[0]).parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if not args.json:
        print(f"{facts_line()}, {torch.get_num_threads()} threads; tokens/s of all rows together")
        print(
            "| hidden | batch | "
            + " | ".join(TOKENS)
            + " | native / nn.LSTM |\n"
            + "|---:" * 6
            + "|"
        )
    for hidden, batch in CASES:
        seconds = measure(hidden, batch, args.seconds)
        rates = {name: batch / value for name, value in seconds.items()}
        report(hidden, batch, rates, args.json)


def report(hidden: int, batch: int, rates: dict[str, float], as_json: bool) -> None:
    ratio = rates["native"] / rates["nn.LSTM, Python loop"]
    if as_json:
        record: dict[str, Any] = {"hidden": hidden, "batch": batch, "tokens_per_s": rates}
        print(json.dumps(record | {"ratio": ratio}), flush=True)
        return
    shown = " | ".join(f"{rate:,.0f}" for rate in rates.values())
    print(f"| {hidden} | {batch} | {shown} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
