// Backpropagation through time over any cell. See layer.h for the contract of the arguments.
//
// Per direction, steps are walked from the last to the first, in chunks. A step multiplies the gate gradients of the
// following step by W_hh^T and each tile of sums goes straight into the cell's maths, which writes this step's gate
// gradients to a ring in scratch: saved buffers are only read. After a chunk its gate gradients, still in cache, give dx,
// dW and the bias gradients. The sums over rows run chunk by chunk from the last step to the first and upwards in a chunk.
//
// With a projection a step has two halves: dh_t = (gate gradients of t+1) W_hh^T + dy_t, then dh_t W_hr into the cell.
#include "entry.h"
#include "states.h"
#include "weight_grad.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

constexpr int64_t kChunkRows = 256;   // rows whose gradients are summed at once
constexpr int64_t kStretch = 4;       // ragged batches: a chunk may have this many times the steps of a full one

template <class T>
struct Backward {
  static constexpr int L = kLanes<T>;
  const BackwardArgs& b;
  const ForwardArgs& a;
  const CellOps<T>& ops;
  const Dims n;
  const int G, S, N;
  const bool half, project;
  const Split split;
  const Panels units, outs, inputs;  // of the H units, the P outputs and the I inputs
  Schedule rows;
  int64_t chunk_rows, chunk_steps;  // bounds of a chunk

  // Scratch. Half types: float forms of weights, states and the chunk's inputs.
  T *w_ih, *w_hh, *w_hr, *h0, *c0, *dhn, *x_chunk, *dy_chunk, *h_chunk, *y_chunk, *dx_chunk;
  T *dw_ih, *dw_hh, *dw_hr, *db_ih, *db_hh, *dh0;
  T *packed_hh, *packed_hr, *packed_ih, *zeros;
  T* ring;     // gate gradients: [chunk_steps + 1][B][N * H], step s in slot s % (chunk_steps + 1), rows by position
  T* ring_dh;  // the same of dh_t, [..][B][P], with a projection
  T *carry_c, *carry_h;  // [B][H] by position
  T* d_table;  // token ids: the gradient of W_ih, transposed, [I][G * H]
  struct Own {  // of one member
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
        split(s),
        units(ceil_div(n.H, L), kMaxColumns, s.parts),
        outs(ceil_div(n.P, L), kMaxColumns, s.parts),
        inputs(ceil_div(n.I, L), kMaxColumns, 1),
        rows(arena, n, s.groups, a.lengths, a.resets) {
    const int64_t full = min64(n.T, max64(1, kChunkRows / max64(n.B, 1)));
    chunk_steps = a.lengths ? min64(n.T, full * kStretch) : full;
    chunk_rows = full * n.B;
    take_weights(arena);
    take_rows(arena);
    take_own(arena);
  }

  void take_weights(Arena& arena) {
    const int64_t GH = G * n.H;
    w_ih = half ? arena.take<T>(GH * n.I) : nullptr;
    w_hh = half ? arena.take<T>(GH * n.P) : nullptr;
    w_hr = half && project ? arena.take<T>(n.P * n.H) : nullptr;
    dw_ih = half ? arena.take<T>(GH * n.I) : nullptr;
    dw_hh = half ? arena.take<T>(GH * n.P) : nullptr;
    dw_hr = half && project ? arena.take<T>(n.P * n.H) : nullptr;
    db_ih = half ? arena.take<T>(GH) : nullptr;
    db_hh = half ? arena.take<T>(GH) : nullptr;
    packed_hh = arena.take<T>(GH * outs.blocks * L);
    packed_hr = project ? arena.take<T>(n.P * units.blocks * L) : nullptr;
    packed_ih = b.dx ? arena.take<T>(GH * inputs.blocks * L) : nullptr;
    zeros = arena.take<T>(max64(N * n.H, n.P) + L);
    d_table = a.ids ? arena.take<T>(n.I * GH) : nullptr;
  }

  void take_rows(Arena& arena) {
    const int64_t steps = chunk_steps * n.B;
    h0 = half && a.h0 ? arena.take<T>(n.B * n.P) : nullptr;
    c0 = half && a.c0 ? arena.take<T>(n.B * n.H) : nullptr;
    dhn = half && b.dhn ? arena.take<T>(n.B * n.P) : nullptr;
    dh0 = half && b.dh0 ? arena.take<T>(n.B * n.P) : nullptr;
    x_chunk = half && a.x ? arena.take<T>(steps * n.I) : nullptr;
    dy_chunk = half && b.dy ? arena.take<T>(steps * n.P) : nullptr;
    h_chunk = half ? arena.take<T>(steps * n.P) : nullptr;
    y_chunk = half && ops.reads_h && !project ? arena.take<T>(steps * n.P) : nullptr;
    dx_chunk = half && b.dx ? arena.take<T>(steps * n.I) : nullptr;
    ring = arena.take<T>((chunk_steps + 1) * n.B * N * n.H);
    ring_dh = project ? arena.take<T>((chunk_steps + 1) * n.B * n.P) : nullptr;
    carry_c = ops.has_cell ? arena.take<T>(n.B * n.H) : nullptr;
    carry_h = ops.reads_h_prev ? arena.take<T>(n.B * n.H) : nullptr;
  }

