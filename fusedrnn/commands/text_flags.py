"""The flags that say which text a command reads, and how."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from fusedrnn import text
from fusedrnn.commands.flags import number, whole
from fusedrnn.text.tokenize import FILTERS, TOKENIZERS


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        nargs="?",
        metavar="TEXT",
        help="UTF-8 file; without it, the English help topics that every Python carries "
        "(about 465,000 characters)",
    )
    group = parser.add_argument_group("text")
    group.add_argument("--tokens", choices=list(TOKENIZERS), default="char", help="unit of text")
    group.add_argument(
        "--filter",
        choices=FILTERS,
        default="none",
        help="letters: other characters become single spaces, capitals become small",
    )
    group.add_argument(
        "--line-end",
        default="",
        metavar="TOKEN",
        help="for words: a token that stands for every line end, such as <eos>",
    )
    group.add_argument("--max-tokens", type=whole(1), metavar="N", help="use the first N tokens")
    group.add_argument(
        "--min-freq", type=whole(1), default=1, metavar="N", help="rarer tokens are unknown"
    )
    group.add_argument(
        "--valid-fraction",
        type=number(0.0, 1.0, high_excluded=True),
        default=0.05,
        metavar="X",
        help="share of the text, its end, that is held out",
    )
    group.add_argument(
        "--valid", metavar="FILE", help="held-out text; all of TEXT is then trained on"
    )


def build(args: argparse.Namespace) -> text.Corpus:
    """The corpus that the flags describe. Raises TextError, OSError."""
    options: dict[str, Any] = {"line_end": args.line_end} if args.line_end else {}
    tokenizer = text.make_tokenizer(args.tokens, args.filter, **options)
    corpus = text.build_corpus(
        text.read_text(args.text) if args.text else text.python_docs_text(),
        tokenizer,
        max_tokens=args.max_tokens,
        valid_fraction=0.0 if args.valid else args.valid_fraction,
        min_freq=args.min_freq,
    )
    if not args.valid:
        return corpus
    held_out = corpus.vocab.encode(tokenizer.tokenize(text.read_text(args.valid)))
    return dataclasses.replace(corpus, valid=held_out)


def describe(args: argparse.Namespace, corpus: text.Corpus) -> str:
    """One line for the user."""
    return (
        f"text: {args.text or 'pydoc_data.topics, which comes with Python'}: "
        f"{len(corpus.train) + len(corpus.valid):,} {corpus.tokenizer.unit}, "
        f"{len(corpus.valid):,} of them held out, "
        f"vocabulary of {len(corpus.vocab):,} entries"
    )
