"""`fusedrnn corpus`: what is in a text, before a model is trained on it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fusedrnn import lm, text
from fusedrnn.commands import text_flags
from fusedrnn.commands.flags import command, whole
from fusedrnn.lm.floors import describe, floors, per_text
from fusedrnn.text.statistics import MOST_TOKENS, NGramCounts, ngram_statistics, plot_zipf

_NAMES = ("tokens", "bigrams", "trigrams")


def add(commands: Any) -> None:
    parser = command(commands, "corpus", run, "count a text: tokens, n-grams, Zipf's law, floors")
    text_flags.add(parser, valid_fraction=0.0)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--top", type=whole(0), default=10, metavar="N", help="how many n-grams of each length"
    )
    group.add_argument(
        "--plot",
        metavar="PNG",
        help="picture of frequency over rank (default: <name of the text>-zipf.png)",
    )
    group.add_argument("--no-plot", action="store_true", help="draw nothing")
    group.add_argument(
        "--floors", action="store_true", help="what smoothed n-gram models reach on held-out text"
    )
    group.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    corpus = text_flags.build(args)
    counts = ngram_statistics(corpus.train, corpus.vocab, args.top)
    found = floors(corpus.train, corpus.valid, len(corpus.vocab)) if args.floors else {}
    if args.json:
        print(json.dumps(_facts(corpus, counts, found)))
    else:
        _print(args, corpus, counts)
        if found:
            print(
                "\nfloors: what counting alone reaches on held-out text\n"
                f"{describe(found, corpus.judged)}"
            )
    if not args.no_plot:
        path = Path(args.plot or f"{text_flags.name(args)}-zipf.png")
        try:
            plot_zipf(path, counts, f"{text_flags.name(args)}, {corpus.tokenizer.unit}")
        except lm.PlotUnavailableError as error:
            print(error, file=sys.stderr)
        else:
            print(f"written: {path}", file=sys.stderr if args.json else sys.stdout)
    return 0


def _facts(
    corpus: text.Corpus,
    counts: list[NGramCounts],
    found: dict[str, float],
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "tokens": len(corpus.train) + len(corpus.valid),
        "held_out": len(corpus.valid),
        "vocabulary": len(corpus.vocab),
        "documents": len(corpus.documents),
        "train": vars(corpus.train_sizes),
        "valid": vars(corpus.valid_sizes),
        "digest": corpus.digest,
    }
    for each in counts:
        facts[f"distinct_{each.n}grams"] = len(each.counts)
        facts[f"top_{each.n}grams"] = each.top
    if found:
        facts["floors"] = {
            name: {"nats": loss, **per_text(loss, corpus.judged)} for name, loss in found.items()
        }
    return facts


def _print(args: argparse.Namespace, corpus: text.Corpus, counts: list[NGramCounts]) -> None:
    sizes = corpus.train_sizes
    print(text_flags.describe(args, corpus))
    print(
        f"training part: {sizes.characters:,} characters, {sizes.words:,} words, "
        f"{len(corpus.documents):,} {'document' if len(corpus.documents) == 1 else 'documents'}, "
        f"{sizes.unknown:,} tokens unknown"
    )
    if len(corpus.train) > MOST_TOKENS:
        print(f"n-grams of its first {MOST_TOKENS:,} tokens:")
    for each, name in zip(counts, _NAMES, strict=False):
        once = int((each.counts == 1).sum())
        print(f"\n{name}: {len(each.counts):,} distinct, {once:,} of them once only")
        total = int(each.counts.sum())
        rows = [(_shown(corpus, gram), count) for gram, count in each.top]
        width = max((len(shown) for shown, _ in rows), default=0)
        for shown, count in rows:
            print(f"  {shown:{width}}  {count:10,}  {100 * count / total:6.2f} %")


def _shown(corpus: text.Corpus, gram: tuple[str, ...]) -> str:
    """Words as they are, other tokens so that blanks are seen."""
    if corpus.tokenizer.name == "word":
        return " ".join(gram)
    return repr("".join(gram)) if corpus.tokenizer.name == "char" else " ".join(map(repr, gram))