  void take_own(Arena& arena) {
    const int64_t group = max64(ceil_div(max64(n.B, 1), split.groups), kMaxRows);
    const int64_t H_cell = ceil_div(n.H, split.threads()) + kPanelRows, P_cell = ceil_div(n.P, split.threads()) + kPanelRows;
    const int64_t packed = max64(PackedGradients<T>::size(N, H_cell, chunk_rows),
                                 project ? PackedGradients<T>::size(1, P_cell, chunk_rows) : 0);
    for (int i = 0; i < split.threads(); i++) {
      Own& o = own[i];
      o.wait = arena.take<T>(group * kMaxColumns * L);
      o.packed = arena.take<T>(packed);
      o.spare = arena.take<T>((chunk_rows + kMaxRows) * kMaxColumns * L);
      o.sum = arena.take<T>(max64(H_cell, P_cell) + 3 * L);
      for (auto& l : o.list) l = arena.take<const T*>(n.B);
      o.d_row = arena.take<const T*>(chunk_rows);
      o.dh_row = arena.take<const T*>(chunk_rows);
      o.x_row = arena.take<const T*>(chunk_rows);
      o.h_row = arena.take<const T*>(chunk_rows);
      o.hidden_row = arena.take<const T*>(chunk_rows);
      o.dx_row = arena.take<T*>(chunk_rows);
    }
  }

  int64_t time(int d, int64_t s) const { return time_of(d, s, n.T); }
  // The first step of the chunk that ends before step s1.
  int64_t chunk_begin(int d, int64_t s1) const {
    if (!a.lengths) return max64(0, s1 - 1) / chunk_steps * chunk_steps;
    int64_t s = s1 - 1, count = rows.active(time(d, s));
    while (s > 0 && s1 - s < chunk_steps && count + rows.active(time(d, s - 1)) <= chunk_rows)
      count += rows.active(time(d, --s));
    return s;
  }

  // ---- half types: to float and back

  const T* wide(const void* p, const T* widened) const { return half ? widened : static_cast<const T*>(p); }
  T* grad(void* p, T* widened) const { return half ? widened : static_cast<T*>(p); }
  void widen_row(const void* p, int64_t at, T* to, int64_t count) const {
    if constexpr (sizeof(T) == 4) to_float(a.dtype, element(p, at, a.dtype), to, count);
  }
  void narrow_row(const T* from, void* p, int64_t at, int64_t count) const {
    if constexpr (sizeof(T) == 4) from_float(a.dtype, from, element(p, at, a.dtype), count);
  }

  void widen(int d, int i, int m) {
    auto part = [&](const void* p, int64_t at, T* to, int64_t count) {
      if (!p || !to) return;
      const Range r = share(count, i, m, 64);
      widen_row(p, at + r.begin, to + r.begin, r.end - r.begin);
    };
    part(a.w[d].ih, 0, w_ih, G * n.H * n.I);
    part(a.w[d].hh, 0, w_hh, G * n.H * n.P);
    part(a.w[d].hr, 0, w_hr, n.P * n.H);
    part(a.h0, d * n.B * n.P, h0, n.B * n.P);
    part(a.c0, d * n.B * n.H, c0, n.B * n.H);
    part(b.dhn, d * n.B * n.P, dhn, n.B * n.P);
  }

  // The chunk's rows of x, dy, y and of the state before each step. Share i of m, by steps.
  void widen_chunk(int d, int64_t s0, int64_t s1, int i, int m) {
    const Range q = share(s1 - s0, i, m);
    for (int64_t s = s0 + q.begin; s < s0 + q.end; s++)
      for (int g = 0; g < split.groups; g++) {
        const int64_t t = time(d, s), before = d == 0 ? t - 1 : t + 1, first = rows.begin(g);
        for (int64_t r = first; r < first + rows.active(g, t); r++) {
          const int64_t row = rows.row(r), at = (s - s0) * n.B + r;
          if (x_chunk) widen_row(a.x, (t * n.B + row) * n.I, x_chunk + at * n.I, n.I);
          if (dy_chunk) widen_row(b.dy, y_at(d, t, row), dy_chunk + at * n.P, n.P);
          if (y_chunk) widen_row(a.y, y_at(d, t, row), y_chunk + at * n.P, n.P);
          T* h = h_chunk + at * n.P;
          if (rows.cut(d, t, row) || (rows.starts(d, t, row) && !a.h0))
            __builtin_memset(h, 0, n.P * sizeof(T));
          else if (rows.starts(d, t, row))
            __builtin_memcpy(h, h0 + row * n.P, n.P * sizeof(T));
          else
            widen_row(a.y, y_at(d, before, row), h, n.P);
        }
      }
  }
  int64_t y_at(int d, int64_t t, int64_t row) const { return ((t * n.B + row) * n.D + d) * n.P; }

