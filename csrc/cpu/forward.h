// The state of one forward call over any cell, and the names of what it does (isa_forward.cpp says how it goes).
#pragma once
#include "states.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

constexpr int64_t kChunkRows = 96;  // rows of a group whose input projections are computed at once

// How the G gates of the units are laid out for the products: blocks of units of a panel, and vectors of a strip of it.
// With AVX2, where vectors are short and registers few, a panel has two blocks, which are a cache line of units, and
// strips of three vectors: their tiles of four rows lose least where rows are left over. A single row wants strips as
// wide as they come, and with many registers two of them: one block's maths fills the gaps of the other's.
struct GatePanels {
  int blocks, columns;
};
constexpr int kPanelVectors = kMaxBlocks * kMaxColumns;
constexpr GatePanels gate_panels(int G, int64_t blocks, int64_t rows) {
  if (G == 1) return {best_columns(rows, blocks), kMaxColumns};
  if (!kTilesOfFourRows) {
    const int blocks_of_strip = kMaxColumns / G;
    return {rows == 1 ? kMaxBlocks : blocks_of_strip, blocks_of_strip * G};
  }
  return {kMaxBlocks, rows == 1 ? kMaxColumns : 3};
}

template <class T>
struct Forward {
  static constexpr int L = kLanes<T>;
  const ForwardArgs& a;
  const CellOps<T>& ops;
  const Dims n;
  const int G, S;
  const bool half, project;
  const int elements;  // of a cell of the factors: 2 for products of bf16, else 1
  const Tiles<T>& tile;
  const int64_t KI, KP;  // cells of a row of x, of h
  const int64_t unit_blocks, out_blocks;
  const Split split;
  const bool ahead;
  const GatePanels layout;
  const Panels panels, out_panels;  // of units, and of the P outputs of a projection
  Schedule rows;
  int64_t chunk_steps, x_width;
  bool packed = false;  // the scratch holds the weights already, from a call like this one
  bool by_table;        // token ids are looked up in a table of finished input projections

  // Scratch. Weights in the storage's float form (half types only), packed weights, states.
  T *w_ih, *w_hh, *w_hr, *b_ih, *b_hh, *h0, *c0, *x_chunk;
  T *packed_ih, *packed_hh, *packed_hr, *x_bias, *h_bias, *x_part, *table, *zeros;
  T *c_state, *hidden_state, *h_ring;
  struct Own {  // of one member
    T* wait;
    const T **h_prev, **left, **c_prev, **x_row, **a_list;
    T** c_list;
  };
  Own own[kMaxTeam];
  Forward(const ForwardArgs& args, Split s, Arena& arena)
      : a(args),
        ops(cell_ops<T>(args.cell)),
        n(args.n),
        G(ops.G),
        S(ops.S),
        half(is_half<T>(args.dtype)),
        project(args.w[0].hr != nullptr),
        elements(cell_elements<T>(args.dtype, n.P % 2 == 0 && n.H % 2 == 0 && (args.ids || n.I % 2 == 0))),
        tile(tiles_of<T>(elements)),
        KI(n.I / elements),
        KP(n.P / elements),
        unit_blocks(ceil_div(n.H, L)),
        out_blocks(ceil_div(n.P, L)),
        split(s),
        ahead(asks_ahead<T>(n, 1 + (args.gates ? S : 0) + (args.cells != nullptr))),
        layout(gate_panels(ops.G, unit_blocks, ceil_div(max64(n.B, 1), s.groups))),
        panels(unit_blocks, layout.blocks, s.parts),
        out_panels(out_blocks, kMaxColumns, s.parts),
        rows(arena, args, s.groups) {
    const int64_t group = ceil_div(max64(n.B, 1), split.groups);
    chunk_steps = min64(n.T, max64(1, kChunkRows / group));
    x_width = unit_blocks * G * L;
    by_table = a.ids && n.I <= n.T * n.B;
    take_scratch(arena, group);
  }

  void take_scratch(Arena& arena, int64_t group);

  int64_t time(int d, int64_t s) const { return time_of(d, s, n.T); }

  // ---- weights

