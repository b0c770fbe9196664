// One layer on the device: the plan, what is common to all families, and the fallback. See family.h.
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "layer_kernels.h"

namespace fusedrnn::cuda {
namespace {

struct Sizes {
  int64_t G, S, N, GH, NH, rows;  // rows = T*B
};
Sizes sizes_of(const ForwardArgs& a) {
  const cells::CellInfo& c = cells::kCells[a.cell];
  return {c.G, c.S, c.N, c.G * a.n.H, c.N * a.n.H, a.n.T * a.n.B};
}

void say_refused_once(Family f) {
  static std::atomic<bool> said{false};
  if (said.exchange(true)) return;
  std::fprintf(stderr,
               "fusedrnn: the device refused a launch of the %s family (occupancy, or another process); "
               "the step family runs instead, with the same results but slower\n",
               name(f));
}

Launch forward_with(const Plan& plan, const Recurrence& r, const Runtime& rt) {
  switch (plan.family) {
    case Family::block:
      return block_forward(plan, r, rt);
    case Family::cluster:
      return cluster_forward(plan, r, rt);
    case Family::fma:
      return fma_forward(plan, r, rt);
    case Family::grid:
      return grid_forward(plan, r, rt);
    default:
      return step_forward(plan, r, rt);
  }
}

Launch backward_with(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt) {
  switch (plan.family) {
    case Family::block:
      return block_backward(plan, r, rt);
    case Family::cluster:
      return cluster_backward(plan, r, rt);
    case Family::fma:
      return fma_backward(plan, r, rt);
    case Family::grid:
      return grid_backward(plan, r, rt);
    default:
      return step_backward(plan, r, rt);
  }
}

// C [m, n] = A^T B over k rows; C is zero where there are no rows.
void outer(const ForwardArgs& a, int64_t m, int64_t n, int64_t k, const void* A, int64_t lda, const void* B,
           int64_t ldb, void* C, int64_t ldc, const Runtime& rt) {
  if (k == 0) {
    check(cudaMemsetAsync(C, 0, static_cast<size_t>(m * n) * size_of(a.dtype), rt.stream), "memset");
    return;
  }
  rt.gemm(rt.ctx, Product{true, false, m, n, k, A, lda, 0, B, ldb, 0, C, ldc, 0, 1, a.dtype, a.dtype, 0});
}

// dw [G*H, width] = (one side's gradients)^T B, where a side's gradients are a run of blocks whose gates are put in the
// weights' order. Adjacent gates share a product.
void weight_gradient(const ForwardArgs& a, const Sizes& z, const Run& side, const void* dgates, int64_t k,
                     const void* B, int64_t ldb, int64_t width, void* dw, const Runtime& rt) {
  for (int i = 0, many; i < z.G; i += many) {
    for (many = 1; i + many < z.G && side.gate[i + many] == side.gate[i] + many;) many++;
    outer(a, many * a.n.H, width, k, at(dgates, (side.first + i) * a.n.H, a.dtype), z.NH, B, ldb,
          at(dw, side.gate[i] * a.n.H * width, a.dtype), width, rt);
  }
}

// dW_hh of direction d: gradients times the state that entered each step. Where that state is plainly y one step
// before, y itself is the operand, one step shorter.
void recurrent_gradient(const BackwardArgs& b, const Sizes& z, int d, const void* dgates, const Runtime& rt) {
  const ForwardArgs& a = b.f;
  const Dims& n = a.n;
  const Run side = h_run(a.cell);
  if (!a.h0 && !a.resets) {
    const int64_t one = n.B, k = z.rows - n.B;
    weight_gradient(a, z, side, at(dgates, d ? 0 : one * z.NH, a.dtype), k,
                    at(static_cast<const void*>(a.y), (d ? one : 0) * n.D * n.P + d * n.P, a.dtype), n.D * n.P, n.P,
                    b.dw[d].hh, rt);
    return;
  }
  void* previous = rt.alloc(rt.ctx, static_cast<size_t>(z.rows * n.P) * size_of(a.dtype));
  previous_hidden(a, d, previous, rt);
  weight_gradient(a, z, side, dgates, z.rows, previous, n.P, n.P, b.dw[d].hh, rt);
}

// dx (+)= x side of dgates times W_ih, whose row blocks are put in the gradients' order where that differs.
void input_gradient(const BackwardArgs& b, const Sizes& z, int d, const void* dgates, const Runtime& rt) {
  const ForwardArgs& a = b.f;
  const Dims& n = a.n;
  const Run side = x_run(a.cell);
  const void* w = a.w[d].ih;
  if (!side.in_order(static_cast<int>(z.G))) {
    const int64_t block = n.H * n.I;
    void* sorted = rt.alloc(rt.ctx, static_cast<size_t>(z.G * block) * size_of(a.dtype));
    for (int i = 0; i < z.G; i++)
      check(cudaMemcpyAsync(at(sorted, i * block, a.dtype), at(w, side.gate[i] * block, a.dtype),
                            static_cast<size_t>(block) * size_of(a.dtype), cudaMemcpyDeviceToDevice, rt.stream),
            "weight copy");
    w = sorted;
  }
  rt.gemm(rt.ctx, Product{false, false, z.rows, n.I, z.GH, at(dgates, side.first * n.H, a.dtype), z.NH, 0, w, n.I, 0,
                          b.dx, n.I, 0, 1, a.dtype, a.dtype, d ? 1.0 : 0.0});
}

// dW_hr [P, H] = dhidden^T (h before the projection).
void projection_gradient(const BackwardArgs& b, const Sizes& z, int d, const void* dhidden, const Runtime& rt) {
  const ForwardArgs& a = b.f;
  const Dims& n = a.n;
  const DType acc = acc_of(a.dtype);
  const void* hidden = at(static_cast<const void*>(a.hidden), d * z.rows * n.H, acc);
  if (acc != a.dtype) {
    void* rounded = rt.alloc(rt.ctx, static_cast<size_t>(z.rows * n.H) * size_of(a.dtype));
    round_to(a.dtype, hidden, rounded, z.rows * n.H, rt);
    hidden = rounded;
  }
  outer(a, n.P, n.H, z.rows, dhidden, n.P, hidden, n.H, b.dw[d].hr, n.H, rt);
}

// Without rows there is nothing to sum: the weights' gradients are zero and all else is empty.
void clear_gradients(const BackwardArgs& b, const Sizes& z, const Runtime& rt) {
  const ForwardArgs& a = b.f;
  for (int d = 0; d < a.n.D; d++) {
    auto clear = [&](void* p, int64_t count) {
      if (p) check(cudaMemsetAsync(p, 0, static_cast<size_t>(count) * size_of(a.dtype), rt.stream), "memset");
    };
    clear(b.dw[d].ih, z.GH * a.n.I);
    clear(b.dw[d].hh, z.GH * a.n.P);
    clear(b.dw[d].b_ih, z.GH);
    clear(b.dw[d].b_hh, z.GH);
    clear(b.dw[d].hr, a.n.P * a.n.H);
  }
}

}  // namespace

void layer_forward(const ForwardArgs& a, const Runtime& rt) {
  const Dims& n = a.n;
  if (n.B == 0) return;
  const Sizes z = sizes_of(a);
  // The projected inputs live where the gates will be saved; nothing is stored twice.
  Recurrence r{a, a.gates, z.S * n.H};
  if (!a.gates) {
    r.gx = rt.alloc(rt.ctx, static_cast<size_t>(n.D * z.rows * z.GH) * size_of(a.dtype));
    r.gx_ld = z.GH;
  }
  for (int d = 0; d < n.D; d++) {
    void* gx = at(r.gx, d * z.rows * r.gx_ld, a.dtype);
    if (a.ids)
      gather_ids(a, a.w[d].ih, z.GH, gx, r.gx_ld, rt);
    else
      rt.gemm(rt.ctx, Product{false, true, z.rows, z.GH, n.I, a.x, n.I, 0, a.w[d].ih, n.I, 0, gx, r.gx_ld, 0, 1,
                              a.dtype, a.dtype, 0});
  }
  const Plan plan = plan_forward(Problem::of(a), rt.device);
  if (forward_with(plan, r, rt) == Launch::done) return;
  say_refused_once(plan.family);
  step_forward(Plan{}, r, rt);
}

void layer_backward(const BackwardArgs& b, const Runtime& rt) {
  const ForwardArgs& a = b.f;
  const Dims& n = a.n;
  const Sizes z = sizes_of(a);
  if (n.B == 0) return clear_gradients(b, z, rt);
  RecurrenceGrad r{b, rt.alloc(rt.ctx, static_cast<size_t>(n.D * z.rows * z.NH) * size_of(a.dtype)), nullptr};
  if (a.w[0].hr) r.dhidden = rt.alloc(rt.ctx, static_cast<size_t>(n.D * z.rows * n.P) * size_of(a.dtype));
  const Plan plan = plan_backward(Problem::of(a), rt.device);
  if (backward_with(plan, r, rt) == Launch::refused) {
    say_refused_once(plan.family);
    step_backward(Plan{}, r, rt);
  }
  const void* x = a.x && a.lengths && b.dw[0].ih ? without_padding(a, rt) : a.x;
  for (int d = 0; d < n.D; d++) {
    const void* dgates = at(static_cast<const void*>(r.dgates), d * z.rows * z.NH, a.dtype);
    const WeightGrads& dw = b.dw[d];
    if (dw.ih && a.ids) scatter_ids(a, dgates, z.NH, x_run(a.cell), z.G, dw.ih, rt);
    if (dw.ih && x) weight_gradient(a, z, x_run(a.cell), dgates, z.rows, x, n.I, n.I, dw.ih, rt);
    if (dw.hh) recurrent_gradient(b, z, d, dgates, rt);
    if (dw.b_ih || dw.b_hh) sum_biases(a, dgates, z.N, z.G, x_run(a.cell), h_run(a.cell), dw.b_ih, dw.b_hh, rt);
    if (b.dx) input_gradient(b, z, d, dgates, rt);
    if (dw.hr) projection_gradient(b, z, d, at(static_cast<const void*>(r.dhidden), d * z.rows * n.P, a.dtype), rt);
  }
}

}  // namespace fusedrnn::cuda
