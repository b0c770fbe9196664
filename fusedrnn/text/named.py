"""Corpora that the literature knows by name: downloaded once, checked, kept in the cache."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from fusedrnn.text.cache import cache_folder
from fusedrnn.text.errors import TextError

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class NamedCorpus:
    """A text that is known to the byte.

    Attributes:
        url: where it is downloaded from.
        file: its name in the cache.
        sha256: of its bytes.
        size: in bytes.
        about: what it is, and its rights.
    """

    url: str
    file: str
    sha256: str
    size: int
    about: str


CORPORA = {
    "time-machine": NamedCorpus(
        "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        "timemachine.txt",
        "8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
        178_979,
        "H. G. Wells, The Time Machine, as Dive into Deep Learning uses it; public domain",
    ),
    "tiny-shakespeare": NamedCorpus(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "tinyshakespeare.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        1_115_394,
        "excerpts of Shakespeare, collected for char-rnn; public domain",
    ),
    "names": NamedCorpus(
        "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
        "names.txt",
        "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        228_145,
        "32,033 first names, one a line, of makemore; MIT licence",
    ),
}


def fetch(name: str) -> Path:
    """The file of the corpus called ``name`` (a key of `CORPORA`): from the cache, else downloaded
    to it.

    Raises:
        TextError: an unknown name; a file in the cache, or a download, with other bytes than
            expected; no connection (the message says where to put the file by hand).
    """
    if name not in CORPORA:
        raise TextError(f"corpus: expected one of {', '.join(CORPORA)}, got {name!r}")
    corpus = CORPORA[name]
    path = cache_folder() / "texts" / corpus.file
    if path.exists():
        _check(path.read_bytes(), corpus, str(path), "remove it to download it anew")
        return path
    data = _download(corpus, path)
    _check(data, corpus, corpus.url, f"put the right file at {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _download(corpus: NamedCorpus, path: Path) -> bytes:
    try:
        with urllib.request.urlopen(corpus.url, timeout=_TIMEOUT_S) as answer:
            # One byte more than expected is enough to know that it is another file.
            data: bytes = answer.read(corpus.size + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise TextError(
            f"{corpus.url}: expected to download it, got: {reason}; put the file "
            f"(sha256 {corpus.sha256}) at {path} and it is used from there"
        ) from error
    return data


def _check(data: bytes, corpus: NamedCorpus, place: str, remedy: str) -> None:
    got = hashlib.sha256(data).hexdigest()
    if got != corpus.sha256:
        size = f"{len(data):,}" if len(data) <= corpus.size else f"more than {corpus.size:,}"
        raise TextError(
            f"{place}: expected {corpus.size:,} bytes with sha256 {corpus.sha256}, got {size} "
            f"with {got}; {remedy}"
        )
