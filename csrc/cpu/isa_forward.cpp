// The forward time loop over any cell. See layer.h for the contract of the arguments.
//
// Per direction: weights are packed once; then, chunk of steps by chunk, the products W_ih x + b of the chunk go to a
// scratch that stays in cache, and the steps of the chunk run. A step multiplies h_{t-1} by W_hh panel by panel; each
// tile of sums goes straight into the cell's maths, which writes h_t (to y itself), c_t and what backward needs.
//
// The batch is cut into groups, which need not meet before the chunk ends, and the units into parts, which meet after
// every step (schedule.h). Rows that have ended are not touched at all; initial states and resets only choose the address
// the previous state is read from.
#include "entry.h"

#include "states.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

constexpr int64_t kChunkRows = 96;  // rows of a group whose input projections are computed at once

template <class T>
struct Forward {
  static constexpr int L = kLanes<T>;
  const ForwardArgs& a;
  const CellOps<T>& ops;
  const Dims n;
  const int G, S;
  const bool half, project;
  const int64_t unit_blocks, out_blocks;
  const Split split;
  const Panels panels, out_panels;  // of units, and of the P outputs of a projection
  Schedule rows;
  int64_t chunk_steps, x_width;
  bool by_table;  // token ids are looked up in a table of finished input projections

  // Scratch. Weights in the storage's float form (half types only), packed weights, states.
  T *w_ih, *w_hh, *w_hr, *b_ih, *b_hh, *h0, *c0, *x_chunk;
  T *packed_ih, *packed_hh, *packed_hr, *x_bias, *h_bias, *x_part, *table, *zeros;
  T *c_state, *hidden_state, *h_ring;
  struct Own {  // of one member
    T* wait;
    const T **h_prev, **c_prev, **x_row, **a_list;
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
        unit_blocks(ceil_div(n.H, L)),
        out_blocks(ceil_div(n.P, L)),
        split(s),
        panels(unit_blocks, kMaxColumns / ops.G > 0 ? kMaxColumns / ops.G : 1, s.parts),
        out_panels(out_blocks, kMaxColumns, s.parts),
        rows(arena, args.n, s.groups, args.lengths, args.resets) {
    const int64_t group = ceil_div(max64(n.B, 1), split.groups);
    chunk_steps = min64(n.T, max64(1, kChunkRows / group));
    x_width = unit_blocks * G * L;
    by_table = a.ids && n.I <= n.T * n.B;
    take_scratch(arena, group);
  }

  void take_scratch(Arena& arena, int64_t group) {
    const int64_t GH = G * n.H, chunk_rows = chunk_steps * n.B;
    w_ih = half ? arena.take<T>(GH * n.I) : nullptr;
    w_hh = half ? arena.take<T>(GH * n.P) : nullptr;
    w_hr = half && project ? arena.take<T>(n.P * n.H) : nullptr;
    b_ih = half ? arena.take<T>(GH) : nullptr;
    b_hh = half ? arena.take<T>(GH) : nullptr;
    h0 = half && a.h0 ? arena.take<T>(n.B * n.P) : nullptr;
    c0 = half && a.c0 ? arena.take<T>(n.B * n.H) : nullptr;
    x_chunk = half && a.x ? arena.take<T>(chunk_rows * n.I) : nullptr;
    packed_ih = a.ids ? nullptr : arena.take<T>(n.I * x_width);
    packed_hh = arena.take<T>(n.P * x_width);
    packed_hr = project ? arena.take<T>(n.H * out_blocks * L) : nullptr;
    x_bias = arena.take<T>(x_width);
    h_bias = arena.take<T>(x_width);
    x_part = by_table ? nullptr : arena.take<T>(chunk_rows * x_width);
    table = by_table ? arena.take<T>(n.I * x_width) : nullptr;
    zeros = arena.take<T>(max64(n.H, n.P) + L);
    c_state = ops.has_cell && !a.cells ? arena.take<T>(n.B * n.H) : nullptr;
    hidden_state = project && !a.hidden ? arena.take<T>(n.B * n.H) : nullptr;
    h_ring = half ? arena.take<T>(2 * n.B * n.P) : nullptr;
    for (int i = 0; i < split.threads(); i++) {
      Own& o = own[i];
      o.wait = arena.take<T>(max64(group, kMaxRows) * kMaxColumns * L);
      o.h_prev = arena.take<const T*>(n.B);
      o.c_prev = arena.take<const T*>(n.B);
      o.x_row = arena.take<const T*>(n.B);
      o.a_list = arena.take<const T*>(chunk_steps * group);
      o.c_list = arena.take<T*>(chunk_steps * group);
    }
  }

