// Step family, forward. See step.h.
#include "cell_table.h"
#include "step.h"

namespace fusedrnn::cuda {
namespace {

// The state before the first step: state = h0 (zero where a reset drops it), carry = c0 or h0. Rows without a step get
// their final state here. One thread per (direction, row, max(H, P) column).
template <class T>
__global__ void start(StepForward<T> s, bool carry_h) {
  const Dims& n = s.n;
  const int64_t width = n.H > n.P ? n.H : n.P;
  const auto [inside, d, b, j, length, t] = StepPlace(s, width);
  if (!inside) return;
  const bool dropped = length > 0 && s.rows.cut(d, Rows::first(d, length), b, length);
  const T zero = narrow<T>(0);
  if (j < n.P) {
    const int64_t p = (d * n.B + b) * n.P + j;
    const T h0 = s.h0 ? s.h0[p] : zero;
    s.state[p] = dropped ? zero : h0;
    if (carry_h) s.carry[p] = widen(h0);
    if (length == 0) s.h_n[p] = h0;
  }
  if (s.c_n && j < n.H) {
    const int64_t u = (d * n.B + b) * n.H + j;
    const T c0 = s.c0 ? s.c0[u] : zero;
    s.carry[u] = widen(c0);
    if (length == 0) s.c_n[u] = c0;
  }
}

// Publishes h_t of one unit: the output, the next product's operand and, at the last valid step, h_n.
template <class T>
__device__ __forceinline__ void publish(const StepForward<T>& s, int d, int64_t t, int64_t b, int64_t p, int64_t length,
                                        T h) {
  const Dims& n = s.n;
  const int64_t i = (d * n.B + b) * n.P + p;
  s.y[(t * n.B + b) * n.D * n.P + d * n.P + p] = h;
  s.state[i] = s.rows.cut(d, d ? t - 1 : t + 1, b, length) ? narrow<T>(0) : h;
  if (t == Rows::last(d, length)) s.h_n[i] = h;
}

// One step: gates from gx + rec + biases, the cell, and all outputs of unit j of row b. One thread per (direction, row,
// unit). gates may be the memory of gx: each thread reads its unit's columns before it writes them.
template <class Cell, class T>
__global__ void __launch_bounds__(kThreads) cell_step(StepForward<T> s) {
  using A = Acc<T>;
  const Dims& n = s.n;
  const auto [inside, d, b, j, length, t] = StepPlace(s, n.H);
  if (!inside) return;
  const int64_t row = (d * n.T + t) * n.B + b, unit = (d * n.B + b) * n.H + j;
  if (t >= length) {
    if (!s.hidden_t) s.y[(t * n.B + b) * n.D * n.P + d * n.P + j] = narrow<T>(0);
    if (s.hidden) s.hidden[row * n.H + j] = 0;  // a factor of dW_hr, whose other factor is zero here
    return;
  }
  const T* gx = s.gx + row * s.gx_ld + j;
  A x[Cell::G], a[Cell::G];
#pragma unroll
  for (int g = 0; g < Cell::G; g++) {
    x[g] = widen(gx[g * n.H]);
    a[g] = s.rec ? s.rec[((d * n.B + b) * Cell::G + g) * n.H + j] : A(0);
    if (s.b_ih[d]) {
      x[g] += widen(s.b_ih[d][g * n.H + j]);
      a[g] += widen(s.b_hh[d][g * n.H + j]);
    }
  }
  A before = A(0);
  if ((Cell::has_cell || Cell::reads_h_prev) && !s.rows.cut(d, t, b, length)) before = s.carry[unit];
  A h, c = A(0), saved[Cell::S ? Cell::S : 1];
  Cell::forward(x, a, before, before, h, c, saved);
  if (Cell::has_cell) {
    s.carry[unit] = c;
    if (t == Rows::last(d, length)) s.c_n[unit] = narrow<T>(c);
    if (s.cells) s.cells[row * n.H + j] = c;
  }
  if (Cell::reads_h_prev) s.carry[unit] = h;
  if (s.gates) {
    T* out = s.gates + row * Cell::S * n.H + j;
#pragma unroll
    for (int g = 0; g < Cell::S; g++) out[g * n.H] = narrow<T>(saved[g]);
  }
  if (s.hidden_t) {
    s.hidden_t[unit] = narrow<T>(h);
    if (s.hidden) s.hidden[row * n.H + j] = h;
  } else {
    publish(s, d, t, b, j, length, narrow<T>(h));
  }
}

// After the projection of a step. One thread per (direction, row, projected unit).
template <class T>
__global__ void __launch_bounds__(kThreads) projected_step(StepForward<T> s) {
  const Dims& n = s.n;
  const auto [inside, d, b, p, length, t] = StepPlace(s, n.P);
  if (!inside) return;
  if (t >= length) {
    s.y[(t * n.B + b) * n.D * n.P + d * n.P + p] = narrow<T>(0);
    return;
  }
  publish(s, d, t, b, p, length, narrow<T>(s.projected[(d * n.B + b) * n.P + p]));
}

template <class Cell, class T>
void run(const Recurrence& r, const Runtime& rt) {
  using A = Acc<T>;
  const ForwardArgs& a = r.a;
  const Dims& n = a.n;
  const DType acc = acc_of(a.dtype);
  const bool projects = a.w[0].hr != nullptr;
  const int64_t GH = Cell::G * n.H;
  StepForward<T> s{};
  s.rows = Rows::of(a);
  s.n = n;
  s.gx = static_cast<const T*>(r.gx);
  s.gx_ld = r.gx_ld;
  s.h0 = static_cast<const T*>(a.h0);
  s.c0 = static_cast<const T*>(a.c0);
  s.y = static_cast<T*>(a.y);
  s.h_n = static_cast<T*>(a.h_n);
  s.c_n = Cell::has_cell ? static_cast<T*>(a.c_n) : nullptr;
  s.gates = Cell::S ? static_cast<T*>(a.gates) : nullptr;
  s.cells = static_cast<A*>(a.cells);
  s.hidden = static_cast<A*>(a.hidden);
  for (int d = 0; d < n.D; d++) {
    s.b_ih[d] = static_cast<const T*>(a.w[d].b_ih);
    s.b_hh[d] = static_cast<const T*>(a.w[d].b_hh);
  }
  s.state = rt.take<T>(n.D * n.B * n.P);
  if (Cell::has_cell || Cell::reads_h_prev) s.carry = rt.take<A>(n.D * n.B * n.H);
  A* rec = rt.take<A>(n.D * n.B * GH);
  A* projected = nullptr;
  if (projects) {
    s.hidden_t = rt.take<T>(n.D * n.B * n.H);
    s.projected = projected = rt.take<A>(n.D * n.B * n.P);
  }
  const PackedWeights w = pack_weights(a, GH, rt);
  const Product recur{false, true,        n.B, GH, n.P,      s.state, n.P,     n.B * n.P, w.hh,
                      n.P,   w.stride_hh, rec, GH, n.B * GH, n.D,     a.dtype, acc,       0};
  const Product project{false, true,        n.B,       n.P, n.H,       s.hidden_t, n.H,     n.B * n.H, w.hr,
                        n.H,   w.stride_hr, projected, n.P, n.B * n.P, n.D,        a.dtype, acc,       0};
  const unsigned D = static_cast<unsigned>(n.D);
  launch("step start", start<T>, per_element(n.B * (n.H > n.P ? n.H : n.P), D), kThreads, 0, rt.stream, s,
         Cell::reads_h_prev);
  for (int64_t step = 0; step < n.T; step++) {
    s.step = step;
    s.rec = step > 0 || a.h0 ? rec : nullptr;
    if (s.rec) rt.gemm(rt.ctx, recur);
    launch("step forward", cell_step<Cell, T>, per_element(n.B * n.H, D), kThreads, 0, rt.stream, s);
    if (!projects) continue;
    rt.gemm(rt.ctx, project);
    launch("step project", projected_step<T>, per_element(n.B * n.P, D), kThreads, 0, rt.stream, s);
  }
}

}  // namespace

Launch step_forward(const Plan&, const Recurrence& r, const Runtime& rt) {
  with_cell(r.a.cell,
            [&](auto cell) { with_type(r.a.dtype, [&](auto type) { run<decltype(cell), decltype(type)>(r, rt); }); });
  return Launch::done;
}

}  // namespace fusedrnn::cuda
