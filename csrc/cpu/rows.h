// Sums of products with the rows of a matrix: L accumulators of L lanes, then one tree of additions that leaves the sum
// of row u in lane u. What a streaming step (isa_step.cpp) and generation (isa_generate.cpp) share: both give the same
// bits.
#pragma once
#include "simd.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

constexpr int64_t kFewRows = 4;  // of the batch; from here on packing the weights for one step pays

// Lanes 0 .. L/2-1: sums of neighbours of a; the rest: of b.
template <class T>
FUSEDRNN_INLINE Vec<T> add_neighbours(Vec<T> a, Vec<T> b) {
  using Mask = typename cells::Lane<Vec<T>>::Int;
  Mask even, odd;
  FUSEDRNN_UNROLL
  for (int i = 0; i < kLanes<T>; i++) {
    even[i] = 2 * i;
    odd[i] = 2 * i + 1;
  }
  return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

// The sum of each of L accumulators, in lanes.
template <class T>
FUSEDRNN_INLINE Vec<T> sums(Vec<T> (&acc)[kLanes<T>]) {
  FUSEDRNN_UNROLL
  for (int n = kLanes<T> / 2; n > 0; n /= 2) {
    FUSEDRNN_UNROLL
    for (int i = 0; i < n; i++) acc[i] = add_neighbours<T>(acc[2 * i], acc[2 * i + 1]);
  }
  return acc[0];
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
