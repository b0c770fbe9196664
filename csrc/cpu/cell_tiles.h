// The cells' maths applied to tiles of rows and panels of units (step.h). Templates over cell and element type;
// cell_tiles_*.cpp instantiate them for the list of cells.
#pragma once
#include "../cells/all.h"
#include "convert.h"
#include "step.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

// Whether two blocks go through a cell at once. Floats of AVX-512 take exp from a table (math.h), one block at a time.
template <class T>
constexpr bool kTwice = kVectorBytes < 64 || sizeof(T) == 8;

constexpr int at_least_one(int n) { return n > 0 ? n : 1; }

// Blocks of one row, from `block` on: one (Whole), two (Twice), or the last one of an H that is no multiple of kLanes
// (Part). width: units of each.
template <class Cell, class T, class Lanes>
FUSEDRNN_INLINE void forward_block(const ForwardStep<T>& s, Lanes lanes, int64_t width, int64_t block, const T* acc,
                                   const T* x, const T* h_prev, const T* c_prev, T* h, T* c, T* saved) {
  constexpr int G = Cell::G, S = Cell::S, L = kLanes<T>;
  using V = typename Lanes::template Value<T>;
  const int64_t j = block * L;
  V a[G], xs[G], out[at_least_one(S)], hn, cn{}, hp{}, cp{};
  FUSEDRNN_UNROLL
  for (int g = 0; g < G; g++) {
    const int64_t at = (block * G + g) * L;
    a[g] = lanes.padded(acc + g * L, G * L);
    if (Cell::h_bias_apart(g)) a[g] = a[g] + lanes.padded(s.h_bias + at, G * L);
    xs[g] = lanes.padded(x + at, G * L);
  }
  if constexpr (Cell::reads_h_prev) hp = lanes.get(h_prev + j);
  if constexpr (Cell::has_cell) cp = lanes.get(c_prev + j);
  Cell::forward(xs, a, hp, cp, hn, cn, out);
  if (saved) {
    FUSEDRNN_UNROLL
    for (int k = 0; k < S; k++) lanes.put(saved + j * S + k * width, out[k], S * L);
  }
  if constexpr (Cell::has_cell) lanes.put(c + j, cn);
  lanes.put(h + j, round_to(s.storage, hn));
}

template <class Cell, class T>
void forward_tile(const ForwardStep<T>& s, const T* acc, int64_t first, int64_t count, Panel panel) {
  constexpr int G = Cell::G, L = kLanes<T>;
  const int64_t whole = s.H / L, rest = s.H % L, end = panel.block + panel.blocks;
  for (int64_t r = first; r < first + count; r++) {
    const T* x = s.x.at(r);
    const T* h_prev = Cell::reads_h_prev ? s.h_prev.at(r) : nullptr;
    const T* c_prev = Cell::has_cell ? s.c_prev.at(r) : nullptr;
    T* h = s.h.at(r);
    T* c = Cell::has_cell ? s.c.at(r) : nullptr;
    T* saved = Cell::S > 0 && s.saved.base ? s.saved.at(r) : nullptr;
    int64_t block = panel.block;
    // Where there is one gate, its chain is short and a second one only costs registers.
    if constexpr (kTwice<T> && G > 1)
      for (; block + 2 <= min64(end, whole); block += 2, acc += 2 * G * L)
        forward_block<Cell, T>(s, Twice{}, L, block, acc, x, h_prev, c_prev, h, c, saved);
    for (; block < end; block++, acc += G * L) {
      if (block < whole)
        forward_block<Cell, T>(s, Whole{}, L, block, acc, x, h_prev, c_prev, h, c, saved);
      else
        forward_block<Cell, T>(s, Part{rest}, rest, block, acc, x, h_prev, c_prev, h, c, saved);
    }
  }
}

// The pointers of one row that backward_block reads and writes.
template <class T>
struct BackwardRow {
  const T *saved, *h, *h_prev, *c, *c_prev, *dy, *dy_more, *carry_c_in, *carry_h_in;
  T *carry_c_out, *carry_h_out, *d;
  bool d_is_bf16;
};

// The gradients d of a block to p.d: element j of each of the N runs of H.
template <class T, int N, class Lanes, class V>
FUSEDRNN_INLINE void put_gradients(const BackwardRow<T>& p, int64_t H, Lanes lanes, int64_t width, int64_t j,
                                   const V (&d)[N]) {
  if constexpr (sizeof(T) == 4)
    if (p.d_is_bf16) {
      uint16_t* to = reinterpret_cast<uint16_t*>(p.d) + j;
      FUSEDRNN_UNROLL
      for (int k = 0; k < N; k++) put_bf16(to + k * H, d[k], width);
      return;
    }
  FUSEDRNN_UNROLL
  for (int k = 0; k < N; k++) lanes.put(p.d + k * H + j, d[k]);
}

