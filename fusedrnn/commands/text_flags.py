"""The flags that say which text, and how it is cut: the same for every command that reads one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusedrnn import text
from fusedrnn.commands.flags import number, refuse, whole
from fusedrnn.text.bpe import DEFAULT_SIZE
from fusedrnn.text.decode import ENCODING_ERRORS
from fusedrnn.text.tokenize import FILTERS, TOKENIZERS, Tokenizer
from fusedrnn.text.vocab import UNKNOWN_POLICIES

TEXTS = f"files (also .gz and .zst), patterns, - for standard input, or {', '.join(text.CORPORA)}"
SEPARATOR = "token that begins a document: the state is reset where it is read"
_OF_A_VOCABULARY = (
    "tokens", "filter", "line_end", "bpe_size", "bpe_file", "encoding", "encoding_errors",
    "max_tokens", "min_freq", "max_vocab", "special", "valid_fraction", "valid", "text",
)  # fmt: skip
PYTHON_DOCS = "pydoc_data.topics, which comes with Python"


def add(parser: argparse.ArgumentParser, valid_fraction: float = 0.05) -> None:
    """TEXT... and every flag of a corpus, for `build`."""
    parser.add_argument(
        "text",
        nargs="*",
        metavar="TEXT",
        help=f"{TEXTS}; without any, the English help topics that every Python carries",
    )
    group = parser.add_argument_group("text")
    add_tokens(group)
    add_reading(group)
    group.add_argument("--max-tokens", type=whole(1), metavar="N", help="use the first N tokens")
    group.add_argument(
        "--min-freq", type=whole(1), default=1, metavar="N", help="rarer tokens are unknown"
    )
    group.add_argument(
        "--max-vocab", type=whole(1), metavar="N", help="keep the N most frequent entries"
    )
    group.add_argument(
        "--special",
        action="append",
        default=[],
        metavar="TOKEN",
        help="an entry of the vocabulary whether or not the text has it; may be given again",
    )
    group.add_argument(
        "--valid-fraction",
        type=number(0.0, 1.0, high_excluded=True),
        default=valid_fraction,
        metavar="X",
        help="share of the text, its end, that is held out",
    )
    group.add_argument(
        "--valid",
        action="append",
        default=[],
        metavar="TEXT",
        help="held-out text; all of TEXT is then trained on; may be given again",
    )


def add_tokens(group: Any) -> None:
    """What the tokens are, for `tokenizer`."""
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
        help="with words: a token that stands for every line end, such as <eos>",
    )
    group.add_argument(
        "--bpe-size",
        type=whole(257),
        default=DEFAULT_SIZE,
        metavar="N",
        help="with bpe: entries of the vocabulary that is trained on the text",
    )
    group.add_argument(
        "--bpe-file", metavar="JSON", help="with bpe: a trained tokenizer instead (tokenizer.json)"
    )


def add_reading(group: Any) -> None:
    """How bytes become text and what becomes of unknown tokens."""
    group.add_argument(
        "--encoding", default="utf-8", metavar="NAME", help="of the text, as Python calls it"
    )
    group.add_argument(
        "--encoding-errors",
        choices=ENCODING_ERRORS,
        default="error",
        help="what becomes of bytes that are not in the encoding",
    )
    group.add_argument(
        "--unknown",
        choices=UNKNOWN_POLICIES,
        default="unk",
        help="what becomes of tokens that the vocabulary does not hold",
    )


def tokenizer(args: argparse.Namespace) -> Tokenizer:
    """The tokenizer that the flags ask for. Raises TextError or FlagError for flags that do not go
    together."""
    if args.tokens != "bpe":
        refuse(args, ["bpe_size"], f"expected --tokens bpe, got {args.tokens}")
    if args.bpe_file:
        refuse(args, ["bpe_size"], "expected no --bpe-file, whose tokenizer has its size")
    for flag, value, tokens in (
        ("--line-end", args.line_end, "word"),
        ("--bpe-file", args.bpe_file, "bpe"),
    ):
        if value and args.tokens != tokens:
            raise text.TextError(f"{flag}: expected --tokens {tokens}, got {args.tokens}")
    if args.tokens == "word":
        return text.WordTokenizer(args.filter, args.line_end)
    if args.tokens == "bpe":
        if args.bpe_file:
            return text.BPETokenizer.load(args.bpe_file, args.filter)
        return text.BPETokenizer(args.filter, size=args.bpe_size)
    return text.make_tokenizer(args.tokens, args.filter)


def build(args: argparse.Namespace) -> text.Corpus:
    """The corpus that the flags of `add` ask for; long passes show a bar on standard error.

    Raises:
        TextError, OSError: see `fusedrnn.text.load_corpus`.
        FlagError: flags that would do nothing.
    """
    _refuse_useless(args)
    shape = {
        "max_tokens": args.max_tokens,
        "valid_fraction": 0.0 if args.valid else args.valid_fraction,
        "min_freq": args.min_freq,
        "max_vocab": args.max_vocab,
        "special": args.special,
        "unknown": args.unknown,
    }
    how = {"encoding": args.encoding, "encoding_errors": args.encoding_errors}
    if args.text:
        progress = sys.stderr.isatty()
        corpus = text.load_corpus(args.text, tokenizer(args), progress=progress, **how, **shape)
    else:
        corpus = text.build_corpus(text.python_docs_text(), tokenizer(args), **shape)
    if not args.valid:
        return corpus
    held_out = text.encode_texts(
        args.valid, corpus.tokenizer, corpus.vocab, unknown=args.unknown, **how
    )
    return corpus.with_valid(held_out)


def _refuse_useless(args: argparse.Namespace) -> None:
    if args.tokens in ("byte", "bpe"):
        why = f"expected --tokens char or word, got {args.tokens}, which decides the vocabulary"
        refuse(args, ["min_freq", "max_vocab"], why)
    if args.valid:
        refuse(args, ["valid_fraction"], "expected no --valid, which is all that is held out")


def encode(args: argparse.Namespace, tokenizer: Tokenizer, vocab: text.Vocab) -> text.EncodedText:
    """The texts of ``args.text`` in a vocabulary that is given, such as a checkpoint's; the flags
    are those of `add_reading`."""
    return text.encode_texts(
        args.text,
        tokenizer,
        vocab,
        unknown=args.unknown,
        encoding=args.encoding,
        encoding_errors=args.encoding_errors,
    )


def differing(args: argparse.Namespace, saved: Mapping[str, Any]) -> list[str]:
    """The flags that shape a vocabulary and are not as in the settings of a run that was saved, each
    with what was expected and got; the texts, which may go by several names, last."""
    names = [name for name in _OF_A_VOCABULARY if name in saved]
    return [
        f"{_called(name)} expected {saved[name]!r}, got {getattr(args, name)!r}"
        for name in names
        if saved[name] != getattr(args, name)
    ]


def _called(name: str) -> str:
    return "TEXT" if name == "text" else f"--{name.replace('_', '-')}"


def separator(args: argparse.Namespace, vocab: text.Vocab) -> int | None:
    """The index of the token that ``--separator`` names. Raises UnknownTokenError."""
    if args.separator is None:
        return None
    return int(vocab.encode([args.separator], unknown="error")[0])


def name(args: argparse.Namespace) -> str:
    """What a run over these texts is called after."""
    if not args.text:
        return "python-docs"
    first = "stdin" if args.text[0] == "-" else Path(args.text[0]).name.split(".")[0]
    return first.strip("*?[]") or "text"


def describe(args: argparse.Namespace, corpus: text.Corpus) -> str:
    """One line: which text, how long, how much of it is held out, and the vocabulary."""
    shown = ", ".join(args.text[:3]) + (f" and {len(args.text) - 3} more" * (len(args.text) > 3))
    return (
        f"text: {shown or PYTHON_DOCS}: {len(corpus.train) + len(corpus.valid):,} "
        f"{corpus.tokenizer.unit}, {len(corpus.valid):,} of them held out, "
        f"vocabulary of {len(corpus.vocab):,} entries"
    )
