#!/usr/bin/env python3
"""From a clone to a result, with nothing but Python, a C++ compiler and a package registry.

    python3 run.py demo     build, train a character model for a minute, print samples
    python3 run.py test     build, run all tests
    python3 run.py lint     formatters, linters and type checks
    python3 run.py oldest   compile against the headers of the oldest torch that is supported
    python3 run.py build    build only (incremental)

Everything goes into the folder .venv beside this file; nothing else on the machine is changed.
Further arguments are handed on: `python3 run.py test -k lstm`.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("FUSEDRNN_VENV", ROOT / ".venv"))
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
BUILD_TOOLS = ["setuptools>=77", "wheel", "pybind11>=2.13", "cmake>=3.24", "ninja"]
STYLE_FOLDERS = ["fusedrnn", "tests", "benchmarks"]


def call(*command, **environment):
    """Runs a command, prints what it is and how long it took; stops here if it fails."""
    words = [str(w) for w in command]
    print("+", " ".join(words), flush=True)
    start = time.monotonic()
    code = subprocess.call(words, cwd=ROOT, env={**os.environ, **environment})
    print(f"  {time.monotonic() - start:.1f} s: {Path(words[0]).name} {words[1:3]}", flush=True)
    if code:
        sys.exit(code)


def pip(*arguments):
    call(BIN / "python", "-m", "pip", "install", "--quiet", *arguments)


def environment():
    """The virtual environment."""
    if sys.version_info < (3, 10):  # noqa: UP036  said in words before pip says it in pages
        sys.exit(f"fusedrnn: expected Python 3.10 or newer, got {sys.version.split()[0]}")
    if not (BIN / "python").exists():
        print(f"creating {VENV}", flush=True)
        venv.create(VENV, with_pip=True)


def build(extras):
    """The pinned torch in the environment, and the package built into it."""
    environment()
    pip("-c", "constraints.txt", "torch", *BUILD_TOOLS)
    # Without isolation the build sees the tools above and does not fetch them a second time.
    pip("-c", "constraints.txt", "--no-build-isolation", "-e", f".[{extras}]")


def demo(arguments):
    build("plot")
    call(BIN / "fusedrnn", "train", "--out", "runs/demo", "--overwrite", *arguments)


def test(arguments):
    build("test")
    call(BIN / "python", "-m", "pytest", *arguments)


def lint(arguments):
    build("test,dev")
    python = BIN / "python"
    call(python, "-m", "ruff", "format", "--check", *STYLE_FOLDERS, "setup.py", "run.py")
    call(python, "-m", "ruff", "check", *STYLE_FOLDERS, "setup.py", "run.py")
    sources = [p for folder in ("csrc", "tests/native") for p in sorted((ROOT / folder).rglob("*"))
               if p.suffix in {".h", ".cpp", ".cu"}]  # fmt: skip
    call(BIN / "clang-format", "--dry-run", "--Werror", *[p.relative_to(ROOT) for p in sources])
    call(python, "-m", "mypy", *arguments)


def oldest(arguments):
    """What of torch the native code names must be there from the first release on."""
    environment()
    (release,) = re.findall(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    (target,) = re.findall(r"TORCH_TARGET_VERSION=\w+", (ROOT / "CMakeLists.txt").read_text())
    flags = [f"-D{target}", "-fsyntax-only", "-std=gnu++20", "-Wall", "-Wextra", "-Werror",
             "-fvisibility=hidden"]  # fmt: skip
    cuda = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"
    has_cuda = (cuda / "cuda_runtime.h").is_file()
    sources = [p.relative_to(ROOT) for p in sorted((ROOT / "csrc" / "torch").glob("*.cpp"))
               if has_cuda or not p.name.startswith("cuda_")]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        call(BIN / "python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder,
             f"torch=={release}.0")  # fmt: skip
        (wheel,) = Path(folder).glob("torch-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            headers = [n for n in archive.namelist() if n.startswith("torch/include/")]
            archive.extractall(folder, headers)
        includes = ["-isystem", Path(folder) / "torch" / "include", "-isystem", cuda]
        for source in sources:
            call(os.environ.get("CXX", "g++"), *flags, *includes, source)


def main():
    jobs = {"demo": demo, "test": test, "lint": lint, "oldest": oldest,
            "build": lambda _: build("test,dev,plot")}  # fmt: skip
    if len(sys.argv) < 2 or sys.argv[1] not in jobs:
        sys.exit(__doc__)
    jobs[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
