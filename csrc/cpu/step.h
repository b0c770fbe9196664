// One step of a cell, for a tile of rows and a panel of units: what the time loops hand to the cells' maths.
#pragma once
#include "pack.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {

// A matrix given by rows: row r is table[r], or base + order[r] * ld, or base + r * ld.
template <class T>
struct RowView {
  T* base = nullptr;
  int64_t ld = 0;
  const int32_t* order = nullptr;
  T* const* table = nullptr;

  FUSEDRNN_INLINE T* at(int64_t r) const {
    if (table) return table[r];
    return base + (order ? int64_t(order[r]) : r) * ld;
  }
};

// H units are cut into blocks of kLanes (the last one may be narrower), blocks into panels: forward, of kMaxBlocks at
// most where a unit has several gates; else of kMaxColumns.
constexpr int kMaxBlocks = 2;
struct Panel {
  int64_t block;  // first block
  int blocks;
};

// Forward. All views are indexed by row of the step; acc, x and h_bias hold whole vectors, laid out
// [block][gate][lane]; h, c, h_prev, c_prev are [H]; saved is [block][slot][width of the block]. A view with a null
// base and table is not used.
template <class T>
struct ForwardStep {
  int64_t H;
  DType storage;    // h is rounded to it
  const T* h_bias;  // [blocks][G][L], the part of b_hh that x does not hold, or null
  RowView<const T> x, h_prev, c_prev;
  RowView<T> h, c, saved;
};

// Backward. d is [N][H]: the gradients one after another, so that each run (cells/lstm.h) is contiguous. carry_c,
// carry_h are [H]: the gradients of c_t and the direct part of that of h_t, from the next step; read from *_in, written
// to *_out.
template <class T>
struct BackwardStep {
  int64_t H;
  RowView<const T> saved, h, h_prev, c, c_prev, dy, dy_more, carry_c_in, carry_h_in;
  RowView<T> carry_c_out, carry_h_out, d;
  bool d_is_bf16;  // d holds bf16 in place of T; its ld still counts T
};

// A cell's constants and its maths over tiles. acc: [rows][panel.blocks * G * L] (forward, W_hh h) or
// [rows][panel.blocks * L] (backward, the gradient of h_t that comes through W_hh). rows are first .. first+count-1.
template <class T>
struct CellOps {
  int G, S, N;
  bool has_cell, reads_h_prev, reads_h;  // reads_h: backward needs h_t itself
  int x_first, h_first;
  int x_gate[4], h_gate[4];
  bool h_bias_apart[4];
  void (*forward)(const ForwardStep<T>&, const T* acc, int64_t first, int64_t count, Panel panel);
  void (*backward)(const BackwardStep<T>&, const T* acc, int64_t first, int64_t count, Panel panel);
};

extern const CellOps<float> cell_ops_f32[];
extern const CellOps<double> cell_ops_f64[];

namespace {

template <class T>
FUSEDRNN_INLINE const CellOps<T>& cell_ops(int cell) {
  if constexpr (sizeof(T) == 4)
    return cell_ops_f32[cell];
  else
    return cell_ops_f64[cell];
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
