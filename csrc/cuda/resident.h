// What the current device says of a kernel, asked until it gives an answer that lasts.
#pragma once
#include <map>
#include <mutex>
#include <utility>

#include "device.h"
#include "plan.h"

namespace fusedrnn::cuda {

#if !defined(FUSEDRNN_EMULATED)
// Whether the device would answer so again. Other errors pass: too little memory, a call that a capture forbids.
inline bool lasting(cudaError_t e) {
  switch (e) {
    case cudaSuccess:
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidClusterSize:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorNotSupported:
      return true;
    default:
      return false;
  }
}

// A kernel's answers on one device, by what was asked, and the shared memory that it may use there so far.
template <class Key>
struct Answers {
  int smem = 0;
  std::map<Key, int> known;

  // ask(answer) -> cudaError_t. 0 where the device refuses; only a refusal that lasts is remembered.
  template <class F>
  int get(const Key& key, F&& ask) {
    const auto found = known.find(key);
    if (found != known.end()) return found->second;
    int answer = 0;
    const cudaError_t e = ask(answer);
    if (e != cudaSuccess) {
      (void)cudaGetLastError();
      answer = 0;
    }
    if (lasting(e)) known[key] = answer;
    return answer;
  }
  cudaError_t allow(const void* kernel, int bytes) {
    if (bytes <= smem) return cudaSuccess;
    const cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (e == cudaSuccess) smem = bytes;
    return e;
  }
};
#endif

// How many blocks of the plan's size the current device can hold at once, 0 where it refuses them, by kernel, device
// and size of shared memory. Sets the kernel's attribute, which must precede a capture.
inline int resident_blocks([[maybe_unused]] const void* kernel, [[maybe_unused]] const Plan& plan) {
#if defined(FUSEDRNN_EMULATED)
  return 1 << 30;
#else
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, Answers<int> > all;  // by shared memory
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard<std::mutex> lock(mutex);
  Answers<int>& answers = all[{kernel, device}];
  return answers.get(plan.smem, [&](int& blocks) {
    int per_sm = 0, sms = 0;
    cudaError_t e = answers.allow(kernel, plan.smem);
    if (e == cudaSuccess) e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, kernel, plan.threads, plan.smem);
    if (e == cudaSuccess) e = cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
    blocks = per_sm * sms;
    return e;
  });
#endif
}

}  // namespace fusedrnn::cuda
