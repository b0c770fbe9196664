// Backpropagation through time over any cell. See layer.h for the contract of the arguments.
//
// Per direction, steps are walked from the last to the first, in chunks. A step multiplies the gate gradients of the
// following step by W_hh^T and each tile of sums goes straight into the cell's maths, which writes this step's gate
// gradients to a ring in scratch: saved buffers are only read. After a chunk its gate gradients, still in cache, give
// dx, dW and the bias gradients. The sums over rows run chunk by chunk from the last step to the first and upwards in a
// chunk.
//
// With a projection a step has two halves: dh_t = (gate gradients of t+1) W_hh^T + dy_t, then dh_t W_hr into the cell.
#include "backward_setup.h"
#include "backward_steps.h"
#include "backward_sums.h"
#include "entry.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

template <class T>
template <class F>
FUSEDRNN_INLINE void Backward<T>::own_cells(const Member& m, F&& f) {
  const Range r = share(split.threads(), m.rank(), m.size());
  for (int64_t i = r.begin; i < r.end; i++) f(int(i / split.parts), int(i % split.parts));
}

template <class T>
int64_t Backward<T>::chunk_begin(int d, Range groups, int64_t s1) const {
  if (!a.lengths) return max64(0, s1 - 1) / chunk_steps * chunk_steps;
  int64_t s = s1 - 1, count = active(groups, time(d, s));
  while (s > 0 && s1 - s < chunk_steps && count + active(groups, time(d, s - 1)) <= chunk_rows)
    count += active(groups, time(d, --s));
  return s;
}

template <class T>
void Backward<T>::finish(int d, int i, int m) {
  const Range r = share(n.B, i, m);
  for (int64_t p = r.begin; p < r.end; p++) {
    const int64_t row = rows.row(p), length = rows.length(row);
    if (b.dh0) finish_dh0(d, row, length);
    if (b.dc0) finish_dc0(d, p, row, length);
    if (b.dx && d == 0 && rows.padded())
      for (int64_t t = length; t < n.T; t++)
        __builtin_memset(element(b.dx, (rows.at(t) + row) * n.I, a.dtype), 0, n.I * size_of(a.dtype));
  }
}

template <class T>
void Backward<T>::finish_dh0(int d, int64_t row, int64_t length) {
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

template <class T>
void Backward<T>::finish_dc0(int d, int64_t p, int64_t row, int64_t length) {
  const int64_t at = (d * n.B + row) * n.H;
  if (length > 0 && d == 0 && rows.cut(0, 0, row))
    __builtin_memset(element(b.dc0, at, a.dtype), 0, n.H * size_of(a.dtype));
  else if (half)
    narrow_row(carry_c + p * n.H, b.dc0, at, n.H);
  else
    __builtin_memcpy(static_cast<T*>(b.dc0) + at, carry_c + p * n.H, n.H * sizeof(T));
}

template <class T>
void Backward<T>::narrow_grads(int d, int i, int m) {
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

template <class T>
void Backward<T>::steps_of_group(Own& o, int d, int g, int64_t s0, int64_t s1) {
  for (int64_t s = s1 - 1; s >= s0; s--) {
    if (project) output_step(o, d, g, 0, s, s0);
    step(o, d, g, 0, s, s0);
    if (b.dh0) finish_step(o, d, g, 0, s);
  }
}

template <class T>
void Backward<T>::run_group(Own& o, int d, int g) {
  Chunk c = {groups_of(g), 0, n.T, 0, 0, false};
  for (; c.s1 > 0; c.s1 = c.s0, c.add = true) {
    c.s0 = chunk_begin(d, c.groups, c.s1);
    if (half) widen_chunk(d, c.groups, {c.s0, c.s1}, c.s0);
    steps_of_group(o, d, g, c.s0, c.s1);
    list_rows(o, d, c);
    weight_grads(o, d, c, 0, 1);
    if (b.dx) input_grad(o, d, c, 0, 1);
  }
}

template <class T>
void Backward<T>::steps_by_parts(Member& m, int d, int64_t s0, int64_t s1) {
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

template <class T>
void Backward<T>::sums(Member& m, int d, int64_t s0, int64_t s1, bool add) {
  if (!m.enter()) return;
  Own& o = own[m.rank()];
  Chunk c = {groups_of(0), s0, s1, 0, 0, add};
  list_rows(o, d, c);
  // Shares of the planned number of threads, not of those that came: the tiles and so the bits must not depend on that.
  const Range cells = share(split.threads(), m.rank(), m.size());
  for (int64_t i = cells.begin; i < cells.end; i++) {
    weight_grads(o, d, c, i, split.threads());
    if (b.dx) input_grad(o, d, c, i, split.threads());
  }
  m.leave();
}

template <class T>
void Backward<T>::run_chunks(Member& m, int d) {
  for (int64_t s1 = n.T; s1 > 0;) {
    const int64_t s0 = chunk_begin(d, groups_of(0), s1);
    if (half && m.enter()) {
      const Range q = share(s1 - s0, m.rank(), m.size());
      widen_chunk(d, groups_of(0), {s0 + q.begin, s0 + q.end}, s0);
      m.leave();
    }
    if (split.parts > 1) {
      steps_by_parts(m, d, s0, s1);
    } else if (m.enter()) {
      own_cells(m, [&](int g, int) { steps_of_group(own[m.rank()], d, g, s0, s1); });
      m.leave();
    }
    sums(m, d, s0, s1, s1 < n.T);
    s1 = s0;
  }
}

template <class T>
void Backward<T>::run(Member& m) {
  for (int d = 0; d < n.D; d++) {
    if (half && m.enter()) {
      widen(d, m.rank(), m.size());
      m.leave();
    }
    if (m.enter()) {
      pack(d, m.rank(), m.size());
      m.leave();
    }
    if (by_group)
      m.share_out(split.groups, [&](int rank, int64_t g) { run_group(own[rank], d, int(g)); });
    else
      run_chunks(m, d);
    if (by_group && split.groups > 1 && m.enter()) {
      add_groups(d, m.rank(), m.size());
      m.leave();
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
    const int limit = useful_threads(layer.n, layer.G, ceil_div(layer.n.H, kLanes<T>), sizeof(T), c.split);
    run_team(c.threads, limit, Backward<T>::work, &layer);
  }
};

template <class T>
void run_backward(const BackwardArgs& b, const Threads& threads) {
  const CellOps<T>& ops = cell_ops<T>(b.f.cell);
  const int limit = threads.count < kMaxTeam ? threads.count : kMaxTeam;
  Call<T> call = {b, threads, choose_split(b.f.n, ops.G, ceil_div(b.f.n.H, kLanes<T>), sizeof(T), limit)};
  Arena measure(nullptr);
  {
    Backward<T> sizes(b, call.split, measure);
  }
  with_scratch(measure.used(), Call<T>::use, &call);
}

}  // namespace

void backward(const BackwardArgs& b, const Threads& threads) {
  b.f.dtype == DType::f64 ? run_backward<double>(b, threads) : run_backward<float>(b, threads);
}

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
