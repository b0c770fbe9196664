// Launches of the fma family's grids, one direction of time per file that includes this.
#pragma once
#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "fma_grid.h"
#include "fma_launch.h"

namespace fusedrnn::cuda {

// Whether all blocks of a launch can be resident on the current device; asked of it once for each kernel, device and
// size of shared memory. Sets the kernel's attribute, which must precede a capture.
inline bool grid_accepted([[maybe_unused]] const void* kernel, [[maybe_unused]] const Plan& plan,
                          [[maybe_unused]] int blocks) {
#if defined(FUSEDRNN_EMULATED)
  return true;
#else
  struct Seen {
    int smem = 0;
    std::map<int, int> resident;  // blocks, by shared memory
  };
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, Seen> known;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard<std::mutex> lock(mutex);
  Seen& seen = known[{kernel, device}];
  const auto [at, fresh] = seen.resident.try_emplace(plan.smem, 0);
  if (fresh) {
    bool ok = true;
    if (plan.smem > seen.smem) {
      ok = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.smem) == cudaSuccess;
      if (ok) seen.smem = plan.smem;
    }
    int per_sm = 0, sms = 0;
    ok = ok && cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, kernel, plan.threads, plan.smem) == cudaSuccess &&
         cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device) == cudaSuccess;
    if (!ok) (void)cudaGetLastError();
    at->second = ok ? per_sm * sms : 0;
  }
  return blocks <= at->second;
#endif
}

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
// `exchange`: floats that a pair exchanges through.
template <class Args>
Launch launch_teams(const char* name, void (*kernel)(Args, FmaTeams), const Plan& plan, const ForwardArgs& a,
                    const Args& args, int64_t exchange, const Runtime& rt) {
  const FmaShape& s = args.s;
  const int64_t tiles = ceil_div(a.n.B, s.N), pairs = a.n.D * tiles, together = plan.blocks / s.R;
  if (!grid_accepted(reinterpret_cast<const void*>(kernel), plan, plan.blocks)) return Launch::refused;
  FmaTeams teams{0, tiles, rt.take<uint32_t>(pairs * s.R), rt.take<float>(pairs * exchange)};
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
