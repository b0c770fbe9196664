// Launches of the fma family (fma_forward.h, fma_backward.h).
#include "cluster_launch.h"
#include "fma_backward.h"
#include "fma_forward.h"
#include "fma_launch.h"

namespace fusedrnn::cuda {
namespace {

template <class Args>
using Kernel = void (*)(Args);

template <class Cell>
Kernel<FmaForward<float>> forward_kernel([[maybe_unused]] int N) {
#if defined(FUSEDRNN_FEW_VARIANTS)
  return fma_forward_kernel<Cell, 2>;
#else
  return N == 8   ? fma_forward_kernel<Cell, 8>
         : N == 4 ? fma_forward_kernel<Cell, 4>
         : N == 2 ? fma_forward_kernel<Cell, 2>
                  : fma_forward_kernel<Cell, 1>;
#endif
}
template <class Cell>
Kernel<FmaBackward<float>> backward_kernel([[maybe_unused]] int N) {
#if defined(FUSEDRNN_FEW_VARIANTS)
  return fma_backward_kernel<Cell, 2>;
#else
  return N == 8   ? fma_backward_kernel<Cell, 8>
         : N == 4 ? fma_backward_kernel<Cell, 4>
         : N == 2 ? fma_backward_kernel<Cell, 2>
                  : fma_backward_kernel<Cell, 1>;
#endif
}

template <class Args>
Launch clusters(const char* name, Kernel<Args> kernel, const Plan& plan, int64_t D, cudaStream_t stream,
                const Args& args) {
  if (!cluster_accepted(reinterpret_cast<const void*>(kernel), plan)) return Launch::refused;
  return launch_clusters(name, kernel, plan, D, stream, args);
}

}  // namespace

Launch fma_forward(const Plan& plan, const Recurrence& r, const Runtime& rt) {
  const ForwardArgs& a = r.a;
  const FmaShape s = FmaShape::of(cells::kCells[a.cell].G, a.n.H, plan.cluster, plan.tile_batch, false);
  const auto kernel = with_cell(a.cell, [&](auto cell) { return forward_kernel<decltype(cell)>(s.N); });
  return clusters("fma forward", kernel, plan, a.n.D, rt.stream, fma_arguments<float>(s, r));
}

Launch fma_backward(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt) {
  const ForwardArgs& a = r.b.f;
  const FmaShape s = FmaShape::of(cells::kCells[a.cell].G, a.n.H, plan.cluster, plan.tile_batch, true);
  const auto kernel = with_cell(a.cell, [&](auto cell) { return backward_kernel<decltype(cell)>(s.N); });
  return clusters("fma backward", kernel, plan, a.n.D, rt.stream, fma_arguments<float>(s, r));
}

}  // namespace fusedrnn::cuda