  int64_t time(int d, int64_t s) const { return time_of(d, s, n.T); }

  // ---- weights

  // Half types: everything of direction d that is read more than once, to float. Share i of m.
  void widen(int d, int i, int m) {
    const Weights& w = a.w[d];
    auto part = [&](const void* from, T* to, int64_t count) {
      if (!from) return;
      const Range r = share(count, i, m, 64);
      if constexpr (sizeof(T) == 4) to_float(a.dtype, element(from, r.begin, a.dtype), to + r.begin, r.end - r.begin);
    };
    part(w.ih, w_ih, G * n.H * n.I);
    part(w.hh, w_hh, G * n.H * n.P);
    part(w.hr, w_hr, n.P * n.H);
    part(w.b_ih, b_ih, G * n.H);
    part(w.b_hh, b_hh, G * n.H);
    if (a.h0) part(element(a.h0, d * n.B * n.P, a.dtype), h0, n.B * n.P);
    if (a.c0) part(element(a.c0, d * n.B * n.H, a.dtype), c0, n.B * n.H);
  }
  const T* wide(const void* p, const T* widened) const { return half ? widened : static_cast<const T*>(p); }

  void pack_biases(int d) {
    const Weights& w = a.w[d];
    const T *bi = w.b_ih ? wide(w.b_ih, b_ih) : nullptr, *bh = w.b_hh ? wide(w.b_hh, b_hh) : nullptr;
    for (int64_t j = 0; j < unit_blocks * L; j++)
      for (int g = 0; g < G; g++) {
        const int64_t to = (j / L * G + g) * L + j % L, from = g * n.H + j;
        const T x = bi && j < n.H ? bi[from] : T(0), h = bh && j < n.H ? bh[from] : T(0);
        x_bias[to] = ops.h_bias_apart[g] ? x : x + h;
        h_bias[to] = ops.h_bias_apart[g] ? h : T(0);
      }
  }

  void pack(int d, int i, int m) {
    const Weights& w = a.w[d];
    const T *ih = wide(w.ih, w_ih), *hh = wide(w.hh, w_hh);
    const Range r = share(panels.count, i, m);
    for (int64_t p = r.begin; p < r.end; p++) {
      const Panel q = panels.at(p);
      if (n.T > 1 || a.h0) pack_gates(hh, G, n.H, n.P, q, packed_hh + q.block * G * L * n.P);
      if (packed_ih) pack_gates(ih, G, n.H, n.I, q, packed_ih + q.block * G * L * n.I);
    }
    if (project) {
      const Range o = share(out_panels.count, i, m);
      for (int64_t p = o.begin; p < o.end; p++) {
        const Panel q = out_panels.at(p);
        pack_gates(wide(w.hr, w_hr), 1, n.P, n.H, q, packed_hr + q.block * L * n.H);
      }
    }
    if (i == 0) {
      pack_biases(d);
      for (int64_t j = 0; j < max64(n.H, n.P); j++) zeros[j] = T(0);
    }
  }

  // table[id] = W_ih[:, id] + bias, for the unit blocks of share i of m.
  void fill_table(int d, int i, int m) {
    const T* ih = wide(a.w[d].ih, w_ih);
    const Range r = share(unit_blocks, i, m);
    for (int64_t b = r.begin; b < r.end; b++)
      for (int g = 0; g < G; g++) {
        T* to = table + (b * G + g) * L;
        pack_transposed(ih + (g * n.H + b * L) * n.I, n.I, n.I, min64(L, n.H - b * L), to, x_width);
        const Vec<T> bias = load(x_bias + (b * G + g) * L);
        for (int64_t v = 0; v < n.I; v++) store(to + v * x_width, load(to + v * x_width) + bias);
      }
  }

  // ---- input projection of the steps s0 <= s < s1

  // Half types: the rows of x that take part, to float. Share i of m.
  void widen_x(int d, int64_t s0, int64_t s1, int i, int m) {
    const Range q = share(s1 - s0, i, m);
    for (int64_t s = s0 + q.begin; s < s0 + q.end; s++)
      for (int g = 0; g < split.groups; g++) {
        const int64_t t = time(d, s), first = rows.begin(g);
        for (int64_t r = first; r < first + rows.active(g, t); r++)
          if constexpr (sizeof(T) == 4)
            to_float(a.dtype, element(a.x, (t * n.B + rows.row(r)) * n.I, a.dtype), x_chunk + ((s - s0) * n.B + r) * n.I,
                     n.I);
      }
  }