  // ---- weights and initial values

  void pack(int d, int i, int m) {
    const T *ih = wide(a.w[d].ih, w_ih), *hh = wide(a.w[d].hh, w_hh), *hr = wide(a.w[d].hr, w_hr);
    auto each = [&](const Panels& panels, int64_t columns, int64_t K, T* dst, auto&& row) {
      const Range r = share(panels.count, i, m);
      for (int64_t p = r.begin; p < r.end; p++) {
        const Panel q = panels.at(p);
        const int64_t j = q.block * L;
        pack_rows<T>([&](int64_t k) { return row(k) + j; }, K, columns - j, q.blocks, dst + j * K);
      }
    };
    if (n.T > 1 || b.dh0)
      each(outs, n.P, G * n.H, packed_hh, [&](int64_t k) { return hh + (ops.h_gate[k / n.H] * n.H + k % n.H) * n.P; });
    if (project) each(units, n.H, n.P, packed_hr, [&](int64_t k) { return hr + k * n.H; });
    if (packed_ih)
      each(inputs, n.I, G * n.H, packed_ih, [&](int64_t k) { return ih + (ops.x_gate[k / n.H] * n.H + k % n.H) * n.I; });
    if (i == 0)
      for (int64_t j = 0; j < max64(N * n.H, n.P); j++) zeros[j] = T(0);
    const Range r = share(n.B, i, m);
    for (int64_t p = r.begin; p < r.end; p++) {
      const int64_t at = (d * n.B + rows.row(p)) * n.H;
      if (carry_h) __builtin_memset(carry_h + p * n.H, 0, n.H * sizeof(T));
      if (!carry_c) continue;
      if (!b.dcn)
        __builtin_memset(carry_c + p * n.H, 0, n.H * sizeof(T));
      else if (half)
        widen_row(b.dcn, at, carry_c + p * n.H, n.H);
      else
        __builtin_memcpy(carry_c + p * n.H, static_cast<const T*>(b.dcn) + at, n.H * sizeof(T));
    }
    if (d_table) {
      const Range v = share(n.I, i, m);
      __builtin_memset(d_table + v.begin * G * n.H, 0, (v.end - v.begin) * G * n.H * sizeof(T));
    }
  }

  // ---- one step

  T* ring_rows(int64_t s) const { return ring + s % (chunk_steps + 1) * n.B * N * n.H; }
  T* dh_rows(int64_t s) const { return ring_dh + s % (chunk_steps + 1) * n.B * n.P; }

  // Active rows of group g at step s that have a following step (the first ones of the group).
  int64_t followed(int d, int64_t s, int g) const {
    if (s + 1 == n.T) return 0;
    return min64(rows.active(g, time(d, s)), rows.active(g, time(d, s + 1)));
  }

  // The gate gradients of the following step, h side; zeros for rows without one and across a reset. K: 0 if all are zero.
  RowView<const T> following(Own& o, int d, int g, int64_t s, int64_t* K) const {
    const int64_t first = rows.begin(g), count = rows.active(g, time(d, s)), next = followed(d, s, g);
    const int64_t ld = N * n.H;
    *K = next > 0 ? G * n.H : 0;
    if (next == 0) return {zeros, 0, nullptr, nullptr};
    const int64_t t = time(d, s + 1);
    const T* from = ring_rows(s + 1) + ops.h_first * n.H;
    if (next == count && !rows.any_cut(d, t)) return {from, ld, nullptr, nullptr};
    for (int64_t r = first; r < first + count; r++)
      o.list[0][r] = r < first + next && !rows.cut(d, t, rows.row(r)) ? from + r * ld : zeros;
    return {nullptr, 0, nullptr, o.list[0]};
  }

  RowView<const T> carry_in(const T* carry, const T** list, int d, int g, int64_t s) const {
    const int64_t first = rows.begin(g), next = followed(d, s, g);
    if (next == 0 || !rows.any_cut(d, time(d, s + 1))) return {carry, n.H, nullptr, nullptr};
    for (int64_t r = first; r < first + rows.active(g, time(d, s)); r++)
      list[r] = r < first + next && rows.cut(d, time(d, s + 1), rows.row(r)) ? zeros : carry + r * n.H;
    return {nullptr, 0, nullptr, list};
  }

