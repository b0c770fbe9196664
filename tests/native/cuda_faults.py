"""Seeded faults of the cluster family: each one is put into a copy of the kernels and must be caught by
cuda_cluster_test on the emulator, in some schedule and some delivery of the asynchronous stores."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
FORWARD = "csrc/cuda/cluster_forward.h"
BACKWARD = "csrc/cuda/cluster_backward.h"

# name: (file, text that stands there once, what replaces it)
FAULTS: dict[str, tuple[str, str, str]] = {
    "no announced bytes": (FORWARD, "phase_arm(barrier, kBytes);", "phase_arm(barrier, 0);"),
    "half the announced bytes": (
        FORWARD,
        "phase_arm(barrier, kBytes);",
        "phase_arm(barrier, kBytes / 2);",
    ),
    "never armed again": (
        FORWARD,
        "if (first_thread && s + 2 < steps) phase_arm(barrier, kBytes);",
        "",
    ),
    "armed by two threads": (
        FORWARD,
        "uint32_t first_thread = threadIdx.x == 0;",
        "uint32_t first_thread = threadIdx.x < 2;",
    ),
    "wrong parity": (
        FORWARD,
        "phase_wait(barrier, static_cast<uint32_t>(s >> 1) & 1);",
        "phase_wait(barrier, static_cast<uint32_t>(s >> 1) & 1 ^ 1);",
    ),
    "no wait": (FORWARD, "phase_wait(barrier, static_cast<uint32_t>(s >> 1) & 1);", ""),
    "one buffer of h": (
        FORWARD,
        "sender.send(next * kBytes + j * S::kArrival, next * 8, bits[j]);",
        "sender.send(now * kBytes + j * S::kArrival, next * 8, bits[j]);",
    ),
    "no barrier of a group": (FORWARD, "named_barrier(barrier, 64);", ""),
    "no barrier of the cluster at the start": (
        FORWARD,
        "cluster_barrier();  // the peers exist, their barriers are initialised, h0 is complete",
        "__syncthreads();",
    ),
    "sends after the last step and leaves": (
        FORWARD,
        "if (s + 1 < steps) sender.send(",
        "sender.send(",
    ),
    "backward without a wait": (
        BACKWARD,
        "phase_wait(barrier, static_cast<uint32_t>(s >> 1) & 1);",
        "",
    ),
    "no barrier before the product": (
        BACKWARD,
        "    __syncthreads();\n    float sum",
        "    float sum",
    ),
    "one buffer of gate gradients": (
        BACKWARD,
        "differentiate<S, T>(in[j], dh[j], j * S::kOwn + now * kOperand, gate_at, cut, tiles[j], d[j]);",
        "differentiate<S, T>(in[j], dh[j], j * S::kOwn + next * 0, gate_at, cut, tiles[j], d[j]);",
    ),
    "one buffer of partial sums": (
        BACKWARD,
        "sender.send(next * kBytes + j * S::kArrival, next * 8, sum[j]);",
        "sender.send(now * kBytes + j * S::kArrival, next * 8, sum[j]);",
    ),
    "a rank's partial sum is skipped": (
        BACKWARD,
        "for (int r = 0; r < S::kR; r++) sum += part[r];",
        "for (int r = 1; r < S::kR; r++) sum += part[r];",
    ),
}

FLAGS = ["-std=c++20", "-O1", "-w", "-DFUSEDRNN_CLUSTER_ONE_SHAPE"]
FAULTY = [
    "cluster_lstm_forward.cu",
    "cluster_lstm_backward.cu",
]  # what the faults are compiled into
SOUND = [f"cluster_{cell}_{way}.cu" for cell in ("gru", "elman") for way in ("forward", "backward")]


def compile_objects(tree: pathlib.Path, sources: list[pathlib.Path]) -> list[str]:
    """Object files of the sources, which lie in `tree`, beside them."""
    objects = []
    for source in sources:
        objects.append(f"{source}.o")
        command = [
            "g++",
            *FLAGS,
            f"-I{tree}/tests/native/cuda_emulator",
            "-x",
            "c++",
            "-c",
            str(source),
            "-o",
        ]
        subprocess.run([*command, objects[-1]], check=True)
    return objects


def copy_sources(tree: pathlib.Path) -> None:
    for part in ("csrc/cuda", "csrc/cells", "tests/native"):
        shutil.copytree(ROOT / part, tree / part)
    shutil.copy(ROOT / "csrc/layer.h", tree / "csrc/layer.h")


def sound_objects(tree: pathlib.Path) -> list[str]:
    """Everything but the kernels that the faults are put into."""
    copy_sources(tree)
    cuda = tree / "csrc/cuda"
    sources = [cuda / name for name in [*SOUND, "launch_cluster.cu"]] + sorted(
        cuda.glob("plan*.cpp")
    )
    return compile_objects(tree, [*sources, tree / "tests/native/cuda_cluster_test.cpp"])


def build(tree: pathlib.Path, sound: list[str], name: str | None) -> pathlib.Path:
    """The test program with one fault, or with none, for one shape of the LSTM."""
    copy_sources(tree)
    if name is not None:
        path, there, instead = FAULTS[name]
        text = (tree / path).read_text()
        if text.count(there) != 1:
            raise ValueError(
                f"fault {name!r}: expected its text once in {path}, found {text.count(there)} times"
            )
        (tree / path).write_text(text.replace(there, instead))
    objects = compile_objects(tree, [tree / "csrc/cuda" / name for name in FAULTY])
    subprocess.run(["g++", *objects, *sound, "-o", str(tree / "test")], check=True)
    return tree / "test"


def caught(program: pathlib.Path, mode: str = "fault") -> bool:
    """True when the test program finds something wrong."""
    return (
        subprocess.run([str(program), mode], stdout=subprocess.DEVNULL, timeout=600).returncode != 0
    )


if __name__ == "__main__":
    import sys
    import tempfile

    missed = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        sound = sound_objects(root / "sound")
        for i, fault in enumerate([None, *FAULTS]):
            if len(sys.argv) > 1 and fault not in sys.argv[1:]:
                continue
            found = caught(build(root / f"tree{i}", sound, fault))
            print(f"{'caught' if found else 'passed'}: {fault or 'no fault'}", flush=True)
            if found == (fault is None):
                missed.append(fault)
    sys.exit(bool(missed))
