// The forward time loop over any cell. See layer.h for the contract of the arguments.
//
// Per direction: weights are packed once; then, chunk of steps by chunk, the products W_ih x + b of the chunk go to a
// scratch that stays in cache, and the steps of the chunk run. A step multiplies h_{t-1} by W_hh panel by panel; each
// tile of sums goes straight into the cell's maths, which writes h_t (to y itself), c_t and what backward needs.
//
// The batch is cut into groups, which never meet, and the units into parts, which meet after every step (schedule.h).
// Rows that have ended are not touched at all; initial states and resets only choose the address the previous state is
// read from.
#include "entry.h"
#include "forward_setup.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

template <class T>
template <class F>
FUSEDRNN_INLINE void Forward<T>::own_cells(const Member& m, F&& f) {
  const Range r = share(split.threads(), m.rank(), m.size());
  for (int64_t i = r.begin; i < r.end; i++) f(int(i / split.parts), int(i % split.parts));
}

template <class T>
RowView<const T> Forward<T>::h_before(int d, int g, int64_t s, bool as_factor, const T** list, bool* zero) const {
  const int64_t t = time(d, s), before = d == 0 ? t - 1 : t + 1;
  StateSource<T> h = {nullptr, nullptr, rows.order(), h_ld(), n.P, zeros};
  if (as_factor && elements == 2) {
    if (a.h0) h.initial = as_cells<T>(a.h0, d * n.B * n.P);
    if (s > 0) h.before = as_cells<T>(a.y, (rows.at(before) * n.D + d) * n.P);
    h.ld = n.D * KP;
    h.width = KP;
  } else {
    if (a.h0) h.initial = half ? h0 : static_cast<const T*>(a.h0) + d * n.B * n.P;
    if (s > 0) h.before = h_rows(d, s - 1);
  }
  return previous_state(rows, n.T, d, t, g, h, list, zero);
}

template <class T>
ForwardStep<T> Forward<T>::step_of(Own& o, int d, int g, int64_t s, int64_t s0) const {
  const int64_t t = time(d, s), before = d == 0 ? t - 1 : t + 1;
  const int32_t* order = rows.order();
  ForwardStep<T> f = {};
  f.H = n.H;
  f.storage = project ? DType::f32 : a.dtype;
  f.h_bias = h_bias;
  bool zero;
  if (ops.reads_h_prev) f.h_prev = h_before(d, g, s, false, o.h_prev, &zero);
  if (ops.has_cell) {
    const T* c_init = !a.c0 ? nullptr : half ? c0 : static_cast<const T*>(a.c0) + d * n.B * n.H;
    const StateSource<T> c = {c_init, s > 0 ? c_rows(d, before) : nullptr, c_order(), n.H, n.H, zeros};
    f.c_prev = previous_state(rows, n.T, d, t, g, c, o.c_prev, &zero);
    f.c = {c_rows(d, t), n.H, c_order(), nullptr};
  }
  if (project)
    f.h = {hidden_rows(d, t), n.H, hidden_order(), nullptr};
  else
    f.h = {h_rows(d, s), h_ld(), order, nullptr};
  if (a.gates)
    f.saved = {static_cast<T*>(a.gates) + rows.saved_at(d, t) * S * n.H, S * n.H, rows.saved_order(), nullptr};
  if (by_table) {
    for (int64_t r = rows.begin(g); r < rows.begin(g) + rows.active(g, t); r++)
      o.x_row[r] = table + a.ids[rows.at(t) + rows.row(r)] * x_width;
    f.x = {nullptr, 0, nullptr, o.x_row};
  } else {
    f.x = {x_part + (s - s0) * n.B * x_width, x_width, nullptr, nullptr};
  }
  return f;
}