  RowView<const T> dy_of(int d, int64_t s, int64_t s0) const {
    if (!b.dy) return {};
    if (half) return {dy_chunk + (s - s0) * n.B * n.P, n.P, nullptr, nullptr};
    return {static_cast<const T*>(b.dy) + y_at(d, time(d, s), 0), n.D * n.P, rows.order(), nullptr};
  }

  // dh_n, for the rows whose last step this is.
  RowView<const T> dhn_of(Own& o, int d, int g, int64_t s) const {
    const int64_t first = rows.begin(g), count = rows.active(g, time(d, s)), next = followed(d, s, g);
    if (!b.dhn || next == count) return {};
    const T* from = half ? dhn : static_cast<const T*>(b.dhn) + d * n.B * n.P;
    if (next == 0) return {from, n.P, rows.order(), nullptr};
    for (int64_t r = first; r < first + count; r++) o.list[1][r] = r < first + next ? zeros : from + rows.row(r) * n.P;
    return {nullptr, 0, nullptr, o.list[1]};
  }

  // h_{t-1} by row, as W_hh was multiplied with it.
  RowView<const T> h_before(const T** list, int d, int g, int64_t s, int64_t s0, bool* all_zero) const {
    const int64_t t = time(d, s), before = d == 0 ? t - 1 : t + 1;
    const T* init = !a.h0 ? nullptr : half ? h0 : static_cast<const T*>(a.h0) + d * n.B * n.P;
    const T* y = s > 0 && !half ? static_cast<const T*>(a.y) + y_at(d, before, 0) : nullptr;
    const RowView<const T> v =
        previous_state(rows, n.T, d, t, g, StateSource<T>{init, y, n.D * n.P, n.P, zeros}, list, all_zero);
    if (half) return {h_chunk + (s - s0) * n.B * n.P, n.P, nullptr, nullptr};
    return v;
  }
  const T* hidden_rows(int d, int64_t t) const { return static_cast<const T*>(a.hidden) + (d * n.T + t) * n.B * n.H; }

  BackwardStep<T> step_of(Own& o, int d, int g, int64_t s, int64_t s0) const {
    const int64_t t = time(d, s), before = d == 0 ? t - 1 : t + 1;
    const int32_t* order = rows.order();
    bool zero;
    BackwardStep<T> f = {};
    f.H = n.H;
    if (S > 0) f.saved = {static_cast<const T*>(a.gates) + (d * n.T + t) * n.B * S * n.H, S * n.H, order, nullptr};
    if (ops.reads_h) {
      if (project)
        f.h = {hidden_rows(d, t), n.H, order, nullptr};
      else if (half)
        f.h = {y_chunk + (s - s0) * n.B * n.P, n.P, nullptr, nullptr};
      else
        f.h = {static_cast<const T*>(a.y) + y_at(d, t, 0), n.D * n.P, order, nullptr};
    }
    if (ops.reads_h_prev) {
      f.h_prev = h_before(o.list[2], d, g, s, s0, &zero);
      f.carry_h_in = carry_in(carry_h, o.list[3], d, g, s);
      f.carry_h_out = {carry_h, n.H, nullptr, nullptr};
    }
    if (ops.has_cell) {
      const T* cells = static_cast<const T*>(a.cells);
      const T* init = !a.c0 ? nullptr : half ? c0 : static_cast<const T*>(a.c0) + d * n.B * n.H;
      f.c = {cells + (d * n.T + t) * n.B * n.H, n.H, order, nullptr};
      const T* c = s > 0 ? cells + (d * n.T + before) * n.B * n.H : nullptr;
      f.c_prev = previous_state(rows, n.T, d, t, g, StateSource<T>{init, c, n.H, n.H, zeros}, o.list[4], &zero);
      f.carry_c_in = carry_in(carry_c, o.list[5], d, g, s);
      f.carry_c_out = {carry_c, n.H, nullptr, nullptr};
    }
    if (!project) {
      f.dy = dy_of(d, s, s0);
      f.dy_more = dhn_of(o, d, g, s);
    }
    f.d = {ring_rows(s), N * n.H, nullptr, nullptr};
    return f;
  }

