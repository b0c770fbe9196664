// Products of some rows of a batch with the weights of a block of units, tile by tile: a tile holds the sums of a few
// units and rows of the batch in registers. What a streaming step (isa_step.cpp) and generation (isa_generate.cpp) of
// several rows are made of.
//
// Every sum is made of the additions that rows.h makes for one row alone, in their order: a row's bits do not depend on
// the rows beside it.
#pragma once
#include <type_traits>

#include "pack.h"
#include "rows.h"
#include "tile.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

template <class T>
constexpr int kTileUnits = kLanes<T> < 4 ? kLanes<T> : 4;
// Rows whose sums fit the registers beside their own vectors and one of weights, and a product where it is not fused.
#if defined(__SSE2__) && !defined(__FMA__)
constexpr int kTileRows = 2;
#else
constexpr int kTileRows = kRegisters == 32 ? 6 : 3;
#endif
constexpr int kRowsAtOnce = 24;  // while they pass, a tile's weights stay in the first level

// How the weights of a block of units lie: as they stand, unit by unit, k elements each; or interleaved, so that a tile
// reads straight on: [tile of kTileUnits][chunk of kLanes elements][unit][kLanes], 0 beyond k.
enum class Lie { standing, interleaved };

// A product: the weights of a block of units, and k elements for each row of the batch. k = 0: none.
template <class T>
struct Factors {
  const T *weights, *rows;
  int64_t k;
};

// sum[r][u] += weights of unit first + u, or of the last one, times row r0 + r, lane by lane.
template <int R, Lie lie, class T>
FUSEDRNN_INLINE void multiply_tile(Vec<T> (&sum)[R][kTileUnits<T>], const Factors<T>& f, int64_t first, int64_t last,
                                   int64_t r0) {
  constexpr int L = kLanes<T>, U = kTileUnits<T>;
  constexpr bool standing = lie == Lie::standing;
  if (f.k == 0) return;
  const T *w[U], *row[R];
  FUSEDRNN_UNROLL
  for (int u = 0; u < U; u++)
    w[u] = f.weights + (standing ? min64(first + u, last) * f.k : first * ceil_div(f.k, L) * L + u * L);
  FUSEDRNN_UNROLL
  for (int r = 0; r < R; r++) row[r] = f.rows + (r0 + r) * f.k;
  const auto add = [&](auto get_row, auto get_weights) __attribute__((always_inline)) {
    Vec<T> x[R];
    FUSEDRNN_UNROLL
    for (int r = 0; r < R; r++) x[r] = get_row(row[r]);
    FUSEDRNN_UNROLL
    for (int u = 0; u < U; u++) {
      Vec<T> v = get_weights(w[u]);
      FUSEDRNN_PIN(v);
      FUSEDRNN_UNROLL
      for (int r = 0; r < R; r++) sum[r][u] += x[r] * v;
    }
  };
  int64_t i = 0;
  const auto whole = [&](const T* p) __attribute__((always_inline)) { return load(p + i); };
  const auto part = [&](const T* p) __attribute__((always_inline)) { return load_part(p + i, f.k - i); };
  const auto chunk = [&](const T* p) __attribute__((always_inline)) { return load(p + i * U); };
  if constexpr (standing) {
    for (; i + L <= f.k; i += L) add(whole, whole);
    if (i < f.k) add(part, part);
  } else {
    for (; i + L <= f.k; i += L) add(whole, chunk);
    if (i < f.k) add(part, chunk);
  }
}

// part[r * stride]: the sums of a tile's units for row r0 + r, before the last levels of the tree.
template <int R, Lie lie, class T>
void tile_of_rows(const Factors<T>& a, const Factors<T>& b, int64_t first, int64_t last, int64_t r0, Vec<T>* part,
                  int64_t stride) {
  Vec<T> sum[R][kTileUnits<T>] = {};
  multiply_tile<R, lie>(sum, a, first, last, r0);
  multiply_tile<R, lie>(sum, b, first, last, r0);
  FUSEDRNN_UNROLL
  for (int r = 0; r < R; r++) part[r * stride] = add_up<1, T>(sum[r]);
}

// f(std::integral_constant<int, rows>) for 1 <= rows <= kTileRows.
template <int R = kTileRows, class F>
FUSEDRNN_INLINE void with_rows(int rows, F&& f) {
  if (rows == R)
    f(std::integral_constant<int, R>());
  else if constexpr (R > 1)
    with_rows<R - 1>(rows, f);
}

// out[r * stride], lane u = the sum of products of unit u with row r, of a and of b, for `count` rows, at most
// kRowsAtOnce. Units beyond the last give something.
template <Lie lie, class T>
void sums_of_rows(const Factors<T>& a, const Factors<T>& b, int64_t last, int64_t count, Vec<T>* out, int64_t stride) {
  constexpr int U = kTileUnits<T>, N = kLanes<T> / U;
  Vec<T> part[kRowsAtOnce * N];
  for (int n = 0; n < N; n++)
    split_rows(count, kTileRows, [&](int64_t r, int rows) {
      with_rows(rows, [&](auto R) { tile_of_rows<R, lie>(a, b, n * U, last, r, part + r * N + n, N); });
    });
  for (int64_t r = 0; r < count; r++) {
    Vec<T> of_row[N];
    FUSEDRNN_UNROLL
    for (int n = 0; n < N; n++) of_row[n] = part[r * N + n];
    out[r * stride] = add_up<U, T>(of_row);
  }
}

// The arguments of a gate for some rows, as a cell takes them: x[r * stride] what comes from the input, and from the
// state where both meet, h[r * stride] what comes from the state where it is wanted apart, else 0. id(r): the input's
// product for token ids, else 0. b_x, b_h: the biases, or 0.
template <Lie lie, class T, class Id>
FUSEDRNN_INLINE void gate_of_rows(const Factors<T>& input, const Factors<T>& state, bool apart, int64_t last,
                                  int64_t count, Id&& id, Vec<T> b_x, Vec<T> b_h, Vec<T>* x, Vec<T>* h,
                                  int64_t stride) {
  const Factors<T> none = {};
  sums_of_rows<lie>(input, apart ? none : state, last, count, x, stride);
  if (apart) sums_of_rows<lie>(state, none, last, count, h, stride);
  for (int64_t r = 0; r < count; r++) {
    Vec<T>&xr = x[r * stride], &hr = h[r * stride];
    xr = (apart ? id(r) : id(r) + b_h) + xr + b_x;
    hr = apart ? hr + b_h : Vec<T>{};
  }
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
