// Launches of the block family, one direction of time per file that includes this.
#pragma once
#include "block_kernels.h"
#include "fma_launch.h"
#include "resident.h"

namespace fusedrnn::cuda {

// Calls f with the plan's units and rows as constants.
template <class F>
Launch with_block(const Plan& plan, F&& f) {
  const auto rows = [&](auto units) {
    return plan.tile_batch == 4 ? f(units, std::integral_constant<int, 4>{})
                                : f(units, std::integral_constant<int, 1>{});
  };
  switch (plan.tile_units) {
    case 32:
      return rows(std::integral_constant<int, 32>{});
    case 64:
      return rows(std::integral_constant<int, 64>{});
#if !defined(FUSEDRNN_FEW_VARIANTS)
    case 96:
      return rows(std::integral_constant<int, 96>{});
    case 128:
      return rows(std::integral_constant<int, 128>{});
#endif
    default:
      return Launch::refused;
  }
}

template <class Args>
Launch launch_block(const char* name, void (*kernel)(Args), const Plan& plan, int64_t D, cudaStream_t stream,
                    const Args& args) {
  if (resident_blocks(reinterpret_cast<const void*>(kernel), plan) < 1) return Launch::refused;
  const bool all = try_launch(name, kernel, dim3(static_cast<unsigned>(plan.blocks), static_cast<unsigned>(D)),
                              dim3(static_cast<unsigned>(plan.threads)), static_cast<size_t>(plan.smem), stream, args);
  return all ? Launch::done : Launch::refused;
}

}  // namespace fusedrnn::cuda
