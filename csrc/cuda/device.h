// What every kernel file shares: element types, launches and checks. Compiles under nvcc and, with the emulator's
// cuda_runtime.h in front of CUDA's, under a C++ compiler.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <utility>

#include "../layer.h"
#include "check.h"

// A block's shared array of fixed size; a kernel's dynamic shared memory.
#if defined(FUSEDRNN_EMULATED)
#define FUSEDRNN_SHARED(T, name, n) \
  static char name##_key;           \
  T* const name = reinterpret_cast<T*>(simt::shared_array(&name##_key, sizeof(T) * (n)))
#define FUSEDRNN_DYNAMIC_SHARED(name) unsigned char* const name = simt::dynamic_shared()
#else
#define FUSEDRNN_SHARED(T, name, n) __shared__ T name[n]
#define FUSEDRNN_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

namespace fusedrnn::cuda {

using bf16 = __nv_bfloat16;
using f16 = __half;

template <class T>
struct AccOf {
  using type = float;
};
template <>
struct AccOf<double> {
  using type = double;
};
template <class T>
using Acc = typename AccOf<T>::type;  // what elements of type T are computed in

__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ float widen(bf16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float widen(f16 v) { return __half2float(v); }

template <class T>
__device__ __forceinline__ T narrow(Acc<T> v) {
  return v;
}
template <>
__device__ __forceinline__ bf16 narrow<bf16>(float v) {
  return __float2bfloat16_rn(v);
}
template <>
__device__ __forceinline__ f16 narrow<f16>(float v) {
  return __float2half_rn(v);
}

inline size_t size_of(DType t) { return t == DType::f64 ? 8 : t == DType::f32 ? 4 : 2; }
inline DType acc_of(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }
inline void* at(void* p, int64_t elements, DType t) {
  return static_cast<char*>(p) + elements * static_cast<int64_t>(size_of(t));
}
inline const void* at(const void* p, int64_t elements, DType t) {
  return static_cast<const char*>(p) + elements * static_cast<int64_t>(size_of(t));
}

// Calls f(T{}) with the element type that t names.
template <class F>
decltype(auto) with_type(DType t, F&& f) {
  switch (t) {
    case DType::f64:
      return f(double{});
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(bf16{});
    default:
      return f(f16{});
  }
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Enqueues kernel(args...) and reports a launch that failed under the kernel's name; false where the device had no
// resources for it.
template <class... P, class... A>
bool try_launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                A&&... args) {
#if defined(FUSEDRNN_EMULATED)
  (void)name, (void)stream;
  simt::launch(grid, block, shared, false, 1, [&] { kernel(P(args)...); });
#else
  // clang-format off
  kernel<<<grid, block, shared, stream>>>(P(std::forward<A>(args))...);
  // clang-format on
  const cudaError_t e = cudaGetLastError();
  if (e == cudaErrorLaunchOutOfResources) return false;
  check(e, name);
#endif
  return true;
}

// The same where there is nothing else to try.
template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
            A&&... args) {
  if (!try_launch(name, kernel, grid, block, shared, stream, std::forward<A>(args)...))
    throw std::runtime_error(std::string("fusedrnn: ") + name + ": the device has no resources for this launch");
}

// A grid of one thread per element, and the element of the running thread. gridDim.x reaches 2^31 - 1, so that one
// dimension serves every size that fits a device.
inline constexpr int kThreads = 256;
inline dim3 per_element(int64_t count, unsigned y = 1) {
  return dim3(static_cast<unsigned>(ceil_div(count, kThreads)), y);
}
__device__ __forceinline__ int64_t element() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }

}  // namespace fusedrnn::cuda