  void project_input(Own& o, int d, int g, Range units, int64_t s0, int64_t s1) {
    if (by_table) return;
    int64_t count = 0;
    for (int64_t s = s0; s < s1; s++) {
      const int64_t t = time(d, s), first = rows.begin(g), end = first + rows.active(g, t);
      const T* x = static_cast<const T*>(a.x);
      for (int64_t r = first; r < end; r++, count++) {
        o.c_list[count] = x_part + ((s - s0) * n.B + r) * x_width;
        if (a.ids)
          gather_column(d, a.ids[t * n.B + rows.row(r)], units, o.c_list[count]);
        else
          o.a_list[count] = half ? x_chunk + ((s - s0) * n.B + r) * n.I : x + (t * n.B + rows.row(r)) * n.I;
      }
    }
    if (a.ids) return;
    const int64_t runs = ceil_div(n.I, kLongestRun);
    for (int64_t p = units.begin; p < units.end; p++) {
      const Panel q = panels.at(p);
      const int64_t width = int64_t(q.blocks) * G * L, column = q.block * G * L;
      for (int64_t i = 0; i < runs; i++) {
        const int64_t k = n.I * i / runs, length = n.I * (i + 1) / runs - k;
        rows_times_panel(o.a_list, k, o.c_list, column, count, packed_ih + column * n.I + k * width, q.blocks * G, length,
                         width, i == 0 ? x_bias + column : nullptr, i > 0, o.wait);
      }
    }
  }

  // The same for one token id when the table would be larger than what is looked up.
  void gather_column(int d, int64_t id, Range units, T* to) {
    const T* ih = wide(a.w[d].ih, w_ih);
    const int64_t b0 = panels.at(units.begin).block, last = units.end - 1;
    const int64_t b1 = panels.at(last).block + panels.at(last).blocks;
    for (int64_t b = b0; b < b1; b++)
      for (int g = 0; g < G; g++)
        for (int64_t j = b * L; j < min64(n.H, b * L + L); j++) {
          const int64_t at = (b * G + g) * L + j % L;
          to[at] = ih[(g * n.H + j) * n.I + id] + x_bias[at];
        }
  }

  // ---- one step

  // h_s as the next step reads it, by row of the batch: y itself, or a copy in float.
  T* h_rows(int d, int64_t s) const {
    if (half) return h_ring + (s & 1) * n.B * n.P;
    return static_cast<T*>(a.y) + (time(d, s) * n.B * n.D + d) * n.P;
  }
  int64_t h_ld() const { return half ? n.P : n.D * n.P; }
  T* c_rows(int d, int64_t t) const {
    return a.cells ? static_cast<T*>(a.cells) + (d * n.T + t) * n.B * n.H : c_state;
  }
  T* hidden_rows(int d, int64_t t) const {
    return a.hidden ? static_cast<T*>(a.hidden) + (d * n.T + t) * n.B * n.H : hidden_state;
  }

  ForwardStep<T> step_of(Own& o, int d, int g, int64_t s, int64_t s0, int64_t* K) const {
    const int64_t t = time(d, s), before = d == 0 ? t - 1 : t + 1;
    const int32_t* order = rows.order();
    ForwardStep<T> f = {};
    f.H = n.H;
    f.storage = project ? DType::f32 : a.dtype;
    f.h_bias = h_bias;
    const T* h_init = !a.h0 ? nullptr : half ? h0 : static_cast<const T*>(a.h0) + d * n.B * n.P;
    bool zero = false;
    const StateSource<T> h = {h_init, s > 0 ? h_rows(d, s - 1) : nullptr, h_ld(), n.P, zeros};
    f.h_prev = previous_state(rows, n.T, d, t, g, h, o.h_prev, &zero);
    *K = zero ? 0 : n.P;
    if (ops.has_cell) {
      const T* c_init = !a.c0 ? nullptr : half ? c0 : static_cast<const T*>(a.c0) + d * n.B * n.H;
      const StateSource<T> c = {c_init, s > 0 ? c_rows(d, before) : nullptr, n.H, n.H, zeros};
      f.c_prev = previous_state(rows, n.T, d, t, g, c, o.c_prev, &zero);
      f.c = {c_rows(d, t), n.H, order, nullptr};
    }
    if (project)
      f.h = {hidden_rows(d, t), n.H, order, nullptr};
    else
      f.h = {h_rows(d, s), h_ld(), order, nullptr};
    if (a.gates) f.saved = {static_cast<T*>(a.gates) + (d * n.T + t) * n.B * S * n.H, S * n.H, order, nullptr};
    if (by_table) {
      for (int64_t r = rows.begin(g); r < rows.begin(g) + rows.active(g, t); r++)
        o.x_row[r] = table + a.ids[t * n.B + rows.row(r)] * x_width;
      f.x = {nullptr, 0, nullptr, o.x_row};
    } else {
      f.x = {x_part + (s - s0) * n.B * x_width, x_width, nullptr, nullptr};
    }
    return f;
  }

