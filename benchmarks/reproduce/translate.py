"""Translation: a textbook's first run, what attention and beam search add, and learned addition.

The textbook is Zhang, Lipton, Li, Smola, *Dive into Deep Learning*, sections 10.7 and 11.4: the
first 600 English-French pairs, two-layer GRUs of 32 units. Its loss is summed over a sentence,
divided by the 10 steps that every sentence is padded to, and averaged over tokens. The 20,000 pairs
are the first of the file of manythings.org of 2017 (Tatoeba, CC BY 2.0), in $FUSEDRNN_DATA or in
shared/data beside the repository.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.reproduce.command import call

_DATA = Path(os.environ.get("FUSEDRNN_DATA") or ROOT.parent / "shared" / "data")
_PAIRS = "fra-eng-20k.tsv"
_BOOK = (
    f"translate train {_PAIRS} --limit 600 --valid-fraction 0 --max-length 10 --layers 2 --hidden 32 "
    "--embedding 32 --dropout 0.1 --batch 64 --lr 0.005 --clip 1 --epochs 300 --out run"
)
_FRENCH = f"translate train {_PAIRS} --schedule cosine --out run"
_SUMS = (
    "translate train sums.tsv --tokens char --reverse --attention bilinear --hidden 128 "
    "--embedding 16 --dropout 0 --batch 128 --lr 0.005 --schedule cosine --epochs 8 --out run"
)


def _train(flags: str, folder: str) -> tuple[str, int]:
    """What training prints, with the pairs at hand, and its seconds."""
    pairs = Path(folder, _PAIRS)
    if not pairs.exists():
        pairs.symlink_to(_DATA / _PAIRS)
    begin = time.perf_counter()
    return call(flags, folder), round(time.perf_counter() - begin)


def _found(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"expected {pattern!r} in what was printed, got {text[-500:]!r}")
    return float(match[1])


def _book(flags: str) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        command = f"{_BOOK} {flags}"
        with tempfile.TemporaryDirectory() as folder:
            printed, seconds = _train(command, folder)
            found = call('translate run "go ." "i lost ." "i\'m home ." --beam 1', folder)
        loss = _found(r"steps of a sentence: ([\d.]+)", printed)
        return {
            "ours": f"loss {loss:.4f}; {'; '.join(found.splitlines())}",
            "asked": "loss <= 0.03; va !; j'ai perdu .",
            "seconds": seconds,
            "command": f"fusedrnn {command}",
        }

    return make


def _french(flags: str, asked: str) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        command = f"{_FRENCH} {flags}"
        with tempfile.TemporaryDirectory() as folder:
            printed, seconds = _train(command, folder)
        one, five = (
            _found(rf"held out, {search}: BLEU ([\d.]+)", printed)
            for search in ("greedy", "beam of 5")
        )
        return {
            "ours": f"BLEU {one:.1f} greedy, {five:.1f} with a beam of 5",
            "asked": asked,
            "seconds": seconds,
            "command": f"fusedrnn {command}",
        }

    return make


def _addition() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sums.tsv").write_text(call("translate sums", folder), encoding="utf-8")
        printed, seconds = _train(_SUMS, folder)
    exact = _found(r"held out, greedy: .*?([\d.]+)% exact", printed)
    return {
        "ours": f"{exact:.2f} % exact",
        "asked": ">= 99 % exact",
        "seconds": seconds,
        "command": f"fusedrnn translate sums > sums.tsv\nfusedrnn {_SUMS}",
    }


TABLE: list[tuple[str, Callable[[], dict[str, Any]]]] = [
    ("600 pairs, GRU 2 x 32", _book("--attention none")),
    ("600 pairs, additive attention", _book("--attention additive --feed before")),
    ("20,000 pairs, no attention", _french("--attention none", "")),
    ("20,000 pairs, attention", _french("", "3 BLEU above no attention; beam above greedy")),
    ("sums of 3 digits, read backwards", _addition),
]
