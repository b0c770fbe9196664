// The state of one backward call over any cell, and the names of what it does (isa_backward.cpp says how it goes).
#pragma once
#include "states.h"
#include "weight_grad.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

constexpr int64_t kChunkRows = 384;  // rows whose gradients are summed at once
constexpr int64_t kStretch = 4;      // ragged batches: a chunk may have this many times the steps of a full one

// Where the sums of the weight gradients go: null where not wanted.
template <class T>
struct Sums {
  T *ih, *hh, *b_ih, *b_hh, *hr;
  T* table;  // token ids: the gradient of W_ih, transposed, [I][G * H]
};

template <class T>
struct Backward {
  static constexpr int L = kLanes<T>;
  const BackwardArgs& b;
  const ForwardArgs& a;
  const CellOps<T>& ops;
  const Dims n;
  const int G, S, N;
  const bool half, project;
  const int elements;  // of a cell of the factors: 2 for products of bf16, else 1
  const Tiles<T>& tile;
  const int64_t gate_cells;  // cells of the gradients of one gate: n.H / elements
  const Split split;
  const bool by_group;  // split.apart, unless there are more token ids than rows for each group's table
  const bool ahead;
  const Panels units, outs, inputs;  // of the H units, the P outputs and the I inputs
  Schedule rows;
  int64_t chunk_rows, chunk_steps;  // bounds of a chunk

  // Scratch. Half types: float forms of weights, states and the chunk's inputs.
  T *w_ih, *w_hh, *w_hr, *h0, *c0, *dhn, *x_chunk, *dy_chunk, *h_chunk, *y_chunk, *dx_chunk;
  T *dw_ih, *dw_hh, *dw_hr, *db_ih, *db_hh, *dh0;
  T *packed_hh, *packed_hr, *packed_ih, *zeros;
  T* ring;     // gate gradients: [chunk_steps + 1][B][N * H], step s in slot s % (chunk_steps + 1), rows by position
  T* ring_dh;  // the same of dh_t, [..][B][P], with a projection
  T *carry_c, *carry_h;         // [B][H] by position
  Sums<T> more[kMaxTeam] = {};  // of groups 1 .. where they have their own
  T* d_table;                   // token ids: Sums::table of group 0, or of all
  struct Own {                  // of one member
    T *wait, *packed, *spare, *sum;
    const T** list[6];  // addresses of rows, one list per view a step may need
    const T **d_row, **dh_row, **x_row, **h_row, **hidden_row;
    T** dx_row;
  };
  Own own[kMaxTeam];
  Backward(const BackwardArgs& args, Split s, Arena& arena)
      : b(args),
        a(args.f),
        ops(cell_ops<T>(args.f.cell)),
        n(args.f.n),
        G(ops.G),
        S(ops.S),
        N(ops.N),
        half(is_half<T>(a.dtype)),
        project(a.w[0].hr != nullptr),
        elements(cell_elements<T>(a.dtype, n.P % 2 == 0 && n.H % 2 == 0 && (a.ids || n.I % 2 == 0))),
        tile(tiles_of<T>(elements)),
        gate_cells(n.H / elements),
        split(s),
        by_group(s.apart && s.parts == 1 && !(args.f.ids && s.groups > 1 && n.I > n.T * n.B / s.groups)),
        ahead(asks_ahead<T>(n, 1 + S + ops.has_cell)),
        units(ceil_div(n.H, L), best_columns(ceil_div(n.B, s.groups), ceil_div(n.H, L)), s.parts),
        outs(ceil_div(n.P, L), best_columns(ceil_div(n.B, s.groups), ceil_div(n.P, L)), s.parts),
        inputs(ceil_div(n.I, L), kMaxColumns, 1),
        rows(arena, a, s.groups) {
    const int64_t at_once = by_group ? ceil_div(n.B, split.groups) : n.B;
    const int64_t full = min64(n.T, max64(1, kChunkRows / max64(at_once, 1)));
    chunk_steps = a.lengths ? min64(n.T, full * kStretch) : full;
    chunk_rows = full * at_once;
    take_weights(arena);
    take_sums(arena);
    take_rows(arena);
    take_own(arena);
  }

