// Copies of factors in the orders the register tile reads (tile.h), and the cutting of unit blocks into panels.
#pragma once
#include "convert.h"
#include "tile.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

// dst[k*stride + lane] = w[lane*ld + k] for k < K, lane < lanes; the other lanes of the vector become 0. One vector
// column of a panel from kLanes rows of a row-major matrix that is used transposed. dst is aligned, w need not be.
template <class T>
void pack_transposed(const T* w, int64_t ld, int64_t K, int64_t lanes, T* dst, int64_t stride) {
  constexpr int L = kLanes<T>;
  int64_t k = 0;
  if (lanes == L) {
    for (; k + L <= K; k += L) {
      // Butterfly transposition: after the pass with distance d, rows i and i+d hold each other's halves.
      Vec<T> r[L];
      FUSEDRNN_UNROLL
      for (int i = 0; i < L; i++) r[i] = load(w + i * ld + k);
      FUSEDRNN_UNROLL
      for (int d = L / 2; d > 0; d /= 2) {
        typename cells::Lane<Vec<T>>::Int low = {}, high = {};
        for (int i = 0; i < L; i++) {
          low[i] = i & d ? i - d + L : i;
          high[i] = i & d ? i + L : i + d;
        }
        FUSEDRNN_UNROLL
        for (int i = 0; i < L; i++)
          if (!(i & d)) {
            const Vec<T> a = r[i], b = r[i + d];
            r[i] = __builtin_shuffle(a, b, low);
            r[i + d] = __builtin_shuffle(a, b, high);
          }
      }
      FUSEDRNN_UNROLL
      for (int i = 0; i < L; i++) store(dst + (k + i) * stride, r[i]);
    }
  }
  for (; k < K; k++)
    for (int64_t i = 0; i < L; i++) dst[k * stride + i] = i < lanes ? w[i * ld + k] : T(0);
}

// dst[k][0 .. NV*L) = row(k)[0 .. n), the rest of the row 0.
template <class T, class Row>
FUSEDRNN_INLINE void pack_rows(Row&& row, int64_t K, int64_t n, int nv, T* dst) {
  constexpr int L = kLanes<T>;
  const int64_t whole = min64(n / L, nv), rest = min64(n, int64_t(nv) * L) - whole * L;
  for (int64_t k = 0; k < K; k++, dst += nv * L) {
    const T* b = row(k);
    int64_t v = 0;
    for (; v < whole; v++) store(dst + v * L, load(b + v * L));
    if (rest > 0) store(dst + v++ * L, load_part(b + whole * L, rest));
    for (; v < nv; v++) store(dst + v * L, Vec<T>{});
  }
}

// The left factor of a weight gradient: columns [0, n) of the rows row(k) go to panels of kPanelRows columns,
// dst[panel][k][kPanelRows]; columns beyond n hold anything. sum[0 .. n) = sum over k of the row (null: not wanted).
template <class T, class Row>
FUSEDRNN_INLINE void pack_panels(Row&& row, int64_t K, int64_t n, T* dst, T* sum) {
  constexpr int L = kLanes<T>;
  // Three vectors at a time hold a whole number of panels and of cache lines, so that each line is read once; reading
  // panel by panel with a power-of-two stride between rows would evict it first.
  constexpr int W = 3 * L;
  static_assert(W % kPanelRows == 0);
  for (int64_t m = 0; m < n; m += W) {
    const int64_t width = min64(W, n - m);
    const int panels = int(ceil_div(width, kPanelRows));
    Vec<T> s[3] = {};
    alignas(64) T line[W] = {};
    for (int64_t k = 0; k < K; k++) {
      const T* a = row(k) + m;
      if (width < W) {
        for (int64_t v = 0; v < width; v += L)
          store(line + v, width - v >= L ? load(a + v) : load_part(a + v, width - v));
        a = line;
      }
      for (int v = 0; v < 3; v++) s[v] += load(a + v * L);
      // Four numbers are one move, three are two: what is one too many the next row overwrites.
      constexpr int kMoved = kPanelRows == 3 ? 4 : kPanelRows;
      T* q = dst + (m / kPanelRows * K + k) * kPanelRows;
      int i = 0;
      if (k + 1 < K)
        for (; i + 1 < panels; i++, q += K * kPanelRows) __builtin_memcpy(q, a + i * kPanelRows, kMoved * sizeof(T));
      for (; i < panels; i++, q += K * kPanelRows) __builtin_memcpy(q, a + i * kPanelRows, kPanelRows * sizeof(T));
    }
    if (sum)
      for (int64_t i = 0; i < width; i++) sum[m + i] = s[i / L][i % L];
  }
}

// Factors in bf16 are packed as cells of two: the numbers of two consecutive k, the first one in the low half. row(k)
// is the address of row k; an odd last row is paired with zeros.

// As pack_rows: dst[K / 2, rounded up][NV*L] cells.
template <class Row>
FUSEDRNN_INLINE void pack_row_pairs(Row&& row, int64_t K, int64_t n, int nv, float* dst) {
  constexpr int L = kLanes<float>;
  for (int64_t k = 0; k < K; k += 2) {
    const uint16_t *a = row(k), *b = k + 1 < K ? row(k + 1) : nullptr;
    for (int v = 0; v < nv; v++, dst += L) {
      const int64_t width = min64(L, n - v * L);
      const VecU low = width > 0 ? widen(load_half(a + v * L, width)) : VecU{};
      const VecU high = width > 0 && b ? widen(load_half(b + v * L, width)) : VecU{};
      store(dst, (VecF)(low | high << 16));
    }
  }
}

// As pack_panels: dst[panel][K / 2, rounded up][kPanelRows] cells.
template <class Row>
FUSEDRNN_INLINE void pack_panel_pairs(Row&& row, int64_t K, int64_t n, float* dst, float* sum) {
  constexpr int L = kLanes<float>, W = 3 * L;
  const int64_t pairs = ceil_div(K, 2);
  for (int64_t m = 0; m < n; m += W) {
    const int64_t width = min64(W, n - m);
    const int panels = int(ceil_div(width, kPanelRows));
    VecF s[3] = {};
    alignas(64) float line[W] = {};
    for (int64_t k = 0; k < pairs; k++) {
      const uint16_t *a = row(2 * k) + m, *b = 2 * k + 1 < K ? row(2 * k + 1) + m : nullptr;
      for (int64_t v = 0; v * L < width; v++) {
        const int64_t count = min64(L, width - v * L);
        const VecU low = widen(load_half(a + v * L, count)), high = b ? widen(load_half(b + v * L, count)) : VecU{};
        s[v] += bf16_value(low) + bf16_value(high);
        store(line + v * L, (VecF)(low | high << 16));
      }
      float* q = dst + (m / kPanelRows * pairs + k) * kPanelRows;
      for (int i = 0; i < panels; i++, q += pairs * kPanelRows)
        __builtin_memcpy(q, line + i * kPanelRows, kPanelRows * sizeof(float));
    }
    if (sum)
      for (int64_t i = 0; i < width; i++) sum[m + i] = s[i / L][i % L];
  }
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
