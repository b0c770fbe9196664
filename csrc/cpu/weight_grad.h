// Weight gradients: dW += sum over the rows of a chunk of d^T * b, where d are rows of gate gradients and b rows of x
// or of h_{t-1} (or of dh and the hidden output, for a projection).
#pragma once
#include "product.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

// Runs of gradient columns, packed once per chunk and multiplied with several right factors. Factors in bf16 make cells
// of two consecutive rows (pack.h).
template <class T>
struct PackedGradients {
  T* data;        // [slot][panel][k][kPanelRows]
  int64_t K;      // cells along the rows of the chunk
  int64_t units;  // columns per slot
  int64_t panels() const { return ceil_div(units, kPanelRows); }
  T* slot(int s) const { return data + s * panels() * K * kPanelRows; }
  static int64_t size(int slots, int64_t units, int64_t K) {
    return slots * ceil_div(units, kPanelRows) * kPanelRows * K;
  }
};

// sum[0 .. n) into grad: set or added to.
template <class T>
FUSEDRNN_INLINE void put_sums(const T* sum, T* grad, int64_t n, bool add) {
  for (int64_t i = 0; i < n; i++) grad[i] = add ? grad[i] + sum[i] : sum[i];
}

// A right factor: K rows of `columns` elements, the first `skip` of which are known to be zero.
template <class T>
struct RightFactor {
  const T* const* row;
  int64_t K, skip, columns;
  int elements;  // of a cell; skip is a multiple
};

// Columns n0 .. n0+width of the right factor, without the rows to be skipped.
template <class T>
FUSEDRNN_INLINE void pack_right(const RightFactor<T>& b, int64_t n0, int64_t width, int nv, T* packed) {
  if constexpr (sizeof(T) == 4)
    if (b.elements == 2) {
      pack_row_pairs([&](int64_t k) __attribute__((always_inline)) { return as_bf16(b.row[b.skip + k]) + n0; },
                     b.K - b.skip, width, nv, packed);
      return;
    }
  pack_rows<T>([&](int64_t k) __attribute__((always_inline)) { return b.row[b.skip + k] + n0; }, b.K - b.skip, width,
               nv, packed);
}

// dw[gate(i) * H + unit0 + u][0 .. columns) += packed slot first+i, column u, times the right factor, for i < slots.
// add = false: the old contents count as 0. spare: [K][kMaxColumns * L] and then [kMaxRows][kMaxColumns * L].
template <class T>
void add_weight_grad(const Tiles<T>& tile, const PackedGradients<T>& d, int first, int slots, const int* gate,
                     int64_t H, int64_t unit0, const RightFactor<T>& b, T* dw, bool add, T* spare) {
  constexpr int L = kLanes<T>;
  const int64_t K = ceil_div(b.K - b.skip, b.elements);
  T* packed = spare;
  T* part = spare + b.K * kMaxColumns * L;
  const Panels panels(ceil_div(b.columns, L), kMaxColumns, 1);
  for (int64_t p = 0; p < panels.count; p++) {
    const int64_t n0 = panels.at(p).block * L;
    const int nv = panels.at(p).blocks;
    const int64_t width = min64(nv * L, b.columns - n0);
    pack_right(b, n0, width, nv, packed);
    for (int i = 0; i < slots; i++) {
      const T* left = d.slot(first + i) + b.skip / b.elements * kPanelRows;
      for (int64_t u = 0; u < d.units; u += kPanelRows, left += d.K * kPanelRows) {
        const int m = int(min64(kPanelRows, d.units - u));
        T* out = dw + (gate[i] * H + unit0 + u) * b.columns + n0;
        T* c[kMaxRows];
        const bool whole = width == nv * L;
        for (int r = 0; r < m; r++) c[r] = whole ? out + r * b.columns : part + r * nv * L;
        if (add && whole)
          for (int r = 0; r < m; r++) prefetch(c[r], width * sizeof(T), true);
        tile.panel[nv - 1][m - 1](left, packed, K, c, add && whole);
        if (whole) continue;
        for (int r = 0; r < m; r++) put_sums(c[r], out + r * b.columns, width, add);
      }
    }
  }
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
