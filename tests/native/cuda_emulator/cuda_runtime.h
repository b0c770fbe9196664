// Stands in for CUDA's header of this name when kernels are compiled by a C++ compiler for the emulator. Only what the
// project's kernels use, with CUDA's meaning.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "simt.h"

#define FUSEDRNN_EMULATED 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))

namespace simt {
SIMT_NO_TSAN __attribute__((noinline)) inline dim3 thread_index() { return current->index; }
SIMT_NO_TSAN __attribute__((noinline)) inline dim3 block_index() { return current->block->index; }
SIMT_NO_TSAN __attribute__((noinline)) inline dim3 block_size() { return current->block->grid->block; }
SIMT_NO_TSAN __attribute__((noinline)) inline dim3 grid_size() { return current->block->grid->grid; }
SIMT_NO_TSAN __attribute__((noinline)) inline unsigned char* dynamic_shared() { return current->block->dynamic.get(); }
}  // namespace simt
#define threadIdx simt::thread_index()
#define blockIdx simt::block_index()
#define blockDim simt::block_size()
#define gridDim simt::grid_size()

SIMT_NO_TSAN inline void __syncthreads() { simt::wait(simt::current->block->barrier); }
SIMT_NO_TSAN inline void __syncwarp(unsigned = ~0u) { simt::wait(simt::warp().barrier); }
inline void __threadfence() {}
template <class T>
T __shfl_sync(unsigned, T v, int from, int = 32) {
  return simt::exchange(v, unsigned(from));
}
template <class T>
T __shfl_xor_sync(unsigned, T v, int mask, int = 32) {
  return simt::exchange(v, simt::current->lane ^ unsigned(mask));
}
template <class T>
T __shfl_down_sync(unsigned, T v, unsigned delta, int = 32) {
  const unsigned lane = simt::current->lane;
  return simt::exchange(v, lane + delta < 32 ? lane + delta : lane);
}
SIMT_NO_TSAN inline unsigned __ballot_sync(unsigned, int predicate) {
  simt::Hidden hide;
  simt::Warp& w = simt::warp();
  w.slot[simt::current->lane][0] = predicate != 0;
  simt::wait(w.barrier);
  unsigned bits = 0;
  for (unsigned i = 0; i < w.barrier.need; i++) bits |= unsigned(w.slot[i][0]) << i;
  simt::wait(w.barrier);
  return bits;
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}

// The runtime calls that launch code makes. A launch runs to its end before it returns.
using cudaStream_t = void*;
using cudaError_t = int;
inline constexpr cudaError_t cudaSuccess = 0;
inline const char* cudaGetErrorString(cudaError_t) { return "emulated error"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline int __ffs(int v) { return __builtin_ffs(v); }