  // The parts of the scratch.
  void take_weights(Arena& arena);
  void take_sums(Arena& arena);
  void take_rows(Arena& arena);
  void take_own(Arena& arena);

  int64_t time(int d, int64_t s) const { return time_of(d, s, n.T); }
  // The groups whose rows are summed together: one, or all of them.
  Range groups_of(int64_t g) const { return by_group ? Range{g, g + 1} : Range{0, split.groups}; }
  int64_t active(Range groups, int64_t t) const {
    int64_t count = 0;
    for (int64_t g = groups.begin; g < groups.end; g++) count += rows.active(int(g), t);
    return count;
  }
  // The first step of the chunk of these groups that ends before step s1.
  int64_t chunk_begin(int d, Range groups, int64_t s1) const;
  // f(step, time, group, position) for the rows of a chunk, in the order in which they are summed.
  template <class F>
  FUSEDRNN_INLINE void each_row(int d, Range groups, int64_t s0, int64_t s1, F&& f) const;

  // ---- half types: to float and back

  const T* wide(const void* p, const T* widened) const { return half ? widened : static_cast<const T*>(p); }
  T* grad(void* p, T* widened) const { return half ? widened : static_cast<T*>(p); }
  void widen_row(const void* p, int64_t at, T* to, int64_t count) const {
    if constexpr (sizeof(T) == 4) to_float(a.dtype, element(p, at, a.dtype), to, count);
  }
  void narrow_row(const T* from, void* p, int64_t at, int64_t count) const {
    if constexpr (sizeof(T) == 4) from_float(a.dtype, from, element(p, at, a.dtype), count);
  }

  // What is read more than once in direction d. Share i of m.
  void widen(int d, int i, int m);
  // Rows of x, dy, y and of the state before each step, of the steps `part` of the chunk that begins at s0.
  void widen_chunk(int d, Range groups, Range part, int64_t s0);
  int64_t y_at(int d, int64_t t, int64_t row) const { return ((rows.at(t) + row) * n.D + d) * n.P; }

  // ---- weights and initial values

  // The packed weights of direction d, the gradients of the final states, an empty table. Share i of m.
  void pack(int d, int i, int m);
  // Packs a share of the panels that the columns of gate-major weights [G*H, columns] are cut into, the gates in the
  // order of the gradients' run.
  void pack_gate_rows(const void* w, const T* widened, const int* gate, int64_t columns, const Panels& panels,
                      Range own, T* dst) const;

  // ---- one step

  T* ring_rows(int64_t s) const { return ring + s % (chunk_steps + 1) * n.B * ring_ld(); }
  int64_t ring_ld() const { return N * gate_cells; }
  T* dh_rows(int64_t s) const { return ring_dh + s % (chunk_steps + 1) * n.B * n.P; }

  // Active rows of group g at step s that have a following step (the first ones of the group).
  int64_t followed(int d, int64_t s, int g) const;

  // The gate gradients of the following step, h side; zeros for rows without one and across a reset. K: 0 if all are
  // zero.
  RowView<const T> following(Own& o, int d, int g, int64_t s, int64_t* K) const;
  // What a step of group g reads: the carried gradients (zeros across a reset), dy.
  RowView<const T> carry_in(const T* carry, const T** list, int d, int g, int64_t s) const;
  RowView<const T> dy_of(int d, int64_t s, int64_t s0) const;

  // dh_n, for the rows whose last step this is.
  RowView<const T> dhn_of(Own& o, int d, int g, int64_t s) const;

  // h_{t-1} by row: as numbers of T, for the cell, or as a factor of a product.
  RowView<const T> h_before(const T** list, int d, int g, int64_t s, int64_t s0, bool as_factor, bool* all_zero) const;
  const T* hidden_rows(int d, int64_t t) const { return static_cast<const T*>(a.hidden) + rows.saved_at(d, t) * n.H; }

  BackwardStep<T> step_of(Own& o, int d, int g, int64_t s, int64_t s0) const;