  // Everything a step of group g does for the units of a part.
  void step(Own& o, int d, int g, int part, int64_t s, int64_t s0) {
    const int64_t first = rows.begin(g), count = rows.active(g, time(d, s));
    if (count == 0) return;
    int64_t K = n.P;
    const BackwardStep<T> f = step_of(o, d, g, s, s0);
    const RowView<const T> left =
        project ? RowView<const T>{dh_rows(s), n.P, nullptr, nullptr} : following(o, d, g, s, &K);
    const T* weights = project ? packed_hr : packed_hh;
    const int64_t whole_K = project ? n.P : G * n.H;
    const Range range = share(units.count, part, split.parts);
    for (int64_t i = range.begin; i < range.end; i++) {
      const Panel q = units.at(s & 1 ? range.begin + range.end - 1 - i : i);
      const int64_t j = q.block * L, width = q.blocks * L * int64_t(sizeof(T));
      multiply_panel(
          left, first, count, weights + j * whole_K, q.blocks, K, o.wait,
          [&](int64_t r0, int m) __attribute__((always_inline)) {
            for (int64_t r = r0; r < r0 + m; r++) {
              if (S > 0) prefetch(f.saved.at(r) + j * S, width * S, false);
              if (ops.reads_h) prefetch(f.h.at(r) + j, width, false);
              if (ops.has_cell) prefetch(f.c.at(r) + j, width, false);
              if (ops.has_cell) prefetch(f.c_prev.at(r) + j, width, false);
              if (ops.reads_h_prev) prefetch(f.h_prev.at(r) + j, width, false);
              if (f.dy.base) prefetch(f.dy.at(r) + j, width, false);
              for (int k = 0; k < N; k++) prefetch(f.d.at(r) + k * n.H + j, width, true);
            }
          },
          [&](const T* sums, int64_t r0, int m) __attribute__((always_inline)) { ops.backward(f, sums, r0, m, q); });
    }
  }

  // With a projection, the first half: dh_t of the outputs of a part.
  void output_step(Own& o, int d, int g, int part, int64_t s, int64_t s0) {
    const int64_t first = rows.begin(g), count = rows.active(g, time(d, s));
    if (count == 0) return;
    int64_t K;
    const RowView<const T> left = following(o, d, g, s, &K), dy = dy_of(d, s, s0), more = dhn_of(o, d, g, s);
    T* dh = dh_rows(s);
    product(o, left, first, count, K, part, [&](const T* sums, int64_t r, int64_t j, int64_t width) {
      for (int64_t v = 0; v < width; v++) {
        T x = sums[v];
        if (b.dy) x += dy.at(r)[j + v];
        if (more.base || more.table) x += more.at(r)[j + v];
        dh[r * n.P + j + v] = x;
      }
    });
  }

  // The rows of group g whose first step is s: the gradient of h0.
  void finish_step(Own& o, int d, int g, int part, int64_t s) {
    const int64_t t = time(d, s), first = rows.begin(g), end = first + rows.active(g, t);
    const int64_t begin = finishing(d, g, s);
    if (begin == end) return;
    const RowView<const T> left = {ring_rows(s) + ops.h_first * n.H, N * n.H, nullptr, nullptr};
    T* to = half ? dh0 : static_cast<T*>(b.dh0) + d * n.B * n.P;
    product(o, left, begin, end - begin, G * n.H, part, [&](const T* sums, int64_t r, int64_t j, int64_t width) {
      const int64_t row = rows.row(r);
      const bool cut = rows.cut(d, t, row);
      for (int64_t v = 0; v < width; v++)
        to[row * n.P + j + v] = cut ? T(0) : sums[v] + (carry_h ? carry_h[r * n.H + j + v] : T(0));
    });
  }
  // First position among the active rows of group g whose first step is s (they are the last ones).
  int64_t finishing(int d, int g, int64_t s) const {
    const int64_t t = time(d, s), first = rows.begin(g);
    if (d == 0) return s == 0 ? first : first + rows.active(g, t);
    return first + (t + 1 < n.T ? rows.active(g, t + 1) : 0);
  }
  bool any_finishing(int d, int64_t s) const {
    for (int g = 0; g < split.groups; g++)
      if (finishing(d, g, s) < rows.begin(g) + rows.active(g, time(d, s))) return true;
    return false;
  }

  // Rows times W_hh^T for the outputs of a part: f(sums, row, first output, outputs).
  template <class F>
  FUSEDRNN_INLINE void product(Own& o, const RowView<const T>& left, int64_t first, int64_t count, int64_t K, int part,
                               F&& f) {
    const Range range = share(outs.count, part, split.parts);
    for (int64_t i = range.begin; i < range.end; i++) {
      const Panel q = outs.at(i);
      const int64_t j = q.block * L, width = min64(q.blocks * L, n.P - j);
      multiply_panel(
          left, first, count, packed_hh + j * G * n.H, q.blocks, K, o.wait, [](int64_t, int) {},
          [&](const T* sums, int64_t r0, int m) __attribute__((always_inline)) {
            for (int64_t r = r0; r < r0 + m; r++, sums += q.blocks * L) f(sums, r, j, width);
          });
    }
  }

