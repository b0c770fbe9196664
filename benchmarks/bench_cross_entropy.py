"""The loss of a linear head over the classes of a vocabulary, with its gradients, beside torch's.

    python -m benchmarks.bench_cross_entropy            a minute; --loss without the gradients

- ``cross_entropy`` of ``linear``, as everyone writes it;
- ``linear_cross_entropy`` of torch, in chunks, where this torch has it;
- ``fusedrnn.functional.linear_cross_entropy``.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.machine import facts_line
from benchmarks.timing import Effort, interleave, table_options
from fusedrnn.functional import linear_cross_entropy

# rows (steps times batch), features, classes: characters, BPE, words
CASES = (
    (1120, 256, 28),
    (1120, 256, 65),
    (2048, 512, 65),
    (1120, 256, 1000),
    (700, 200, 10000),
    (700, 650, 10000),
    (1120, 512, 33000),
)
TORCH, CHUNKS, OURS = "torch, linear and cross_entropy", "torch, in chunks", "fusedrnn"


def contenders(
    rows: int, features: int, classes: int, backward: bool = True
) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    head = nn.Linear(features, classes)
    x, labels = torch.randn(rows, features, requires_grad=True), torch.randint(classes, (rows,))
    wanted = [x, *head.parameters()]

    def run(loss: Callable[[], Tensor]) -> Callable[[], object]:
        return (lambda: torch.autograd.grad(loss(), wanted)) if backward else torch.no_grad()(loss)

    calls = {TORCH: run(lambda: F.cross_entropy(head(x), labels))}
    if hasattr(nn, "LinearCrossEntropyOptions"):
        options = nn.LinearCrossEntropyOptions()
        calls[CHUNKS] = run(
            lambda: F.linear_cross_entropy(
                x, head.weight, labels, linear_bias=head.bias, options=options
            )
        )
    calls[OURS] = run(lambda: linear_cross_entropy(x, head.weight, labels, linear_bias=head.bias))
    return calls


def main() -> None:
    parser = table_options(__doc__.splitlines()[0])
    parser.add_argument("--loss", action="store_true", help="the loss alone, as in evaluation")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    names = list(contenders(1, 1, 1))
    if not args.json:
        print(f"{facts_line()}, {torch.get_num_threads()} threads; milliseconds, float32\n")
        print("| rows | features | classes | " + " | ".join(names) + " | GF/s | times torch |")
        print("|---:" * (5 + len(names)) + "|")
    for case in CASES:
        times = interleave(
            contenders(*case, backward=not args.loss), Effort(seconds=args.seconds, sample=1e-3)
        )
        seconds = {name: statistics.median(values) for name, values in times.items()}
        products = 1 if args.loss else 3
        rate = products * 2 * math.prod(case) / seconds[OURS] / 1e9
        if args.json:
            print(json.dumps({"case": case, "seconds": seconds, "gflops": rate}))
            continue
        cells = [*map(str, case), *(f"{seconds[name] * 1e3:.2f}" for name in names)]
        print(f"| {' | '.join(cells)} | {rate:.0f} | {seconds[TORCH] / seconds[OURS]:.2f} |")


if __name__ == "__main__":
    main()