  // Half types: everything of direction d that is read more than once, to float. Share i of m.
  void widen(int d, int i, int m);
  const T* wide(const void* p, const T* widened) const { return half ? widened : static_cast<const T*>(p); }

  // A factor of a product, in cells.
  const T* factor(const void* p, const T* widened) const {
    return elements == 2 ? as_cells<T>(p, 0) : wide(p, widened);
  }

  // Packed weights and biases of direction d. Share i of m.
  void pack_biases(int d);
  void pack(int d, int i, int m);

  // table[id] = W_ih[:, id] + bias, for the unit blocks of share i of m.
  void fill_table(int d, int i, int m);

  // ---- input projection of the steps s0 <= s < s1

  // Half types: the rows of x of group g that take part in the steps `part`, to float.
  void widen_x(int d, int g, Range part, int64_t s0);
  // W_ih x + b of group g's active rows, for some panels, to x_part.
  void project_input(Own& o, int d, int g, Range units, int64_t s0, int64_t s1);

  // The same for one token id when the table would be larger than what is looked up.
  void gather_column(int d, int64_t id, Range units, T* to);

  // ---- one step

  // h_s as the next step reads it, by row of the batch: y itself, or a copy in float.
  T* h_rows(int d, int64_t s) const {
    if (half) return h_ring + (s & 1) * n.B * n.P;
    return static_cast<T*>(a.y) + (rows.at(time(d, s)) * n.D + d) * n.P;
  }
  int64_t h_ld() const { return half ? n.P : n.D * n.P; }
  // Arrays of [D, T, B, H] that are saved, or states of [B, H] where nothing is; position r is row r of their order.
  T* c_rows(int d, int64_t t) const { return a.cells ? static_cast<T*>(a.cells) + rows.saved_at(d, t) * n.H : c_state; }
  T* hidden_rows(int d, int64_t t) const {
    return a.hidden ? static_cast<T*>(a.hidden) + rows.saved_at(d, t) * n.H : hidden_state;
  }
  const int32_t* c_order() const { return a.cells ? rows.saved_order() : rows.order(); }
  const int32_t* hidden_order() const { return a.hidden ? rows.saved_order() : rows.order(); }

  // h_{t-1} as numbers of T, for the cell, or as the left factor of the recurrent product.
  RowView<const T> h_before(int d, int g, int64_t s, bool as_factor, const T** list, bool* zero) const;
  ForwardStep<T> step_of(Own& o, int d, int g, int64_t s, int64_t s0) const;
  // One step of group g, for some panels of units.
  void step(Own& o, int d, int g, Range units, int64_t s, int64_t s0);

  // Half types: columns j .. j+width of h_s to y.
  void narrow(int d, int g, int64_t s, int64_t j, int64_t width);

  // h_t = W_hr hidden_t
  void project_output(Own& o, int d, int g, Range outs, int64_t s);

  // ---- what follows the last step: h_n, c_n, and zeros in y beyond the lengths. Rows of share i of m.
  void finish(int d, int i, int m);
  const char* initial(const void* p, int d, int64_t b, int64_t width) const {
    return p ? element(p, (d * n.B + b) * width, a.dtype) : nullptr;
  }
  static void copy_or_zero(char* to, const char* from, int64_t bytes) {
    if (from)
      __builtin_memcpy(to, from, bytes);
    else
      __builtin_memset(to, 0, bytes);
  }
  void narrow_row(const T* from, char* to, int64_t count) const {
    if constexpr (sizeof(T) == 4) from_float(a.dtype, from, to, count);
  }

  // ---- the order of things

  // f(group, part) for the cells of the split that fall to a member.
  template <class F>
  FUSEDRNN_INLINE void own_cells(const Member& m, F&& f);
  Range units_of(int part) const { return share(panels.count, part, split.parts); }
  Range outs_of(int part) const { return share(out_panels.count, part, split.parts); }

  // All steps of a group, which is all there is to do where units are not cut.
  void run_group(Own& o, int d, int g);
  // The steps s0 <= s < s1 where units are cut: a phase for each step.
  void chunk_by_parts(Member& m, int d, int64_t s0, int64_t s1);
  void run(Member& m);

  static void work(void* self, Member& m) { static_cast<Forward*>(self)->run(m); }
};

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
