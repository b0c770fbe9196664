// What the current device can hold of a kernel at once.
#pragma once
#include <map>
#include <mutex>
#include <utility>

#include "device.h"
#include "plan.h"

namespace fusedrnn::cuda {

// How many blocks of the plan's size the current device can hold at once, 0 where it refuses them; asked of it once for
// each kernel, device and size of shared memory. Sets the kernel's attribute, which must precede a capture.
inline int resident_blocks([[maybe_unused]] const void* kernel, [[maybe_unused]] const Plan& plan) {
#if defined(FUSEDRNN_EMULATED)
  return 1 << 30;
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
  return at->second;
#endif
}

}  // namespace fusedrnn::cuda
