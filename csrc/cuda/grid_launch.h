// Launches of the grid family, one direction of time per file that includes this.
#pragma once
#include <algorithm>

#include "fma_launch.h"
#include "grid.h"
#include "resident.h"

namespace fusedrnn::cuda {

// One cooperative launch; false where the device refused it.
template <class Args>
bool launch_grid(const char* name, void (*kernel)(Args, FmaTeams), const Plan& plan, int blocks, cudaStream_t stream,
                 Args args, FmaTeams teams) {
#if defined(FUSEDRNN_EMULATED)
  (void)name, (void)stream;
  simt::launch(dim3(unsigned(blocks)), dim3(unsigned(plan.threads)), size_t(plan.smem), true, 1,
               [&] { kernel(args, teams); });
#else
  void* pointers[] = {&args, &teams};
  const cudaError_t e = cudaLaunchCooperativeKernel(
      reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
      dim3(static_cast<unsigned>(plan.threads)), pointers, static_cast<size_t>(plan.smem), stream);
  if (e == cudaErrorCooperativeLaunchTooLarge || e == cudaErrorLaunchOutOfResources) {
    (void)cudaGetLastError();
    return false;
  }
  check(e, name);
#endif
  return true;
}

// All (direction, tile) pairs, as many at a time as the plan lets run together (plan.blocks of them R each).
// `exchange`: floats that a pair exchanges through; pairs of the next launch take the memory of this one's.
template <class Args>
Launch launch_teams(const char* name, void (*kernel)(Args, FmaTeams), const Plan& plan, const ForwardArgs& a,
                    const Args& args, int64_t exchange, const Runtime& rt) {
  const FmaShape& s = args.s;
  const int64_t tiles = ceil_div(a.n.B, s.N), pairs = a.n.D * tiles, together = plan.blocks / s.R;
  if (plan.blocks > resident_blocks(reinterpret_cast<const void*>(kernel), plan)) return Launch::refused;
  FmaTeams teams{0, tiles, rt.take<uint32_t>(pairs * s.R), rt.take<float>(std::min(together, pairs) * exchange)};
  check(cudaMemsetAsync(teams.flags, 0, static_cast<size_t>(pairs * s.R) * sizeof(uint32_t), rt.stream), "memset");
  for (; teams.first < pairs; teams.first += together) {
    const int64_t many = std::min(together, pairs - teams.first);
    if (!launch_grid(name, kernel, plan, static_cast<int>(many) * s.R, rt.stream, args, teams)) {
      if (teams.first == 0) return Launch::refused;
      throw std::runtime_error(std::string("fusedrnn: ") + name +
                               ": a later launch was refused after an earlier one ran");
    }
  }
  return Launch::done;
}

// Calls f with the shape's N as a constant.
template <class F>
Launch with_rows(int N, F&& f) {
  switch (N) {
#if !defined(FUSEDRNN_FEW_VARIANTS)
    case 16:
      return f(std::integral_constant<int, 16>{});
    case 8:
      return f(std::integral_constant<int, 8>{});
    case 1:
      return f(std::integral_constant<int, 1>{});
#endif
    case 4:
      return f(std::integral_constant<int, 4>{});
    default:
      return Launch::refused;
  }
}

// Calls f(T{}) with the storage type; the plan refuses float64.
template <class F>
Launch with_storage(DType t, F&& f) {
  switch (t) {
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(bf16{});
#if !defined(FUSEDRNN_FEW_VARIANTS)
    case DType::f16:
      return f(f16{});
#endif
    default:
      return Launch::refused;
  }
}

}  // namespace fusedrnn::cuda