  void step(Own& o, int d, int g, Range units, int64_t s, int64_t s0) {
    const int64_t t = time(d, s), first = rows.begin(g), count = rows.active(g, t);
    if (count == 0) return;
    int64_t K;
    const ForwardStep<T> f = step_of(o, d, g, s, s0, &K);
    for (int64_t i = units.begin; i < units.end; i++) {
      // To and fro over the panels: the ones used last are still in the cache.
      const Panel q = panels.at(s & 1 ? units.begin + units.end - 1 - i : i);
      const int64_t j = q.block * L, column = j * G, width = q.blocks * L * int64_t(sizeof(T));
      multiply_panel(
          f.h_prev, first, count, packed_hh + column * n.P, q.blocks * G, K, o.wait,
          [&](int64_t r0, int m) __attribute__((always_inline)) {
            for (int64_t r = r0; r < r0 + m; r++) {
              prefetch(f.x.at(r) + column, width * G, false);
              if (a.gates) prefetch(f.saved.at(r) + j * S, width * S, true);
              if (ops.has_cell) prefetch(f.c_prev.at(r) + j, width, false);
              if (ops.has_cell && a.cells) prefetch(f.c.at(r) + j, width, true);
              prefetch(f.h.at(r) + j, width, true);
            }
          },
          [&](const T* sums, int64_t r0, int m) __attribute__((always_inline)) { ops.forward(f, sums, r0, m, q); });
      if (half && !project) narrow(d, g, s, j, min64(q.blocks * L, n.H - j));
    }
  }

  // Half types: columns j .. j+width of h_s to y.
  void narrow(int d, int g, int64_t s, int64_t j, int64_t width) {
    const int64_t t = time(d, s), first = rows.begin(g);
    for (int64_t r = first; r < first + rows.active(g, t); r++) {
      const int64_t b = rows.row(r);
      if constexpr (sizeof(T) == 4)
        from_float(a.dtype, h_rows(d, s) + b * n.P + j, element(a.y, ((t * n.B + b) * n.D + d) * n.P + j, a.dtype), width);
    }
  }

  // h_t = W_hr hidden_t
  void project_output(Own& o, int d, int g, Range outs, int64_t s) {
    const int64_t t = time(d, s), first = rows.begin(g), count = rows.active(g, t);
    const RowView<const T> hidden = {hidden_rows(d, t), n.H, rows.order(), nullptr};
    const RowView<T> h = {h_rows(d, s), h_ld(), rows.order(), nullptr};
    for (int64_t i = outs.begin; i < outs.end; i++) {
      const Panel q = out_panels.at(i);
      const int64_t j = q.block * L, width = min64(q.blocks * L, n.P - j);
      multiply_panel(
          hidden, first, count, packed_hr + j * n.H, q.blocks, n.H, o.wait,
          [](int64_t, int) __attribute__((always_inline)) {},
          [&](const T* sums, int64_t r0, int m) __attribute__((always_inline)) {
            for (int64_t r = r0; r < r0 + m; r++, sums += q.blocks * L) {
              T* to = h.at(r) + j;
              for (int64_t v = 0; v < width; v += L) {
                const Vec<T> x = round_to(a.dtype, load(sums + v));
                width - v >= L ? store(to + v, x) : store_part(to + v, x, width - v);
              }
            }
          });
      if (half) narrow(d, g, s, j, width);
    }
  }

