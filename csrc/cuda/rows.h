// Lengths and resets, as every kernel reads them. Direction 0 walks t upwards, direction 1 downwards.
#pragma once
#include "device.h"

namespace fusedrnn::cuda {

struct Rows {
  const int64_t* lengths;  // [B] or null
  const bool* resets;      // [T, B] or null
  int64_t T, B;

  static Rows of(const ForwardArgs& a) { return {a.lengths, a.resets, a.n.T, a.n.B}; }

  // A length out of range would index out of bounds, and it cannot be refused without waiting for the device.
  __device__ __forceinline__ int64_t length(int64_t b) const {
    if (!lengths) return T;
    const int64_t n = lengths[b];
    return n < 0 ? 0 : n > T ? T : n;
  }
  // The step at which the initial state of row b enters, and the last one; only for rows with length > 0.
  __device__ __forceinline__ static int64_t first(int d, int64_t length) { return d ? length - 1 : 0; }
  __device__ __forceinline__ static int64_t last(int d, int64_t length) { return d ? 0 : length - 1; }
  // True where the state that enters step t of row b is dropped. t must be a valid step (t < length).
  __device__ __forceinline__ bool cut(int d, int64_t t, int64_t b, int64_t length) const {
    if (!resets) return false;
    if (d) t++;
    return t < length && resets[t * B + b];
  }
};

}  // namespace fusedrnn::cuda
