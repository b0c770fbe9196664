"""Corpora by name: downloaded once, checked, or put in place by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import threading

import pytest

from fusedrnn.text import CORPORA, CharTokenizer, TextError, fetch, load_corpus, named

CONTENT = b"a small text\n" * 50


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A corpus called "small" on a server of our own, the list of requests to it, its file."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "small.txt").write_bytes(CONTENT)
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "site"))

        def log_message(self, format, *arguments):
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/small.txt"
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    corpus = named.NamedCorpus(url, "small.txt", sha256, len(CONTENT), "ours")
    monkeypatch.setitem(named.CORPORA, "small", corpus)
    monkeypatch.setenv("FUSEDRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield corpus, requests, tmp_path / "cache" / "texts" / "small.txt"
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloaded_once(served):
    _, requests, path = served
    corpus = load_corpus("small", CharTokenizer())
    assert len(corpus.train) == len(CONTENT)
    assert fetch("small") == path
    assert path.read_bytes() == CONTENT
    assert len(requests) == 1


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"size": 99}])
def test_other_bytes_than_expected_are_not_kept(served, monkeypatch, changes):
    corpus, _, path = served
    monkeypatch.setitem(named.CORPORA, "small", dataclasses.replace(corpus, **changes))
    with pytest.raises(TextError, match=r"expected .* bytes with sha256 .*, got .*; put the right"):
        fetch("small")
    assert not path.exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/none", "file:///none", "nonsense", ""])
def test_offline_the_error_says_where_to_put_the_file(served, monkeypatch, url):
    corpus, _, path = served
    monkeypatch.setitem(named.CORPORA, "small", dataclasses.replace(corpus, url=url))
    with pytest.raises(TextError) as caught:
        load_corpus("small", CharTokenizer())
    assert str(path) in str(caught.value)
    assert corpus.sha256 in str(caught.value)
    assert "\n" not in str(caught.value)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert len(load_corpus("small", CharTokenizer()).train) == len(CONTENT)


def test_a_damaged_file_in_the_cache_is_an_error(served):
    _, requests, path = served
    fetch("small")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(TextError, match="remove it to download it anew"):
        fetch("small")
    assert len(requests) == 1


def test_a_missing_page(served, monkeypatch):
    corpus, _, _ = served
    gone = dataclasses.replace(corpus, url=corpus.url + "x")
    monkeypatch.setitem(named.CORPORA, "small", gone)
    with pytest.raises(TextError, match="expected to download it, got: "):
        fetch("small")


def test_an_unknown_name():
    with pytest.raises(TextError, match=r"expected one of time-machine, .*, got 'war-and-peace'"):
        fetch("war-and-peace")


@pytest.mark.parametrize(
    ("name", "file"),
    [("time-machine", "timemachine.txt"), ("tiny-shakespeare", "tinyshakespeare.txt")],
)
def test_the_known_texts_have_the_known_checksums(data_file, name, file):
    data = data_file(file).read_bytes()
    assert len(data) == CORPORA[name].size
    assert hashlib.sha256(data).hexdigest() == CORPORA[name].sha256
