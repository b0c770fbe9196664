"""`fusedrnn translate`: learn to translate sentence pairs, and translate.

fusedrnn translate train PAIRS.tsv       learn from sentence pairs
fusedrnn translate eval RUN PAIRS        BLEU of a trained model on other pairs
fusedrnn translate sums                  write sums to learn, "123+456" and "579"
fusedrnn translate RUN "how are you"     translate (where the first word is none of the above)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusedrnn.commands import translate_training
from fusedrnn.commands.flags import LARGEST_SEED, JobOrPredict, command, device, number, whole
from fusedrnn.errors import UserError
from fusedrnn.tasks.translate.addition import addition_pairs
from fusedrnn.tasks.translate.pairs import read_pairs
from fusedrnn.tasks.translate.plot import plot_attention
from fusedrnn.tasks.translate.predict import Translator
from fusedrnn.tasks.translate.task import HeldOut, load_translator

_LARGEST = float("inf")


def add(commands: Any) -> None:
    outer = command(commands, "translate", _translate, "translate sentences, or learn to")
    outer.formatter_class = argparse.RawDescriptionHelpFormatter
    outer.description = __doc__.split("\n", 2)[2]
    words = outer.add_subparsers(
        action=JobOrPredict, dest="word", required=True, metavar="RUN|WORD"
    )
    translate_training.add(words)
    _add_evaluate(words)
    _add_sums(words)
    _add_run(words)


def _add_search_flags(parser: Any, width: int) -> None:
    parser.add_argument(
        "--beam", type=whole(1), default=width, metavar="K", help="width of the search; 1: greedy"
    )
    parser.add_argument(
        "--penalty",
        type=number(0.0, _LARGEST, high_excluded=True),
        default=1.0,
        metavar="X",
        help="of short translations: the score is divided by ((5 + length) / 6) ** X",
    )
    parser.add_argument("--device", type=device, default="cpu", help="cpu or cuda")


def _add_evaluate(words: Any) -> None:
    parser = command(words, "eval", _evaluate, "BLEU of a trained model on sentence pairs")
    parser.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    parser.add_argument("pairs", metavar="PAIRS.tsv")
    parser.add_argument("--swap", action="store_true", help="from the second column to the first")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    _add_search_flags(parser, width=5)


def _add_sums(words: Any) -> None:
    parser = command(words, "sums", _sums, "write sums to learn, as sentence pairs")
    parser.add_argument("--digits", type=whole(1, 6), default=3, metavar="N", help="of each number")
    parser.add_argument("--count", type=whole(1), default=50_000, metavar="N", help="of sums")
    parser.add_argument("--seed", type=whole(0, LARGEST_SEED), default=0, help="decides the sums")


def _add_run(words: Any) -> None:
    parser = command(words, "predict", _run, "translate (the word predict may be left out)")
    parser.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    parser.add_argument(
        "sentences", nargs="*", metavar="SENTENCE", help="without any, each line of standard input"
    )
    _add_search_flags(parser, width=5)
    parser.add_argument(
        "--best", type=whole(1), metavar="N", help="show N translations of each with their scores"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the attention while translating, as PNG"
    )


def _translate(args: argparse.Namespace) -> int:
    raise AssertionError("a subcommand is required")


# --- a trained model -----------------------------------------------------------------------------


def _evaluate(args: argparse.Namespace) -> int:
    translator = load_translator(args.checkpoint, args.device)
    pairs = read_pairs(args.pairs, swap=args.swap)
    held_out = HeldOut.of(pairs, translator.source, translator.target)
    translations = translator.translate(held_out.sources, width=args.beam, penalty=args.penalty)
    scores = held_out.scores(translations)
    if args.json:
        print(json.dumps({**scores, "sentences": len(held_out.sources), "beam": args.beam}))
    else:
        shown = translate_training.show_scores(scores)
        search = translate_training.name_search(args.beam)
        print(f"{len(held_out.sources):,} sentences, {search}: {shown}")
    return 0


def _sums(args: argparse.Namespace) -> int:
    try:
        for question, answer in addition_pairs(args.count, args.digits, args.seed):
            print(question, answer, sep="\t")
    except ValueError as error:
        raise UserError(f"--count: {error}") from error
    return 0


def _run(args: argparse.Namespace) -> int:
    translator = load_translator(args.checkpoint, args.device)
    sentences = list(_sentences(args.sentences))
    _tell_unknown(translator, sentences)
    if args.plot is not None:
        _check_plot(translator, sentences)
    width = max(args.beam, args.best or 1)
    found = translator.search(sentences, width=width, penalty=args.penalty)
    for hypotheses in found:
        for one in hypotheses[: args.best or 1]:
            text = translator.target.decode(one.tokens)
            print(text if args.best is None else f"{one.score:.3f}\t{text}")
    if args.plot is not None:
        plot_attention(args.plot, translator.attention(sentences[0], found[0][0]))
    return 0


def _sentences(given: list[str]) -> Iterator[str]:
    lines = given or (line.rstrip("\n") for line in sys.stdin)
    for number_, line in enumerate(lines, start=1):
        if not line.strip():
            raise UserError(f"sentence {number_}: expected words to translate, got an empty one")
        yield line.strip()


def _tell_unknown(translator: Translator, sentences: list[str]) -> None:
    words = [word for sentence in sentences for word in translator.source.unknown(sentence)]
    if words:
        shown = ", ".join(repr(word) for word in dict.fromkeys(words))
        print(f"never seen in training, read as <unk>: {shown}", file=sys.stderr)


def _check_plot(translator: Translator, sentences: list[str]) -> None:
    if translator.model.attention is None:
        raise UserError("--plot: expected a model with attention, got one without")
    if len(sentences) != 1:
        raise UserError(f"--plot: expected one sentence to draw, got {len(sentences)}")
