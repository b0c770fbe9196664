// The register tile (tile.h), instantiated for every count of rows and columns that fits the registers.
#include "tile.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

// Independent chains over k, so that a small tile still covers the latency of a multiply-add.
constexpr int chains(int registers) {
  return registers >= 8 ? 1 : registers >= 4 ? 2 : registers >= 2 ? 4 : 8;
}

// One k: c[m][v] += a(m) * w[v]. The smaller side is held in registers and the other one streams.
template <class T, int MR, int NV, class A>
FUSEDRNN_INLINE void multiply(Vec<T> (&c)[MR][NV], const T* w, A&& a) {
  constexpr int L = kLanes<T>;
  if constexpr (NV <= MR) {
    Vec<T> held[NV];
    FUSEDRNN_UNROLL
    for (int v = 0; v < NV; v++) {
      Vec<T> t = *reinterpret_cast<const Vec<T>*>(w + v * L);
      if (MR > 1) FUSEDRNN_PIN(t);
      held[v] = t;
    }
    FUSEDRNN_UNROLL
    for (int m = 0; m < MR; m++) {
      Vec<T> b = splat<Vec<T>>(a(m));
      FUSEDRNN_PIN(b);
      FUSEDRNN_UNROLL
      for (int v = 0; v < NV; v++) c[m][v] += b * held[v];
    }
  } else {
    Vec<T> held[MR];
    FUSEDRNN_UNROLL
    for (int m = 0; m < MR; m++) {
      Vec<T> b = splat<Vec<T>>(a(m));
      FUSEDRNN_PIN(b);
      held[m] = b;
    }
    FUSEDRNN_UNROLL
    for (int v = 0; v < NV; v++) {
      Vec<T> t = *reinterpret_cast<const Vec<T>*>(w + v * L);
      if (MR > 1) FUSEDRNN_PIN(t);
      FUSEDRNN_UNROLL
      for (int m = 0; m < MR; m++) c[m][v] += held[m] * t;
    }
  }
}

// a(m, k) gives an element of the left factor; see tile.h for the rest.
template <class T, int MR, int NV, class A>
FUSEDRNN_INLINE void tile(A&& a, const T* w, int64_t K, T* const* c, const T* bias, bool add) {
  constexpr int L = kLanes<T>;
  constexpr int Q = chains(MR * NV);
  constexpr int U = Q * (MR * NV >= 20 ? 1 : 2);  // steps of k per turn of the loop
  Vec<T> s[Q][MR][NV];
  FUSEDRNN_UNROLL
  for (int m = 0; m < MR; m++)
    FUSEDRNN_UNROLL
    for (int v = 0; v < NV; v++) {
      s[0][m][v] = add ? load(c[m] + v * L) : bias ? load(bias + v * L) : Vec<T>{};
      FUSEDRNN_UNROLL
      for (int q = 1; q < Q; q++) s[q][m][v] = Vec<T>{};
    }
  int64_t k = 0;
  for (; k + U <= K; k += U) {
    FUSEDRNN_UNROLL
    for (int q = 0; q < U; q++)
      multiply<T, MR, NV>(s[q % Q], w + (k + q) * NV * L, [&](int m) __attribute__((always_inline)) { return a(m, k + q); });
  }
  if (U > 1)
    for (; k < K; k++)
      multiply<T, MR, NV>(s[0], w + k * NV * L, [&](int m) __attribute__((always_inline)) { return a(m, k); });
  FUSEDRNN_UNROLL
  for (int m = 0; m < MR; m++)
    FUSEDRNN_UNROLL
    for (int v = 0; v < NV; v++) {
      Vec<T> t = s[0][m][v];
      FUSEDRNN_UNROLL
      for (int q = 1; q < Q; q++) t += s[q][m][v];
      store(c[m] + v * L, t);
    }
}

template <class T, int MR, int NV>
void rows_tile(const T* const* a, const T* w, int64_t K, T* const* c, const T* bias, bool add) {
  const T* row[MR];
  FUSEDRNN_UNROLL
  for (int m = 0; m < MR; m++) row[m] = a[m];
  tile<T, MR, NV>([&](int m, int64_t k) __attribute__((always_inline)) { return row[m][k]; }, w, K, c, bias, add);
}

template <class T, int MR, int NV>
void panel_tile(const T* a, const T* w, int64_t K, T* const* c, bool add) {
  tile<T, MR, NV>([&](int m, int64_t k) __attribute__((always_inline)) { return a[k * kPanelRows + m]; }, w, K, c,
                  nullptr, add);
}

template <class T, int MR, int NV>
constexpr typename Tiles<T>::Rows rows_entry() {
  if constexpr (MR <= max_rows(NV))
    return rows_tile<T, MR, NV>;
  else
    return nullptr;
}
template <class T, int MR, int NV>
constexpr typename Tiles<T>::Panel panel_entry() {
  if constexpr (MR <= kPanelRows)
    return panel_tile<T, MR, NV>;
  else
    return nullptr;
}

#define FUSEDRNN_ROW(entry, T, NV)                                                                     \
  {                                                                                                    \
    entry<T, 1, NV>(), entry<T, 2, NV>(), entry<T, 3, NV>(), entry<T, 4, NV>(), entry<T, 5, NV>(),     \
        entry<T, 6, NV>(), entry<T, 7, NV>(), entry<T, 8, NV>()                                        \
  }
#define FUSEDRNN_TABLE(entry, T) \
  {FUSEDRNN_ROW(entry, T, 1), FUSEDRNN_ROW(entry, T, 2), FUSEDRNN_ROW(entry, T, 3), FUSEDRNN_ROW(entry, T, 4)}

}  // namespace

constinit const Tiles<float> tiles_f32 = {FUSEDRNN_TABLE(rows_entry, float), FUSEDRNN_TABLE(panel_entry, float)};
constinit const Tiles<double> tiles_f64 = {FUSEDRNN_TABLE(rows_entry, double), FUSEDRNN_TABLE(panel_entry, double)};

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
