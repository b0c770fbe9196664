"""Builds the native libraries with CMake and Ninja.

Torch is needed for its headers and libtorch_cpu.so alone. It is found through paths and never
imported, so an isolated `pip install .` builds against the torch that is already installed.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def torch_root():
    """The torch of the environment that is being installed into, else one on sys.path."""
    # In pip's isolated build sys.prefix is still the target environment; its site-packages are only
    # missing from sys.path.
    named = os.environ.get("FUSEDRNN_TORCH_ROOT")
    places = [named] if named else []
    places += [Path(sysconfig.get_path(k)) / "torch" for k in ("platlib", "purelib")]
    places += [Path(p) / "torch" for p in sys.path if p]
    for place in map(Path, places):
        if (place / "include/torch/csrc/stable/library.h").exists():
            return place
    return None


def module_or_tool(module, tool):
    """A build tool from PyPI's wheel of the same name, else from PATH."""
    try:
        folder = __import__(module).__path__[0]
    except ImportError:
        return shutil.which(tool)
    for candidate in (Path(folder) / "data/bin" / tool, Path(sys.prefix) / "bin" / tool):
        if candidate.exists():
            return str(candidate)
    return shutil.which(tool)


class CMakeBuild(build_ext):
    def run(self):
        torch = torch_root()
        if torch is None:
            raise SystemExit("fusedrnn: no torch>=2.10 found; run `pip install torch` first")
        import pybind11

        inplace = self.inplace or getattr(self, "editable_mode", False)
        out = (ROOT if inplace else Path(self.build_lib).resolve()) / "fusedrnn"
        # One folder per Python and platform, kept between runs, so that a rebuild is incremental.
        build = ROOT / "build" / f"cmake-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        options = {
            "FUSEDRNN_TORCH_ROOT": torch,
            "FUSEDRNN_OUT": out,
            "FUSEDRNN_CUDA": os.environ.get("FUSEDRNN_CUDA", "AUTO"),
            "FUSEDRNN_POLL_LIMIT": os.environ.get("FUSEDRNN_POLL_LIMIT", ""),
            "CMAKE_BUILD_TYPE": os.environ.get("FUSEDRNN_BUILD_TYPE", "Release"),
            "FUSEDRNN_PYTHON_INCLUDE": sysconfig.get_path("include"),
            "FUSEDRNN_PYBIND11_INCLUDE": pybind11.get_include(),
            "FUSEDRNN_MODULE_SUFFIX": sysconfig.get_config_var("EXT_SUFFIX"),
        }
        if "FUSEDRNN_CUDA_ARCHS" in os.environ:
            options["CMAKE_CUDA_ARCHITECTURES"] = os.environ["FUSEDRNN_CUDA_ARCHS"]
        if shutil.which("ccache"):
            options["CMAKE_CXX_COMPILER_LAUNCHER"] = "ccache"
            options["CMAKE_CUDA_COMPILER_LAUNCHER"] = "ccache"
        cmake = module_or_tool("cmake", "cmake")
        ninja = module_or_tool("ninja", "ninja")
        if cmake is None or ninja is None:
            raise SystemExit("fusedrnn: CMake and Ninja are needed: `pip install cmake ninja`")
        options["CMAKE_MAKE_PROGRAM"] = ninja
        configure = [cmake, "-G", "Ninja", "-S", str(ROOT), "-B", str(build)]
        subprocess.check_call(configure + [f"-D{k}={v}" for k, v in options.items()])
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count()))
        subprocess.check_call([cmake, "--build", str(build), "--parallel", jobs])

    # The libraries are placed by CMake, not by setuptools; editable installs ask for both of these.
    def get_outputs(self):
        return []

    def get_output_mapping(self):
        return {}


setup(ext_modules=[Extension("fusedrnn._C", [])], cmdclass={"build_ext": CMakeBuild})
