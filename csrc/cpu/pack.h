// Copies of factors in the orders the register tile reads (tile.h), and the cutting of unit blocks into panels.
#pragma once
#include "tile.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

// dst[k*stride + lane] = w[lane*ld + k] for k < K, lane < lanes; the other lanes of the vector become 0. One vector column
// of a panel from kLanes rows of a row-major matrix that is used transposed. dst is aligned, w need not be.
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
      T* q = dst + (m / kPanelRows * K + k) * kPanelRows;
      for (int i = 0; i < panels; i++, q += K * kPanelRows) __builtin_memcpy(q, a + i * kPanelRows, kPanelRows * sizeof(T));
    }
    if (sum)
      for (int64_t i = 0; i < width; i++) sum[m + i] = s[i / L][i % L];
  }
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