  // ---- the sums over a chunk

  // The chunk's rows, steps upwards; returns their count. skip: how many at the beginning have a zero state before them.
  int64_t list_rows(Own& o, int d, int64_t s0, int64_t s1, int64_t* skip) {
    int64_t k = 0;
    *skip = 0;
    for (int64_t s = s0; s < s1; s++)
      for (int g = 0; g < split.groups; g++) {
        const int64_t t = time(d, s), first = rows.begin(g), end = first + rows.active(g, t);
        if (first == end) continue;
        bool zero;
        const RowView<const T> h = h_before(o.list[2], d, g, s, s0, &zero);
        const T *x = static_cast<const T*>(a.x), *hidden = project ? hidden_rows(d, t) : nullptr;
        if (zero && *skip == k) *skip = k + end - first;
        for (int64_t r = first; r < end; r++, k++) {
          const int64_t row = rows.row(r), at = (s - s0) * n.B + r;
          o.d_row[k] = ring_rows(s) + r * N * n.H;
          o.h_row[k] = h.at(r);
          if (a.x) o.x_row[k] = half ? x_chunk + at * n.I : x + (t * n.B + row) * n.I;
          if (b.dx) o.dx_row[k] = half ? dx_chunk + k * n.I : static_cast<T*>(b.dx) + (t * n.B + row) * n.I;
          if (project) {
            o.dh_row[k] = dh_rows(s) + r * n.P;
            o.hidden_row[k] = hidden + row * n.H;
          }
        }
      }
    return k;
  }

  // dx of the chunk's rows in share i of m.
  void input_grad(Own& o, int d, int64_t s0, int64_t count, int i, int m) {
    const Range r = share(count, i, m, kMaxRows);
    const int64_t K = G * n.H, runs = ceil_div(K, kLongestRun);
    for (int64_t p = 0; p < inputs.count && r.begin < r.end; p++) {
      const Panel q = inputs.at(p);
      const int64_t j = q.block * L, width = min64(q.blocks * L, n.I - j);
      for (int64_t c = 0; c < runs; c++) {
        const int64_t k = K * c / runs, length = K * (c + 1) / runs - k;
        rows_times_panel(o.d_row + r.begin, ops.x_first * n.H + k, o.dx_row + r.begin, j, r.end - r.begin,
                         packed_ih + j * K + k * q.blocks * L, q.blocks, length, width, static_cast<const T*>(nullptr),
                         c > 0 || (d > 0 && !half), o.wait);
      }
    }
    if (half) narrow_dx(o, d, s0, r);
  }
  // Half types: the float rows of dx to the storage type; the second direction adds.
  void narrow_dx(Own& o, int d, int64_t s0, Range r) {
    if constexpr (sizeof(T) == 4) {
      int64_t k = 0;
      for (int64_t s = s0; k < r.end; s++)
        for (int g = 0; g < split.groups; g++) {
          const int64_t t = time(d, s), first = rows.begin(g);
          for (int64_t q = first; q < first + rows.active(g, t); q++, k++) {
            if (k < r.begin || k >= r.end) continue;
            void* to = element(b.dx, (t * n.B + rows.row(q)) * n.I, a.dtype);
            d == 0 ? from_float(a.dtype, o.dx_row[k], to, n.I) : add_from_float(a.dtype, o.dx_row[k], to, n.I);
          }
        }
    }
  }

  // The weight gradients of one cell of the split: some units of every gate, all rows of the chunk. add: not the first chunk.
  void weight_grads(Own& o, int d, int cell, int64_t s0, int64_t s1, int64_t K, int64_t skip, bool add) {
    const WeightGrads& w = b.dw[d];
    const Range r = share(n.H, cell, split.threads(), kPanelRows);
    const int64_t count = r.end - r.begin;
    const PackedGradients<T> packed = {o.packed, K, count};
    if (count > 0) {
      for (int slot = 0; slot < N; slot++) {
        pack_panels<T>([&](int64_t k) __attribute__((always_inline)) { return o.d_row[k] + slot * n.H + r.begin; }, K,
                       count, packed.slot(slot), o.sum);
        const int x = slot - ops.x_first, h = slot - ops.h_first;
        if (w.b_ih && x >= 0 && x < G)
          put_sums(o.sum, grad(w.b_ih, db_ih) + ops.x_gate[x] * n.H + r.begin, count, add);
        if (w.b_hh && h >= 0 && h < G)
          put_sums(o.sum, grad(w.b_hh, db_hh) + ops.h_gate[h] * n.H + r.begin, count, add);
      }
      if (w.ih && a.ids)
        scatter(o, d, s0, s1, r);
      else if (w.ih)
        add_weight_grad(packed, ops.x_first, G, ops.x_gate, n.H, r.begin, RightFactor<T>{o.x_row, K, 0, n.I},
                        grad(w.ih, dw_ih), add, o.spare);
      if (w.hh)
        add_weight_grad(packed, ops.h_first, G, ops.h_gate, n.H, r.begin, RightFactor<T>{o.h_row, K, skip, n.P},
                        grad(w.hh, dw_hh), add, o.spare);
    }
    const Range q = share(n.P, cell, split.threads(), kPanelRows);
    if (!project || !w.hr || q.begin == q.end) return;
    const PackedGradients<T> dh = {o.packed, K, q.end - q.begin};
    pack_panels<T>([&](int64_t k) __attribute__((always_inline)) { return o.dh_row[k] + q.begin; }, K, dh.units, dh.slot(0),
                   static_cast<T*>(nullptr));
    const int gate[1] = {0};
    add_weight_grad(dh, 0, 1, gate, n.P, q.begin, RightFactor<T>{o.hidden_row, K, 0, n.H}, grad(w.hr, dw_hr), add, o.spare);
  }

