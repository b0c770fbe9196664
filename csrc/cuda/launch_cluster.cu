// Launches of the cluster family: packed weights, then one kernel for the whole sequence, all tiles and directions.
#include "cell_table.h"
#include "cluster_kernels.h"
#include "cluster_launch.h"

namespace fusedrnn::cuda {
namespace {

template <class T>
struct Matrices {
  const T* w[2];
};

// packed [D] from W_hh [G*H, H] of each direction; padding is zero. One thread per 16 bytes.
template <class T>
__global__ void __launch_bounds__(kThreads) pack_weights(Matrices<T> from, WeightLayout l, Quad* packed) {
  const int64_t i = element(), quads = l.quads();
  if (i >= quads) return;
  const int d = static_cast<int>(blockIdx.y), fragments = l.m * l.blocks * 2;
  const int lane = static_cast<int>(i % 32), f = static_cast<int>(i / 32 % fragments);
  const int64_t warp = i / 32 / fragments;
  Quad q{};
#pragma unroll
  for (int e = 0; e < 8; e++) {
    const int64_t at = l.source(static_cast<int>(warp / l.warps), static_cast<int>(warp % l.warps), f, lane, e);
    if (at >= 0) q.v[e >> 1] |= static_cast<uint32_t>(bits_of(from.w[d][at])) << (e & 1) * 16;
  }
  packed[d * quads + i] = q;
}

template <class Cell>
WeightLayout layout_of(int variant, int64_t H, bool backward) {
  WeightLayout l{};
  int i = 0;
#define FUSEDRNN_LAYOUT(H_PAD, R, TILES)                                                \
  if (i++ == variant)                                                                   \
    l = backward ? WeightLayout::of<ClusterShape<Cell, H_PAD, R, TILES, true>>(H, true) \
                 : WeightLayout::of<ClusterShape<Cell, H_PAD, R, TILES, false>>(H, false);
  FUSEDRNN_CLUSTER_SHAPES(FUSEDRNN_LAYOUT)
#undef FUSEDRNN_LAYOUT
  return l;
}

template <class Cell, class T>
const Quad* packed_weights(const Plan& plan, const ForwardArgs& a, bool backward, const Runtime& rt) {
  const WeightLayout l = layout_of<Cell>(plan.variant, a.n.H, backward);
  Quad* packed = rt.take<Quad>(a.n.D * l.quads());
  Matrices<T> from{};
  for (int d = 0; d < a.n.D; d++) from.w[d] = static_cast<const T*>(a.w[d].hh);
  launch("cluster weights", pack_weights<T>, per_element(l.quads(), static_cast<unsigned>(a.n.D)), kThreads, 0,
         rt.stream, from, l, packed);
  return packed;
}

template <class Cell, class T>
Launch forward(const Plan& plan, const Recurrence& r, const Runtime& rt) {
  const ForwardArgs& a = r.a;
  const ForwardKernel<T> kernel = cluster_forward_variant<Cell, T>(plan.variant);
  if (!cluster_accepted(reinterpret_cast<const void*>(kernel), plan)) return Launch::refused;
  ClusterForward<T> c{};
  c.rows = Rows::of(a);
  c.H = a.n.H;
  c.D = static_cast<int>(a.n.D);
  c.weights = packed_weights<Cell, T>(plan, a, false, rt);
  for (int d = 0; d < a.n.D; d++) {
    c.b_ih[d] = static_cast<const T*>(a.w[d].b_ih);
    c.b_hh[d] = static_cast<const T*>(a.w[d].b_hh);
  }
  c.gx = static_cast<const T*>(r.gx);
  c.gx_ld = r.gx_ld;
  c.h0 = static_cast<const T*>(a.h0);
  c.c0 = static_cast<const T*>(a.c0);
  c.y = static_cast<T*>(a.y);
  c.h_n = static_cast<T*>(a.h_n);
  c.c_n = static_cast<T*>(a.c_n);
  c.gates = static_cast<T*>(a.gates);
  c.cells = static_cast<float*>(a.cells);
  return launch_clusters("cluster forward", kernel, plan, a.n.D, rt.stream, c);
}

template <class Cell, class T>
Launch backward(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt) {
  const BackwardArgs& b = r.b;
  const ForwardArgs& a = b.f;
  const BackwardKernel<T> kernel = cluster_backward_variant<Cell, T>(plan.variant);
  if (!cluster_accepted(reinterpret_cast<const void*>(kernel), plan)) return Launch::refused;
  ClusterBackward<T> c{};
  c.rows = Rows::of(a);
  c.H = a.n.H;
  c.D = static_cast<int>(a.n.D);
  c.weights = packed_weights<Cell, T>(plan, a, true, rt);
  c.gates = static_cast<const T*>(a.gates);
  c.y = static_cast<const T*>(a.y);
  c.h0 = static_cast<const T*>(a.h0);
  c.c0 = static_cast<const T*>(a.c0);
  c.cells = static_cast<const float*>(a.cells);
  c.dy = static_cast<const T*>(b.dy);
  c.dhn = static_cast<const T*>(b.dhn);
  c.dcn = static_cast<const T*>(b.dcn);
  c.dgates = static_cast<T*>(r.dgates);
  c.dh0 = static_cast<T*>(b.dh0);
  c.dc0 = static_cast<T*>(b.dc0);
  return launch_clusters("cluster backward", kernel, plan, a.n.D, rt.stream, c);
}

// Calls f(Cell{}, T{}); the plan chose a 16-bit type.
template <class F>
Launch with_kernel(const ForwardArgs& a, F&& f) {
  return with_cell(a.cell, [&](auto cell) { return a.dtype == DType::bf16 ? f(cell, bf16{}) : f(cell, f16{}); });
}

}  // namespace

Launch cluster_forward(const Plan& plan, const Recurrence& r, const Runtime& rt) {
  return with_kernel(r.a, [&](auto cell, auto type) { return forward<decltype(cell), decltype(type)>(plan, r, rt); });
}
Launch cluster_backward(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt) {
  return with_kernel(r.b.f,
                     [&](auto cell, auto type) { return backward<decltype(cell), decltype(type)>(plan, r, rt); });
}

}  // namespace fusedrnn::cuda
