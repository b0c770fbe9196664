// What the plans of the fma and the grid family share. Host code.
#pragma once
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "fma.h"

namespace fusedrnn::cuda {

inline constexpr double kCyclesPerUs = 1965;  // of an H200, to which the costs are fitted (docs/gpu-notes.md)

// Cycles of a step's product on one multiprocessor: the larger of arithmetic (128 products a cycle) and reads of shared
// memory (128 bytes a cycle). weight: bytes of an element of W_hh.
inline double product_cycles(const FmaShape& s, int weight) {
  const double cells = double(s.rows) * s.K;
  return 1.3 * std::max(cells * s.N / 128, cells * (weight + s.N * 0.5) / 128);
}

// Whether the environment variable `name`, "R,N", allows this shape; without it every shape is allowed. For tests and
// measurements.
inline bool shape_allowed(const char* name, int R, int N) {
  const char* wish = std::getenv(name);
  if (!wish || !*wish) return true;
  int r = 0, n = 0;
  return std::sscanf(wish, "%d,%d", &r, &n) == 2 && r == R && n == N;
}

inline std::string fma_refusal(const Problem& p) {
  if (p.dtype == DType::f64) return "computes in float32";
  if (p.projects) return "does not project";
  if (p.n.B < 1 || p.n.T < 1) return "nothing to do";
  if (p.n.H > 4096) return "W_hh does not fit the chip";
  return "";
}

}  // namespace fusedrnn::cuda
