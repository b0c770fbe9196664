// A float whose sigmoid and tanh take the short way through the special function unit. The cells (csrc/cells) are
// templates over their value type; kernels for 16-bit storage run them with Fast, whose error, 3e-7 absolute, is far
// below the rounding of what they store.
#pragma once
#include "../cells/all.h"
#include "prim.h"

namespace fusedrnn::cuda {

struct Fast {
  float v;
  __device__ __forceinline__ Fast(float x = 0.f) : v(x) {}
};
__device__ __forceinline__ Fast operator+(Fast a, Fast b) { return a.v + b.v; }
__device__ __forceinline__ Fast operator-(Fast a, Fast b) { return a.v - b.v; }
__device__ __forceinline__ Fast operator*(Fast a, Fast b) { return a.v * b.v; }
__device__ __forceinline__ bool operator<(Fast a, Fast b) { return a.v < b.v; }
__device__ __forceinline__ bool operator<=(Fast a, Fast b) { return a.v <= b.v; }

// 1 / (1 + 2^y). Where 2^y overflows, 1 / infinity is the right 0.
__device__ __forceinline__ float logistic2(float y) { return reciprocal(1.f + exp2_fast(y)); }
inline constexpr float kLog2e = 1.44269504f;
__device__ __forceinline__ Fast sigmoid(Fast x) { return logistic2(-kLog2e * x.v); }
// 1 - 2 / (1 + e^2x)
__device__ __forceinline__ Fast tanh(Fast x) { return 1.f - 2.f * logistic2(2.f * kLog2e * x.v); }

// A value whose tanh was computed ahead: a derivative that needs only tanh(c) gets it without waiting, and one that
// asks for the tanh of anything else gets NaN.
struct Ahead {
  float v, tanh_v;
  __device__ __forceinline__ Ahead(float x = 0.f) : v(x), tanh_v(float_from(0x7fc00000u)) {}
  __device__ __forceinline__ Ahead(float x, float t) : v(x), tanh_v(t) {}
};
__device__ __forceinline__ Ahead operator+(Ahead a, Ahead b) { return a.v + b.v; }
__device__ __forceinline__ Ahead operator-(Ahead a, Ahead b) { return a.v - b.v; }
__device__ __forceinline__ Ahead operator*(Ahead a, Ahead b) { return a.v * b.v; }
__device__ __forceinline__ bool operator<(Ahead a, Ahead b) { return a.v < b.v; }
__device__ __forceinline__ bool operator<=(Ahead a, Ahead b) { return a.v <= b.v; }
__device__ __forceinline__ Ahead tanh(Ahead x) { return x.tanh_v; }

}  // namespace fusedrnn::cuda

namespace fusedrnn::cells {
template <>
struct Lane<cuda::Fast> {
  using Elem = cuda::Fast;
  using Int = int32_t;
};
template <>
struct Lane<cuda::Ahead> {
  using Elem = cuda::Ahead;
  using Int = int32_t;
};
}  // namespace fusedrnn::cells
