// The register tile: the one place where multiply-adds happen. Every product of a layer (input projection, recurrence,
// its transpose, dx, dW) is a loop over calls of these functions.
//
//   c[m][0 .. NV*L) = init + sum over k < K of a(m, k) * w[k][0 .. NV*L),   m < MR,   L = kLanes
//
// w: packed [K][NV*L], aligned to a vector. init: 0; or c itself where add; or bias[NV*L] (same for every row) where
// not null. k runs upwards in one chain per element for tiles of 8 registers or more, else in 2, 4 or 8 interleaved
// chains, so the bits of a row do not depend on the rows beside it unless fewer than 8/NV rows are left.
#pragma once
#include "simd.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {

constexpr int kMaxColumns = 4;  // NV
constexpr int kMaxRows = 8;     // MR

template <class T>
struct Tiles {
  // a(m, k) = a[m][k]: rows anywhere in memory.
  using Rows = void (*)(const T* const* a, const T* w, int64_t K, T* const* c, const T* bias, bool add);
  // a(m, k) = a[k * kPanelRows + m]: rows packed by pack_panels (pack.h).
  using Panel = void (*)(const T* a, const T* w, int64_t K, T* const* c, bool add);
  Rows rows[kMaxColumns][kMaxRows];    // [NV-1][MR-1]; null where MR exceeds max_rows[NV-1]
  Panel panel[kMaxColumns][kMaxRows];  // MR <= kPanelRows
};

extern const Tiles<float> tiles_f32;
extern const Tiles<double> tiles_f64;
// The same over cells that hold two bf16 each, k counting cells: a(m, k) * w[k] is then the sum of two products. Null
// where the processor has no such instruction. Subnormal factors and sums count as zero.
const Tiles<float>* bf16_tiles();

namespace {

// Rows whose accumulators fit the registers beside NV weights and one broadcast (or MR broadcasts and one weight), and,
// where there is no fused multiply-add, a product.
constexpr int max_rows(int nv) {
  if (kRegisters == 32) return nv >= 4 ? 6 : 8;
#if defined(__SSE2__) && !defined(__FMA__)
  return nv >= 3 ? 2 : nv == 2 ? 3 : 8;
#else
  return nv >= 4 ? 3 : nv == 3 ? 4 : nv == 2 ? 6 : 8;
#endif
}
constexpr int kPanelRows = max_rows(kMaxColumns);

// Whether tiles of four rows and three vectors are better than those of three and four, where rows make whole ones:
// with 16 registers and fused multiply-adds, tiles of eight sums just miss covering the latency of a multiply-add
// (measured with AVX2: 2x4 and 4x2 reach 91 % of the peak, 3x4 and 4x3 reach 99).
#if defined(__FMA__)
constexpr bool kTilesOfFourRows = kRegisters == 16;
#else
constexpr bool kTilesOfFourRows = false;
#endif
// How wide the tiles of so many rows and vectors had best be: four vectors, unless three leave no rows over and few
// vectors.
constexpr int best_columns(int64_t rows, int64_t vectors) {
  const bool in_threes = vectors % 3 == 0 || vectors >= 24;
  return kTilesOfFourRows && rows % 3 != 0 && rows % 4 == 0 && in_threes ? 3 : kMaxColumns;
}

template <class T>
FUSEDRNN_INLINE const Tiles<T>& tiles() {
  if constexpr (sizeof(T) == 4)
    return tiles_f32;
  else
    return tiles_f64;
}

// Rows [0, n) in near-equal runs of at most most; f(first, count).
template <class F>
FUSEDRNN_INLINE void split_rows(int64_t n, int most, F&& f) {
  if (n <= 0) return;
  const int64_t runs = ceil_div(n, most);
  int64_t r = 0;
  for (int64_t i = 0; i < runs; i++) {
    const int64_t e = n * (i + 1) / runs;
    f(r, int(e - r));
    r = e;
  }
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