  // Token ids: adds the x side of the chunk's gate gradients to the rows of the table, in the order of the list.
  void scatter(Own& o, int d, int64_t s0, int64_t s1, Range units_) {
    int64_t k = 0;
    for (int64_t s = s0; s < s1; s++)
      for (int g = 0; g < split.groups; g++) {
        const int64_t t = time(d, s), first = rows.begin(g);
        for (int64_t r = first; r < first + rows.active(g, t); r++, k++) {
          T* to = d_table + a.ids[t * n.B + rows.row(r)] * G * n.H;
          for (int i = 0; i < G; i++) {
            const T* from = o.d_row[k] + (ops.x_first + i) * n.H;
            T* row = to + ops.x_gate[i] * n.H;
            for (int64_t j = units_.begin; j < units_.end; j++) row[j] += from[j];
          }
        }
      }
  }
  // Token ids: the table to dW_ih. Share i of m of its rows.
  void transpose_table(int d, int i, int m) {
    T* to = grad(b.dw[d].ih, dw_ih);
    const int64_t GH = G * n.H, whole = n.I / L * L;
    const Range r = share(GH, i, m, L);
    for (int64_t v = 0; v < whole; v += L)
      pack_transposed(d_table + v * GH + r.begin, GH, r.end - r.begin, int64_t(L), to + r.begin * n.I + v, n.I);
    for (int64_t j = r.begin; j < r.end; j++)
      for (int64_t v = whole; v < n.I; v++) to[j * n.I + v] = d_table[v * GH + j];
  }

  // ---- what follows the last chunk: dh0 and dc0 that no step wrote, dx beyond the lengths
  void finish(int d, int i, int m) {
    const Range r = share(n.B, i, m);
    for (int64_t p = r.begin; p < r.end; p++) {
      const int64_t row = rows.row(p), length = rows.length(row);
      if (b.dh0) finish_dh0(d, row, length);
      if (b.dc0) finish_dc0(d, p, row, length);
      if (b.dx && d == 0)
        for (int64_t t = length; t < n.T; t++)
          __builtin_memset(element(b.dx, (t * n.B + row) * n.I, a.dtype), 0, n.I * size_of(a.dtype));
    }
  }
  void finish_dh0(int d, int64_t row, int64_t length) {
    const int64_t at = (d * n.B + row) * n.P, bytes = n.P * size_of(a.dtype);
    char* to = element(b.dh0, at, a.dtype);
    if (length > 0) {
      if (half) narrow_row(dh0 + row * n.P, b.dh0, at, n.P);
    } else if (b.dhn) {
      __builtin_memcpy(to, element(b.dhn, at, a.dtype), bytes);
    } else {
      __builtin_memset(to, 0, bytes);
    }
  }
  void finish_dc0(int d, int64_t p, int64_t row, int64_t length) {
    const int64_t at = (d * n.B + row) * n.H;
    if (length > 0 && d == 0 && rows.cut(0, 0, row))
      __builtin_memset(element(b.dc0, at, a.dtype), 0, n.H * size_of(a.dtype));
    else if (half)
      narrow_row(carry_c + p * n.H, b.dc0, at, n.H);
    else
      __builtin_memcpy(static_cast<T*>(b.dc0) + at, carry_c + p * n.H, n.H * sizeof(T));
  }
  // Half types: the float gradients of the weights to the storage type.
  void narrow_grads(int d, int i, int m) {
    auto part = [&](const T* from, void* to, int64_t count) {
      if (!to) return;
      const Range r = share(count, i, m, 64);
      narrow_row(from + r.begin, to, r.begin, r.end - r.begin);
    };
    const WeightGrads& w = b.dw[d];
    part(dw_ih, w.ih, G * n.H * n.I);
    part(dw_hh, w.hh, G * n.H * n.P);
    part(dw_hr, w.hr, n.P * n.H);
    part(db_ih, w.b_ih, G * n.H);
    part(db_hh, w.b_hh, G * n.H);
  }

