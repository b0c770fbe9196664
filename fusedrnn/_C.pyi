"""Facts about the native build (csrc/python/module.cpp)."""

from typing import TypedDict

class CellFacts(TypedDict):
    name: str
    gates: int
    slots: int
    has_c: bool

class FmaPeak(TypedDict):
    isa: str
    gflops: list[float]
    fastest: list[float]

cuda_build: str

def isa() -> str: ...
def available_isas() -> list[str]: ...
def cells() -> list[CellFacts]: ...
def fma_peak(threads: int, seconds: float, isa: str = "") -> FmaPeak: ...