template <class T>
void Forward<T>::step(Own& o, int d, int g, Range units, int64_t s, int64_t s0) {
  const int64_t t = time(d, s), first = rows.begin(g), count = rows.active(g, t);
  if (count == 0) return;
  bool zero;
  const RowView<const T> left = h_before(d, g, s, true, o.left, &zero);
  const int64_t K = zero ? 0 : KP;
  if (split.parts > 1) prefetch_rows(left, first, count, K);
  const ForwardStep<T> f = step_of(o, d, g, s, s0);
  for (int64_t i = units.begin; i < units.end; i++) {
    // To and fro over the panels: the ones used last are still in the cache.
    const Panel q = panels.at(s & 1 ? units.begin + units.end - 1 - i : i);
    const int64_t j = q.block * L, column = j * G, width = q.blocks * L * int64_t(sizeof(T));
    multiply_panel(
        tile, left, first, count, packed_hh + column * KP, q.blocks * G, layout.columns, K, o.wait,
        [&](int64_t r0, int m) __attribute__((always_inline)) {
          for (int64_t r = r0; ahead && r < r0 + m; r++) {
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

template <class T>
void Forward<T>::narrow(int d, int g, int64_t s, int64_t j, int64_t width) {
  const int64_t t = time(d, s), first = rows.begin(g);
  for (int64_t r = first; r < first + rows.active(g, t); r++) {
    const int64_t b = rows.row(r);
    if constexpr (sizeof(T) == 4)
      from_float(a.dtype, h_rows(d, s) + b * n.P + j, element(a.y, ((rows.at(t) + b) * n.D + d) * n.P + j, a.dtype),
                 width);
  }
}

template <class T>
void Forward<T>::project_output(Own& o, int d, int g, Range outs, int64_t s) {
  const int64_t t = time(d, s), first = rows.begin(g), count = rows.active(g, t);
  const RowView<const T> hidden = {hidden_rows(d, t), n.H, hidden_order(), nullptr};
  const RowView<T> h = {h_rows(d, s), h_ld(), rows.order(), nullptr};
  for (int64_t i = outs.begin; i < outs.end; i++) {
    const Panel q = out_panels.at(i);
    const int64_t j = q.block * L, width = min64(q.blocks * L, n.P - j);
    multiply_panel(
        tiles<T>(), hidden, first, count, packed_hr + j * n.H, q.blocks, kMaxColumns, n.H, o.wait,
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

template <class T>
void Forward<T>::finish(int d, int i, int m) {
  const Range q = share(n.B, i, m);
  const int64_t bytes = n.P * size_of(a.dtype), c_bytes = n.H * size_of(a.dtype);
  for (int64_t r = q.begin; r < q.end; r++) {
    const int64_t b = rows.row(r), length = rows.length(b), t = d == 0 ? length - 1 : 0;
    char* h = element(a.h_n, (d * n.B + b) * n.P, a.dtype);
    copy_or_zero(h, length > 0 ? element(a.y, ((rows.at(t) + b) * n.D + d) * n.P, a.dtype) : initial(a.h0, d, b, n.P),
                 bytes);
    if (a.c_n) {
      char* c = element(a.c_n, (d * n.B + b) * n.H, a.dtype);
      const auto last_c = [&] { return RowView<const T>{c_rows(d, t), n.H, c_order(), nullptr}.at(r); };
      if (length == 0)
        copy_or_zero(c, initial(a.c0, d, b, n.H), c_bytes);
      else if (half)
        narrow_row(last_c(), c, n.H);
      else
        __builtin_memcpy(c, last_c(), c_bytes);
    }
    for (int64_t u = length; rows.padded() && u < n.T; u++)
      __builtin_memset(element(a.y, ((rows.at(u) + b) * n.D + d) * n.P, a.dtype), 0, bytes);
  }
}

template <class T>
void Forward<T>::run_group(Own& o, int d, int g) {
  for (int64_t s0 = 0; s0 < n.T; s0 += chunk_steps) {
    const int64_t s1 = min64(n.T, s0 + chunk_steps);
    if (x_chunk) widen_x(d, g, {s0, s1}, s0);
    project_input(o, d, g, units_of(0), s0, s1);
    for (int64_t s = s0; s < s1; s++) {
      step(o, d, g, units_of(0), s, s0);
      if (project) project_output(o, d, g, outs_of(0), s);
    }
  }
}

template <class T>
void Forward<T>::chunk_by_parts(Member& m, int d, int64_t s0, int64_t s1) {
  Own& o = own[m.rank()];
  if (x_chunk && m.enter()) {
    const Range q = share(s1 - s0, m.rank(), m.size());
    for (int g = 0; g < split.groups; g++) widen_x(d, g, {s0 + q.begin, s0 + q.end}, s0);
    m.leave();
  }
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

template <class T>
void Forward<T>::run(Member& m) {
  for (int d = 0; d < n.D; d++) {
    if (half && !packed && m.enter()) {
      widen(d, m.rank(), m.size());
      m.leave();
    }
    if (!packed && m.enter()) {
      pack(d, m.rank(), m.size());
      m.leave();
    }
    if (by_table && !packed && m.enter()) {
      fill_table(d, m.rank(), m.size());
      m.leave();
    }
    if (split.parts == 1)
      m.share_out(split.groups, [&](int rank, int64_t g) { run_group(own[rank], d, int(g)); });
    else
      for (int64_t s0 = 0; s0 < n.T; s0 += chunk_steps) chunk_by_parts(m, d, s0, min64(n.T, s0 + chunk_steps));
    if (m.enter()) {
      finish(d, m.rank(), m.size());
      m.leave();
    }
  }
}

template <class T>
struct Call {
  const ForwardArgs& args;
  const Threads& threads;
  Split split;
  bool packed = false;
  static void use(void* self, char* block) {
    const Call& c = *static_cast<Call*>(self);
    Arena arena(block);
    Forward<T> layer(c.args, c.split, arena);
    layer.rows.fill();
    layer.packed = c.packed;
    const int limit = useful_threads(layer.n, layer.G, ceil_div(layer.n.H, kLanes<T>), sizeof(T), c.split);
    run_team(c.threads, limit, Forward<T>::work, &layer);
  }
};

template <class T>
Call<T> call_of(const ForwardArgs& a, const Threads& threads) {
  const int limit = threads.count < kMaxTeam ? threads.count : kMaxTeam;
  return {a, threads, choose_split(a.n, cell_ops<T>(a.cell).G, ceil_div(a.n.H, kLanes<T>), sizeof(T), limit)};
}

template <class T>
size_t bytes_of(const Call<T>& call) {
  Arena measure(nullptr);
  Forward<T> sizes(call.args, call.split, measure);
  return measure.used();
}

template <class T>
void run_forward(const ForwardArgs& a, const Threads& threads) {
  Call<T> call = call_of<T>(a, threads);
  with_scratch(bytes_of(call), Call<T>::use, &call);
}

template <class T>
void run_again(const ForwardArgs& a, const Threads& threads, char* block, bool packed) {
  Call<T> call = call_of<T>(a, threads);
  call.packed = packed;
  Call<T>::use(&call, block);
}

}  // namespace

void forward(const ForwardArgs& a, const Threads& threads) {
  a.dtype == DType::f64 ? run_forward<double>(a, threads) : run_forward<float>(a, threads);
}

size_t forward_bytes(const ForwardArgs& a, const Threads& threads) {
  return a.dtype == DType::f64 ? bytes_of(call_of<double>(a, threads)) : bytes_of(call_of<float>(a, threads));
}

void forward_again(const ForwardArgs& a, const Threads& threads, char* block, bool packed) {
  a.dtype == DType::f64 ? run_again<double>(a, threads, block, packed) : run_again<float>(a, threads, block, packed);
}

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
