// Sums of products with the rows of a matrix: L accumulators of L lanes, then one tree of additions that leaves the sum
// of row u in lane u. What a streaming step (isa_step.cpp) and generation (isa_generate.cpp) share: both give the same
// bits.
#pragma once
#include "simd.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

// Sums of neighbours, runs of `run` lanes at a time, within groups of `group` lanes: the first half of a group has
// those of a, the second those of b.
template <int group, int run, class T>
FUSEDRNN_INLINE Vec<T> add_neighbours(Vec<T> a, Vec<T> b) {
  using Mask = typename cells::Lane<Vec<T>>::Int;
  Mask even, odd;
  FUSEDRNN_UNROLL
  for (int i = 0; i < kLanes<T>; i++) {
    const int in_group = i % group, half = group / 2, from = in_group % half / run * 2 * run + i % run;
    even[i] = i - in_group + from + (in_group < half ? 0 : kLanes<T>);
    odd[i] = even[i] + run;
  }
  return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

// N vectors, in each of which stand the sums so far of `each` accumulators, to one: levels of a tree of additions,
// first within 16 bytes, where lanes are cheap to move, then across.
template <int each, class T, int N>
FUSEDRNN_INLINE Vec<T> add_up(Vec<T> (&v)[N]) {
  constexpr int kGroup = 16 / int(sizeof(T));
  if constexpr (N == 1) {
    return v[0];
  } else {
    Vec<T> half[N / 2];
    FUSEDRNN_UNROLL
    for (int i = 0; i < N / 2; i++) {
      if constexpr (each < kGroup)
        half[i] = add_neighbours<kGroup, 1, T>(v[2 * i], v[2 * i + 1]);
      else
        half[i] = add_neighbours<kLanes<T>, kGroup, T>(v[2 * i], v[2 * i + 1]);
    }
    return add_up<2 * each, T>(half);
  }
}

// The sum of each of L accumulators, in lanes.
template <class T>
FUSEDRNN_INLINE Vec<T> sums(Vec<T> (&acc)[kLanes<T>]) {
  return add_up<1, T>(acc);
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
