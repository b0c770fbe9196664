"""Text for language models: vocabulary, tokenizers, corpora and the iterators over them."""

from fusedrnn.text.batches import (
    RandomSampling,
    SequentialPartition,
    Windows,
    document_resets,
    make_loader,
    make_order,
)
from fusedrnn.text.bpe import BPETokenizer
from fusedrnn.text.corpus import (
    Corpus,
    build_corpus,
    load_corpus,
    ngram_counts,
    python_docs_text,
    read_text,
)
from fusedrnn.text.encode_pass import Sizes
from fusedrnn.text.encoded import EncodedText, encode_texts
from fusedrnn.text.errors import TextError, UnknownTokenError
from fusedrnn.text.mismatch import MismatchError, check_same
from fusedrnn.text.named import CORPORA, fetch
from fusedrnn.text.tokenize import (
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    letters_only,
    make_tokenizer,
)
from fusedrnn.text.vocab import Vocab

__all__ = [
    "CORPORA",
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Corpus",
    "EncodedText",
    "MismatchError",
    "RandomSampling",
    "SequentialPartition",
    "Sizes",
    "TextError",
    "Tokenizer",
    "UnknownTokenError",
    "Vocab",
    "Windows",
    "WordTokenizer",
    "build_corpus",
    "check_same",
    "document_resets",
    "encode_texts",
    "fetch",
    "letters_only",
    "load_corpus",
    "make_loader",
    "make_order",
    "make_tokenizer",
    "ngram_counts",
    "python_docs_text",
    "read_text",
]