  // ---- the order of things

  template <class F>
  FUSEDRNN_INLINE void own_cells(const Member& m, F&& f) {
    const Range r = share(split.threads(), m.rank(), m.size());
    for (int64_t i = r.begin; i < r.end; i++) f(int(i / split.parts), int(i % split.parts));
  }

  void steps_by_groups(Member& m, int d, int64_t s0, int64_t s1) {
    if (!m.enter()) return;
    Own& o = own[m.rank()];
    own_cells(m, [&](int g, int) {
      for (int64_t s = s1 - 1; s >= s0; s--) {
        if (project) output_step(o, d, g, 0, s, s0);
        step(o, d, g, 0, s, s0);
        if (b.dh0) finish_step(o, d, g, 0, s);
      }
    });
    m.leave();
  }

  void steps_by_parts(Member& m, int d, int64_t s0, int64_t s1) {
    Own& o = own[m.rank()];
    for (int64_t s = s1 - 1; s >= s0; s--) {
      if (project && m.enter()) {
        own_cells(m, [&](int g, int p) { output_step(o, d, g, p, s, s0); });
        m.leave();
      }
      if (m.enter()) {
        own_cells(m, [&](int g, int p) { step(o, d, g, p, s, s0); });
        m.leave();
      }
      if (b.dh0 && any_finishing(d, s) && m.enter()) {
        own_cells(m, [&](int g, int p) { finish_step(o, d, g, p, s); });
        m.leave();
      }
    }
  }

  void sums(Member& m, int d, int64_t s0, int64_t s1, bool add) {
    if (!m.enter()) return;
    Own& o = own[m.rank()];
    int64_t skip;
    const int64_t K = list_rows(o, d, s0, s1, &skip);
    const Range cells = share(split.threads(), m.rank(), m.size());
    for (int64_t c = cells.begin; c < cells.end; c++) weight_grads(o, d, int(c), s0, s1, K, skip, add);
    if (b.dx) input_grad(o, d, s0, K, m.rank(), m.size());
    m.leave();
  }

  void run(Member& m) {
    for (int d = 0; d < n.D; d++) {
      if (half && m.enter()) {
        widen(d, m.rank(), m.size());
        m.leave();
      }
      if (m.enter()) {
        pack(d, m.rank(), m.size());
        m.leave();
      }
      for (int64_t s1 = n.T; s1 > 0;) {
        const int64_t s0 = chunk_begin(d, s1);
        if (half && m.enter()) {
          widen_chunk(d, s0, s1, m.rank(), m.size());
          m.leave();
        }
        split.parts == 1 ? steps_by_groups(m, d, s0, s1) : steps_by_parts(m, d, s0, s1);
        sums(m, d, s0, s1, s1 < n.T);
        s1 = s0;
      }
      if (a.ids && b.dw[d].ih && m.enter()) {
        transpose_table(d, m.rank(), m.size());
        m.leave();
      }
      if (m.enter()) {
        finish(d, m.rank(), m.size());
        if (half) narrow_grads(d, m.rank(), m.size());
        m.leave();
      }
    }
  }

  static void work(void* self, Member& m) { static_cast<Backward*>(self)->run(m); }
};

template <class T>
struct Call {
  const BackwardArgs& args;
  const Threads& threads;
  Split split;
  static void use(void* self, char* block) {
    const Call& c = *static_cast<Call*>(self);
    Arena arena(block);
    Backward<T> layer(c.args, c.split, arena);
    layer.rows.fill();
    run_team(c.threads, c.split.threads(), Backward<T>::work, &layer);
  }
};

template <class T>
void run_backward(const BackwardArgs& b, const Threads& threads) {
  const CellOps<T>& ops = cell_ops<T>(b.f.cell);
  const int limit = threads.count < kMaxTeam ? threads.count : kMaxTeam;
  Call<T> call = {b, threads, choose_split(b.f.n, ops.G, ceil_div(b.f.n.H, kLanes<T>), sizeof(T), limit)};
  Arena measure(nullptr);
  { Backward<T> sizes(b, call.split, measure); }
  with_scratch(measure.used(), Call<T>::use, &call);
}

}  // namespace

void backward(const BackwardArgs& b, const Threads& threads) {
  b.f.dtype == DType::f64 ? run_backward<double>(b, threads) : run_backward<float>(b, threads);
}

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