  // ---- what follows the last step: h_n, c_n, and zeros in y beyond the lengths. Rows of share i of m.
  void finish(int d, int i, int m) {
    const Range r = share(n.B, i, m);
    const int64_t bytes = n.P * size_of(a.dtype), c_bytes = n.H * size_of(a.dtype);
    for (int64_t b = r.begin; b < r.end; b++) {
      const int64_t length = rows.length(b), t = d == 0 ? length - 1 : 0;
      char* h = element(a.h_n, (d * n.B + b) * n.P, a.dtype);
      copy_or_zero(h, length > 0 ? element(a.y, ((t * n.B + b) * n.D + d) * n.P, a.dtype) : initial(a.h0, d, b, n.P), bytes);
      if (a.c_n) {
        char* c = element(a.c_n, (d * n.B + b) * n.H, a.dtype);
        if (length == 0)
          copy_or_zero(c, initial(a.c0, d, b, n.H), c_bytes);
        else if (half)
          narrow_row(c_rows(d, t) + b * n.H, c, n.H);
        else
          __builtin_memcpy(c, c_rows(d, t) + b * n.H, c_bytes);
      }
      for (int64_t u = length; u < n.T; u++)
        __builtin_memset(element(a.y, ((u * n.B + b) * n.D + d) * n.P, a.dtype), 0, bytes);
    }
  }
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
  FUSEDRNN_INLINE void own_cells(const Member& m, F&& f) {
    const Range r = share(split.threads(), m.rank(), m.size());
    for (int64_t i = r.begin; i < r.end; i++) f(int(i / split.parts), int(i % split.parts));
  }
  Range units_of(int part) const { return share(panels.count, part, split.parts); }
  Range outs_of(int part) const { return share(out_panels.count, part, split.parts); }

  void chunk_by_groups(Member& m, int d, int64_t s0, int64_t s1) {
    if (!m.enter()) return;
    Own& o = own[m.rank()];
    own_cells(m, [&](int g, int) {
      project_input(o, d, g, units_of(0), s0, s1);
      for (int64_t s = s0; s < s1; s++) {
        step(o, d, g, units_of(0), s, s0);
        if (project) project_output(o, d, g, outs_of(0), s);
      }
    });
    m.leave();
  }

  void chunk_by_parts(Member& m, int d, int64_t s0, int64_t s1) {
    Own& o = own[m.rank()];
    if (m.enter()) {
      own_cells(m, [&](int g, int p) { project_input(o, d, g, units_of(p), s0, s1); });
      m.leave();
    }
    for (int64_t s = s0; s < s1; s++) {
      if (m.enter()) {
        own_cells(m, [&](int g, int p) { step(o, d, g, units_of(p), s, s0); });
        m.leave();
      }
      if (project && m.enter()) {
        own_cells(m, [&](int g, int p) { project_output(o, d, g, outs_of(p), s); });
        m.leave();
      }
    }
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
      if (by_table && m.enter()) {
        fill_table(d, m.rank(), m.size());
        m.leave();
      }
      for (int64_t s0 = 0; s0 < n.T; s0 += chunk_steps) {
        const int64_t s1 = min64(n.T, s0 + chunk_steps);
        if (x_chunk && m.enter()) {
          widen_x(d, s0, s1, m.rank(), m.size());
          m.leave();
        }
        split.parts == 1 ? chunk_by_groups(m, d, s0, s1) : chunk_by_parts(m, d, s0, s1);
      }
      if (m.enter()) {
        finish(d, m.rank(), m.size());
        m.leave();
      }
    }
  }

  static void work(void* self, Member& m) { static_cast<Forward*>(self)->run(m); }
};

template <class T>
struct Call {
  const ForwardArgs& args;
  const Threads& threads;
  Split split;
  static void use(void* self, char* block) {
    const Call& c = *static_cast<Call*>(self);
    Arena arena(block);
    Forward<T> layer(c.args, c.split, arena);
    layer.rows.fill();
    run_team(c.threads, c.split.threads(), Forward<T>::work, &layer);
  }
};

template <class T>
void run_forward(const ForwardArgs& a, const Threads& threads) {
  const CellOps<T>& ops = cell_ops<T>(a.cell);
  const int limit = threads.count < kMaxTeam ? threads.count : kMaxTeam;
  Call<T> call = {a, threads, choose_split(a.n, ops.G, ceil_div(a.n.H, kLanes<T>), sizeof(T), limit)};
  Arena measure(nullptr);
  { Forward<T> sizes(a, call.split, measure); }
  with_scratch(measure.used(), Call<T>::use, &call);
}

}  // namespace

void forward(const ForwardArgs& a, const Threads& threads) {
  a.dtype == DType::f64 ? run_forward<double>(a, threads) : run_forward<float>(a, threads);
}

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
