// Step family, backward through time. See step.h. `step` counts down from T-1, so direction 0 walks t downwards and
// direction 1 upwards; "the step handled before" is the one that consumed this step's state.
#include "cell_table.h"
#include "step.h"

namespace fusedrnn::cuda {
namespace {

// What a state's gradient receives from the step that consumed the state of step t: nothing across a reset. Only for
// steps that are not the row's last.
template <class T>
__device__ __forceinline__ bool consumed(const StepBackward<T>& s, int d, int64_t t, int64_t b, int64_t length) {
  return !s.rows.cut(d, d ? t - 1 : t + 1, b, length);
}

// d h_t of unit p: from the output, from h_n at the last step, else from the step handled before. `direct` is the carry
// of cells that read h_{t-1} unit by unit, or null.
template <class T>
__device__ __forceinline__ Acc<T> incoming(const StepBackward<T>& s, int d, int64_t t, int64_t b, int64_t p,
                                           int64_t length, const Acc<T>* direct) {
  const Dims& n = s.n;
  const int64_t i = (d * n.B + b) * n.P + p;
  Acc<T> dh = s.dy ? widen(s.dy[(t * n.B + b) * n.D * n.P + d * n.P + p]) : Acc<T>(0);
  if (t == Rows::last(d, length)) return s.dhn ? dh + widen(s.dhn[i]) : dh;
  if (consumed(s, d, t, b, length)) dh += direct ? s.drec[i] + direct[i] : s.drec[i];
  return dh;
}

// True once per row of direction 1: the step just past its end, where drec and carry hold the gradient of its initial
// state and the next product is about to overwrite it.
__device__ __forceinline__ bool leaves_row(int d, int64_t t, int64_t length) {
  return d == 1 && t == length && length > 0;
}

// One step: dh -> gradients of the gates of unit j of row b, and the carry. One thread per (direction, row, unit).
template <class Cell, class T>
__global__ void __launch_bounds__(kThreads) cell_step(StepBackward<T> s) {
  using A = Acc<T>;
  const Dims& n = s.n;
  const auto [inside, d, b, j, length, t] = StepPlace(s, n.H);
  if (!inside) return;
  const int64_t row = (d * n.T + t) * n.B + b, unit = (d * n.B + b) * n.H + j;
  const bool projects = s.dprojected != nullptr;
  const A* direct = Cell::reads_h_prev ? s.carry : nullptr;
  T* out = s.dgates + row * Cell::N * n.H + j;
  if (t >= length) {
    for (int g = 0; g < Cell::N; g++) out[g * n.H] = narrow<T>(0);
    if (leaves_row(d, t, length)) {
      if (s.dh0 && !projects) s.dh0[unit] = narrow<T>(direct ? s.drec[unit] + direct[unit] : s.drec[unit]);
      if (s.dc0 && Cell::has_cell) s.dc0[unit] = narrow<T>(s.carry[unit]);
    }
    return;
  }
  const A dh = projects ? s.dprojected[unit] : incoming(s, d, t, b, j, length, direct);
  const bool is_first = t == Rows::first(d, length), is_last = t == Rows::last(d, length);
  const bool dropped = s.rows.cut(d, t, b, length);
  const int64_t t_prev = d ? t + 1 : t - 1;
  A saved[Cell::S ? Cell::S : 1], h = A(0), h_prev = A(0), c = A(0), c_prev = A(0), dc = A(0);
#pragma unroll
  for (int g = 0; g < Cell::S; g++) saved[g] = widen(s.gates[(row * Cell::S + g) * n.H + j]);
  if (Cell::S == 0) h = widen(s.y[(t * n.B + b) * n.D * n.P + d * n.P + j]);
  if (Cell::reads_h_prev && !dropped) {
    if (!is_first)
      h_prev = widen(s.y[(t_prev * n.B + b) * n.D * n.P + d * n.P + j]);
    else if (s.h0)
      h_prev = widen(s.h0[unit]);
  }
  if (Cell::has_cell) {
    c = s.cells[row * n.H + j];
    if (!dropped && !is_first) c_prev = s.cells[((d * n.T + t_prev) * n.B + b) * n.H + j];
    if (!dropped && is_first && s.c0) c_prev = widen(s.c0[unit]);
    if (is_last)
      dc = s.dcn ? widen(s.dcn[unit]) : A(0);
    else if (consumed(s, d, t, b, length))
      dc = s.carry[unit];
  }
  A dh_prev = A(0), grad[Cell::N];
  Cell::backward(saved, h, h_prev, c, c_prev, dh, dc, dh_prev, grad);
  if (Cell::has_cell) s.carry[unit] = dc;
  if (Cell::reads_h_prev) s.carry[unit] = dh_prev;
#pragma unroll
  for (int g = 0; g < Cell::N; g++) out[g * n.H] = narrow<T>(grad[g]);
}

// With projection, before cell_step: d h_t, the operand of the product with W_hr. One thread per (direction, row, p).
template <class T>
__global__ void __launch_bounds__(kThreads) hidden_step(StepBackward<T> s) {
  const Dims& n = s.n;
  const auto [inside, d, b, p, length, t] = StepPlace(s, n.P);
  if (!inside) return;
  const int64_t i = (d * n.B + b) * n.P + p;
  Acc<T> dh = 0;
  if (t < length) dh = incoming(s, d, t, b, p, length, static_cast<const Acc<T>*>(nullptr));
  if (leaves_row(d, t, length) && s.dh0) s.dh0[i] = narrow<T>(s.drec[i]);
  s.dhidden[((d * n.T + t) * n.B + b) * n.P + p] = narrow<T>(dh);
}

// After the last step: the gradients of the initial states that leaves_row has not written. One thread per (direction,
// row, max(H, P) column).
template <class T>
__global__ void finish(StepBackward<T> s, bool carry_h) {
  const Dims& n = s.n;
  const int64_t width = n.H > n.P ? n.H : n.P;
  const auto [inside, d, b, j, length, t] = StepPlace(s, width);
  if (!inside) return;
  if (d == 1 && length > 0 && length < n.T) return;
  const bool dropped = length > 0 && s.rows.cut(d, Rows::first(d, length), b, length);
  const T zero = narrow<T>(0);
  if (j < n.P && s.dh0) {
    const int64_t i = (d * n.B + b) * n.P + j;
    T v = zero;
    if (length == 0)
      v = s.dhn ? s.dhn[i] : zero;
    else if (!dropped)
      v = narrow<T>(carry_h ? s.drec[i] + s.carry[i] : s.drec[i]);
    s.dh0[i] = v;
  }
  if (j < n.H && s.dc0) {
    const int64_t i = (d * n.B + b) * n.H + j;
    T v = zero;
    if (length == 0)
      v = s.dcn ? s.dcn[i] : zero;
    else if (!dropped)
      v = narrow<T>(s.carry[i]);
    s.dc0[i] = v;
  }
}

template <class Cell, class T>
void run(const RecurrenceGrad& r, const Runtime& rt) {
  using A = Acc<T>;
  const BackwardArgs& b = r.b;
  const ForwardArgs& a = b.f;
  const Dims& n = a.n;
  const DType acc = acc_of(a.dtype);
  const bool projects = a.w[0].hr != nullptr;
  const int64_t GH = Cell::G * n.H, NH = Cell::N * n.H;
  StepBackward<T> s{};
  s.rows = Rows::of(a);
  s.n = n;
  s.dy = static_cast<const T*>(b.dy);
  s.dhn = static_cast<const T*>(b.dhn);
  s.dcn = static_cast<const T*>(b.dcn);
  s.y = static_cast<const T*>(a.y);
  s.h0 = static_cast<const T*>(a.h0);
  s.c0 = static_cast<const T*>(a.c0);
  s.gates = static_cast<const T*>(a.gates);
  s.cells = static_cast<const A*>(a.cells);
  s.hidden = static_cast<const A*>(a.hidden);
  s.dgates = static_cast<T*>(r.dgates);
  s.dhidden = static_cast<T*>(r.dhidden);
  s.dh0 = static_cast<T*>(b.dh0);
  s.dc0 = Cell::has_cell ? static_cast<T*>(b.dc0) : nullptr;
  A* drec = rt.take<A>(n.D * n.B * n.P);
  s.drec = drec;
  if (Cell::has_cell || Cell::reads_h_prev) s.carry = rt.take<A>(n.D * n.B * n.H);
  A* dprojected = projects ? rt.take<A>(n.D * n.B * n.H) : nullptr;
  s.dprojected = dprojected;
  const PackedWeights w = pack_weights(a, GH, rt);
  const Run h_side = h_run(a.cell);
  if (!h_side.in_order(Cell::G)) throw std::runtime_error("fusedrnn: expected the h side's gradients in gate order");
  const unsigned D = static_cast<unsigned>(n.D);
  for (int64_t step = n.T - 1; step >= 0; step--) {
    s.step = step;
    // Rows of direction 0 at t = step, of direction 1 at t = T-1-step; the distance between the two operands.
    const int64_t row = step * n.B, apart = n.T * n.B + (n.T - 1 - 2 * step) * n.B;
    if (projects) {
      launch("step backward hidden", hidden_step<T>, per_element(n.B * n.P, D), kThreads, 0, rt.stream, s);
      rt.gemm(rt.ctx, Product{false, false, n.B, n.H, n.P, s.dhidden + row * n.P, n.P, apart * n.P, w.hr, n.H,
                              w.stride_hr, dprojected, n.H, n.B * n.H, n.D, a.dtype, acc, 0});
    }
    launch("step backward", cell_step<Cell, T>, per_element(n.B * n.H, D), kThreads, 0, rt.stream, s);
    if (step == 0 && !b.dh0) break;
    rt.gemm(rt.ctx, Product{false, false, n.B, n.P, GH, s.dgates + row * NH + h_side.first * n.H, NH, apart * NH, w.hh,
                            n.P, w.stride_hh, drec, n.P, n.B * n.P, n.D, a.dtype, acc, 0});
  }
  launch("step finish", finish<T>, per_element(n.B * (n.H > n.P ? n.H : n.P), D), kThreads, 0, rt.stream, s,
         Cell::reads_h_prev);
}

}  // namespace

Launch step_backward(const Plan&, const RecurrenceGrad& r, const Runtime& rt) {
  with_cell(r.b.f.cell,
            [&](auto cell) { with_type(r.b.f.dtype, [&](auto type) { run<decltype(cell), decltype(type)>(r, rt); }); });
  return Launch::done;
}

}  // namespace fusedrnn::cuda