  // Everything a step of group g does for the units of a part.
  void step(Own& o, int d, int g, int part, int64_t s, int64_t s0);

  // With a projection, the first half: dh_t of the outputs of a part.
  void output_step(Own& o, int d, int g, int part, int64_t s, int64_t s0);

  // The rows of group g whose first step is s: the gradient of h0.
  void finish_step(Own& o, int d, int g, int part, int64_t s);
  // First position among the active rows of group g whose first step is s (they are the last ones).
  int64_t finishing(int d, int g, int64_t s) const;
  bool any_finishing(int d, int64_t s) const;

  // Rows times W_hh^T for the outputs of a part: f(sums, row, first output, outputs).
  template <class F>
  FUSEDRNN_INLINE void product(Own& o, const RowView<const T>& left, int64_t first, int64_t count, int64_t K, int part,
                               F&& f);

  // ---- the sums over a chunk

  // A chunk: steps s0 <= s < s1 of some groups. Its rows are listed in o, steps upwards, K of them, the first `skip` of
  // which have a zero state before them.
  struct Chunk {
    Range groups;
    int64_t s0, s1, K, skip;
    bool add;  // not the first one: its sums are added
  };
  void list_rows(Own& o, int d, Chunk& c);

  // dx of the chunk's rows in share i of m.
  void input_grad(Own& o, int d, const Chunk& c, int64_t i, int64_t m);
  // Half types: the float rows of dx to the storage type; the second direction adds.
  void narrow_dx(Own& o, int d, const Chunk& c, Range r);

  // The weight gradients of the units in share i of m of every gate, all rows of the chunk.
  void weight_grads(Own& o, int d, const Chunk& c, int64_t i, int64_t m);
  // Where those of the rows of group g, or of all, go.
  Sums<T> sums_of(int d, int64_t g) const;

  // Slot `slot` of the chunk's gate gradients, units r, as a left factor; o.sum gets the sums over the rows.
  void pack_slot(Own& o, int slot, Range r, int64_t K, T* to);

  // Token ids: adds the x side of the chunk's gate gradients to the rows of the table, in the order of the list.
  void scatter(Own& o, int d, const Chunk& c, Range units_, T* table);
  // to += elements at .. at+count of a row of gate gradients.
  void add_row(const T* row, int64_t at, T* to, int64_t count) const;
  static VecF load_or_part(const float* p, int64_t width) { return width == L ? load(p) : load_part(p, width); }
  static VecU widen_bits(const uint16_t* p, int64_t width) { return cpu::FUSEDRNN_ISA::widen(load_half(p, width)); }

  // The sums of the further groups to those of the first. Share i of m.
  void add_groups(int d, int i, int m);
  // Token ids: the table to dW_ih. Share i of m of its rows.
  void transpose_table(int d, int i, int m);

  // ---- what follows the last chunk: dh0 and dc0 that no step wrote, dx beyond the lengths
  void finish(int d, int i, int m);
  void finish_dh0(int d, int64_t row, int64_t length);
  void finish_dc0(int d, int64_t p, int64_t row, int64_t length);
  // Half types: the float gradients of the weights to the storage type.
  void narrow_grads(int d, int i, int m);

  // ---- the order of things

  // f(group, part) for the cells of the split that fall to a member.
  template <class F>
  FUSEDRNN_INLINE void own_cells(const Member& m, F&& f);
  // All steps of a group, backwards, and its sums.
  void run_group(Own& o, int d, int g);
  void steps_of_group(Own& o, int d, int g, int64_t s0, int64_t s1);
  // The same where groups are summed together or units are cut: a chunk of all groups, then its sums; a phase for the
  // steps of all groups, or for each step.
  void run_chunks(Member& m, int d);
  void steps_by_parts(Member& m, int d, int64_t s0, int64_t s1);
  void sums(Member& m, int d, int64_t s0, int64_t s1, bool add);
  void run(Member& m);

  static void work(void* self, Member& m) { static_cast<Backward*>(self)->run(m); }
};

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