template <class Cell, class T, class Lanes>
FUSEDRNN_INLINE void backward_block(const BackwardRow<T>& p, int64_t H, Lanes lanes, int64_t width, int64_t block,
                                    const T* acc) {
  constexpr int S = Cell::S, L = kLanes<T>;
  using V = typename Lanes::template Value<T>;
  const int64_t j = block * L;
  V saved[at_least_one(S)], d[Cell::N], h{}, hp{}, c{}, cp{}, carry_c{}, carry_h{};
  V dh = lanes.padded(acc, L);
  if (p.dy) dh = dh + lanes.get(p.dy + j);
  if (p.dy_more) dh = dh + lanes.get(p.dy_more + j);
  FUSEDRNN_UNROLL
  for (int k = 0; k < S; k++) saved[k] = lanes.get(p.saved + j * S + k * width, S * L);
  if constexpr (S == 0) h = lanes.get(p.h + j);
  if constexpr (Cell::reads_h_prev) {
    hp = lanes.get(p.h_prev + j);
    dh = dh + lanes.get(p.carry_h_in + j);
  }
  if constexpr (Cell::has_cell) {
    c = lanes.get(p.c + j);
    cp = lanes.get(p.c_prev + j);
    carry_c = lanes.get(p.carry_c_in + j);
  }
  Cell::backward(saved, h, hp, c, cp, dh, carry_c, carry_h, d);
  put_gradients(p, H, lanes, width, j, d);
  if constexpr (Cell::has_cell) lanes.put(p.carry_c_out + j, carry_c);
  if constexpr (Cell::reads_h_prev) lanes.put(p.carry_h_out + j, carry_h);
}

template <class Cell, class T>
void backward_tile(const BackwardStep<T>& s, const T* acc, int64_t first, int64_t count, Panel panel) {
  constexpr int L = kLanes<T>;
  const int64_t whole = s.H / L, rest = s.H % L, end = panel.block + panel.blocks;
  for (int64_t r = first; r < first + count; r++) {
    BackwardRow<T> p = {};
    if (Cell::S > 0) p.saved = s.saved.at(r);
    if (Cell::S == 0) p.h = s.h.at(r);
    if (Cell::reads_h_prev) {
      p.h_prev = s.h_prev.at(r);
      p.carry_h_in = s.carry_h_in.at(r);
      p.carry_h_out = s.carry_h_out.at(r);
    }
    if (Cell::has_cell) {
      p.c = s.c.at(r);
      p.c_prev = s.c_prev.at(r);
      p.carry_c_in = s.carry_c_in.at(r);
      p.carry_c_out = s.carry_c_out.at(r);
    }
    if (s.dy.base || s.dy.table) p.dy = s.dy.at(r);
    if (s.dy_more.base || s.dy_more.table) p.dy_more = s.dy_more.at(r);
    p.d = s.d.at(r);
    p.d_is_bf16 = s.d_is_bf16;
    int64_t block = panel.block;
    if constexpr (kTwice<T>)
      for (; block + 2 <= min64(end, whole); block += 2, acc += 2 * L)
        backward_block<Cell, T>(p, s.H, Twice{}, L, block, acc);
    for (; block < end; block++, acc += L) {
      if (block < whole)
        backward_block<Cell, T>(p, s.H, Whole{}, L, block, acc);
      else
        backward_block<Cell, T>(p, s.H, Part{rest}, rest, block, acc);
    }
  }
}

template <class Cell, class T>
constexpr CellOps<T> ops_of() {
  CellOps<T> o = {};
  o.G = Cell::G;
  o.S = Cell::S;
  o.N = Cell::N;
  o.has_cell = Cell::has_cell;
  o.reads_h_prev = Cell::reads_h_prev;
  o.reads_h = Cell::S == 0;
  o.x_first = Cell::x_first;
  o.h_first = Cell::h_first;
  for (int g = 0; g < Cell::G; g++) {
    o.x_gate[g] = Cell::x_gate(g);
    o.h_gate[g] = Cell::h_gate(g);
    o.h_bias_apart[g] = Cell::h_bias_apart(g);
  }
  o.forward = forward_tile<Cell, T>;
  o.backward = backward_tile<Cell, T>;
  return o;
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
