// The code of the register tile (tile.h), for the files that instantiate it.
#pragma once
#include <utility>

#include "tile.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

// Independent chains over k, so that a small tile still covers the latency of a multiply-add.
constexpr int chains(int registers) { return registers >= 8 ? 1 : registers >= 4 ? 2 : registers >= 2 ? 4 : 8; }

// How a tile multiplies: one number of T per cell of its factors.
template <class T>
struct PlainDot {
  static FUSEDRNN_INLINE Vec<T> spread(T x) { return splat<Vec<T>>(x); }
  static FUSEDRNN_INLINE Vec<T> add(Vec<T> c, Vec<T> a, Vec<T> w) { return c + a * w; }
};

// One k: c[m][v] += a(m) * w[v]. The smaller side is held in registers and the other one streams.
template <class Dot, class T, int MR, int NV, class A>
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
      Vec<T> b = Dot::spread(a(m));
      FUSEDRNN_PIN(b);
      FUSEDRNN_UNROLL
      for (int v = 0; v < NV; v++) c[m][v] = Dot::add(c[m][v], b, held[v]);
    }
  } else {
    Vec<T> held[MR];
    FUSEDRNN_UNROLL
    for (int m = 0; m < MR; m++) {
      Vec<T> b = Dot::spread(a(m));
      FUSEDRNN_PIN(b);
      held[m] = b;
    }
    FUSEDRNN_UNROLL
    for (int v = 0; v < NV; v++) {
      Vec<T> t = *reinterpret_cast<const Vec<T>*>(w + v * L);
      if (MR > 1) FUSEDRNN_PIN(t);
      FUSEDRNN_UNROLL
      for (int m = 0; m < MR; m++) c[m][v] = Dot::add(c[m][v], held[m], t);
    }
  }
}

// a(m, k) gives an element of the left factor; see tile.h for the rest.
template <class Dot, class T, int MR, int NV, class A>
FUSEDRNN_INLINE void tile(A&& a, const T* w, int64_t K, T* const* c, const T* bias, bool add) {
  constexpr int L = kLanes<T>;
  constexpr int Q = chains(MR * NV);
  // Steps of k per turn of the loop; more would need registers for the weights of two steps.
  constexpr int U = Q * (Q * MR * NV >= (kRegisters == 32 ? 20 : 10) ? 1 : 2);
  Vec<T> s[Q][MR][NV];
  FUSEDRNN_UNROLL
  for (int m = 0; m < MR; m++) FUSEDRNN_UNROLL
  for (int v = 0; v < NV; v++) {
    s[0][m][v] = add ? load(c[m] + v * L) : bias ? load(bias + v * L) : Vec<T>{};
    FUSEDRNN_UNROLL
    for (int q = 1; q < Q; q++) s[q][m][v] = Vec<T>{};
  }
  int64_t k = 0;
  for (; k + U <= K; k += U) {
    FUSEDRNN_UNROLL
    for (int q = 0; q < U; q++)
      multiply<Dot, T, MR, NV>(s[q % Q], w + (k + q) * NV * L,
                               [&](int m) __attribute__((always_inline)) { return a(m, k + q); });
  }
  if (U > 1)
    for (; k < K; k++)
      multiply<Dot, T, MR, NV>(s[0], w + k * NV * L, [&](int m) __attribute__((always_inline)) { return a(m, k); });
  FUSEDRNN_UNROLL
  for (int m = 0; m < MR; m++) FUSEDRNN_UNROLL
  for (int v = 0; v < NV; v++) {
    Vec<T> t = s[0][m][v];
    FUSEDRNN_UNROLL
    for (int q = 1; q < Q; q++) t += s[q][m][v];
    store(c[m] + v * L, t);
  }
}

template <class Dot, class T, int MR, int NV>
void rows_tile(const T* const* a, const T* w, int64_t K, T* const* c, const T* bias, bool add) {
  const T* row[MR];
  FUSEDRNN_UNROLL
  for (int m = 0; m < MR; m++) row[m] = a[m];
  tile<Dot, T, MR, NV>([&](int m, int64_t k) __attribute__((always_inline)) { return row[m][k]; }, w, K, c, bias, add);
}

template <class Dot, class T, int MR, int NV>
void panel_tile(const T* a, const T* w, int64_t K, T* const* c, bool add) {
  tile<Dot, T, MR, NV>([&](int m, int64_t k) __attribute__((always_inline)) { return a[k * kPanelRows + m]; }, w, K, c,
                       nullptr, add);
}

template <class Dot, class T, int MR, int NV>
constexpr typename Tiles<T>::Rows rows_entry() {
  if constexpr (MR <= max_rows(NV))
    return rows_tile<Dot, T, MR, NV>;
  else
    return nullptr;
}
template <class Dot, class T, int MR, int NV>
constexpr typename Tiles<T>::Panel panel_entry() {
  if constexpr (MR <= kPanelRows)
    return panel_tile<Dot, T, MR, NV>;
  else
    return nullptr;
}

// The tables of every count of rows and columns.
template <class Dot, class T, int NV, int... MR>
constexpr void fill_row(Tiles<T>& t, std::integer_sequence<int, MR...>) {
  ((t.rows[NV - 1][MR] = rows_entry<Dot, T, MR + 1, NV>(), t.panel[NV - 1][MR] = panel_entry<Dot, T, MR + 1, NV>()),
   ...);
}
template <class Dot, class T, int... NV>
constexpr Tiles<T> all_tiles(std::integer_sequence<int, NV...>) {
  Tiles<T> t = {};
  (fill_row<Dot, T, NV + 1>(t, std::make_integer_sequence<int, kMaxRows>{}), ...);
  return t;
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
