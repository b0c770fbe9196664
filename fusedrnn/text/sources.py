"""Where a text comes from: files, patterns, compressed files, standard input, named corpora.

Every source is one document and gives its bytes in pieces, from any byte on, as often as asked.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import stat
import sys
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fusedrnn.text import named
from fusedrnn.text.cache import cache_folder
from fusedrnn.text.errors import TextError

PIECE = 1 << 20
_STANDARD_INPUT = "-"
_PATTERN = "*?["


@dataclass(frozen=True)
class Source:
    """One document.

    Attributes:
        name: what messages call it.
        path: its file; None where ``data`` holds it.
        data: its bytes, where they are held in memory or in an open file that can be read again.
    """

    name: str
    path: Path | None = None
    data: bytes | BinaryIO = b""

    @property
    def compression(self) -> str:
        suffix = self.path.suffix.lower() if self.path is not None else ""
        return suffix if suffix in (".gz", ".zst") else ""

    def size(self) -> int:
        """Bytes as stored, before anything is unpacked."""
        if self.path is not None:
            return self.path.stat().st_size
        if isinstance(self.data, bytes):
            return len(self.data)
        return os.fstat(self.data.fileno()).st_size

    def pieces(self, begin: int = 0) -> Iterator[bytes]:
        """The bytes of the text from number ``begin`` on, in pieces that end with a line end where
        there is one."""
        with self._open() as file:
            if self.compression:
                yield from _whole_lines(_skip(_unpack(file, self.compression, self.name), begin))
            else:
                file.seek(begin)
                yield from _whole_lines(iter(lambda: file.read(PIECE), b""))

    def _open(self) -> Any:
        if self.path is not None:
            return self.path.open("rb")
        if isinstance(self.data, bytes):
            return io.BytesIO(self.data)
        return open(os.dup(self.data.fileno()), "rb")


def expand(texts: Sequence[str | Path]) -> list[Source]:
    """The documents that ``texts`` name, in their order.

    A text is a file (unpacked where it ends with ``.gz`` or ``.zst``), a pattern with ``*``, ``?``,
    ``[`` or ``**`` (its files in the order of their names), ``-`` for standard input, or the name
    of a known corpus (see `fusedrnn.text.named`). A file wins over a name.

    Raises:
        TextError: a pattern without files, a name that is neither a file nor known, a folder or
            device.
        OSError: a file that is missing or cannot be read.
    """
    if not texts:
        raise TextError("expected a text, got none")
    sources: list[Source] = []
    for text in texts:
        name = str(text)
        if name == _STANDARD_INPUT:
            sources.append(_spool("standard input", sys.stdin.buffer))
        elif os.path.lexists(name):
            sources.append(_file(Path(name)))
        elif any(sign in name for sign in _PATTERN):
            found = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
            if not found:
                raise TextError(f"{name}: expected files that match this pattern, got none")
            sources += [_file(Path(path)) for path in found]
        elif name in named.CORPORA:
            sources.append(_file(named.fetch(name)))
        else:
            _missing(name)
    return sources


def _missing(name: str) -> None:
    if os.sep in name or "." in name:
        raise FileNotFoundError(2, os.strerror(2), name)
    raise TextError(
        f"{name}: expected a file, a pattern, - for standard input, or one of "
        f"{', '.join(named.CORPORA)}; got none of them"
    )


def _file(path: Path) -> Source:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory (its files: " + f"'{path}/*')", str(path))
    if stat.S_ISFIFO(mode):
        with path.open("rb") as pipe:
            return _spool(str(path), pipe)
    if not stat.S_ISREG(mode):
        raise TextError(f"{path}: expected a file, got a device or socket")
    with path.open("rb"):  # what cannot be read is better found now than after an hour
        return Source(str(path), path)


def _spool(name: str, stream: BinaryIO) -> Source:
    """What can be read only once, kept to be read again: in memory, a long one in a file that goes
    away with this process."""
    head = stream.read(64 * PIECE)
    if len(head) < 64 * PIECE:
        return Source(name, data=head)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  it lives as long as the source
    file.write(head)
    for piece in iter(lambda: stream.read(PIECE), b""):
        file.write(piece)
    file.flush()
    source = Source(name, data=file)
    weakref.finalize(source, file.close)
    return source


def content_hash(source: Source, on_bytes: Callable[[int], None]) -> tuple[str, int]:
    """SHA-256 of a text, unpacked, and its length in bytes; tells ``on_bytes`` of each piece."""
    digest, size = hashlib.sha256(), 0
    for piece in source.pieces():
        digest.update(piece)
        size += len(piece)
        on_bytes(len(piece))
    return digest.hexdigest(), size


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield rest + piece[:cut]
            rest = piece[cut:]
        else:  # a line longer than a piece goes through in parts
            yield rest + piece
            rest = b""
    if rest:
        yield rest


def _skip(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        if count < len(piece):
            yield piece[count:]
        count = max(0, count - len(piece))


def _unpack(file: BinaryIO, compression: str, name: str) -> Iterator[bytes]:
    """The unpacked bytes of a gzip or Zstandard file of one or several members."""
    make, errors, kind = _gzip() if compression == ".gz" else _zstandard()
    padding = b"\0" if compression == ".gz" else b""  # may follow a member, as it does on tapes
    unpacker, ended = None, False
    try:
        while packed := file.read(1 << 14):
            packed = packed.lstrip(padding) if ended else packed
            while packed:
                unpacker = unpacker or make()
                yield unpacker.decompress(packed)
                ended = unpacker.eof
                packed = unpacker.unused_data.lstrip(padding) if ended else b""
                unpacker = None if ended else unpacker
    except errors as error:
        raise TextError(f"{name}: expected {kind} data, got a damaged file ({error})") from error
    if unpacker is not None:
        raise TextError(f"{name}: expected {kind} data to its end, got a truncated file")


def _gzip() -> tuple[Callable[[], Any], type[Exception], str]:
    return lambda: zlib.decompressobj(wbits=31), zlib.error, "gzip"


def _zstandard() -> tuple[Callable[[], Any], type[Exception], str]:
    try:
        import zstandard
    except ImportError as error:
        raise TextError(
            "a .zst file needs zstandard (pip install 'fusedrnn[zstd]'), got none"
        ) from error
    make = zstandard.ZstdDecompressor().decompressobj
    return make, zstandard.ZstdError, "Zstandard"
