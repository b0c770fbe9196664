// The fma family, backward through time: dgates, dh0 and dc0. See fma.h.
//
// Per step, from each row's last to its first: wait for the parts of dh_t that the blocks formed from their gates one
// step later, and add them in the order of the blocks; each thread runs its (unit, row) backward; the warps multiply
// the gate gradients by the block's rows of W_hh, four columns to a thread; after a second barrier every thread sends
// the part of each block's units to that block. The buffers cannot be overrun for the reason given in fma_forward.h.
#pragma once
#include "fma_unit.h"

namespace fusedrnn::cuda {

// The gradient that arrived for the thread's (unit, row): the blocks' parts in their order.
__device__ __forceinline__ float fma_arrived(const FmaShape& s, const unsigned char* memory, int64_t i) {
  const float* in = reinterpret_cast<const float*>(memory + s.in_at) + (i & 1) * s.R * s.items;
  float sum = 0.f;
#pragma unroll 4
  for (int q = 0; q < s.R; q++) sum += in[q * s.items + static_cast<int>(threadIdx.x)];
  return sum;
}

#if FUSEDRNN_HAS_CLUSTERS
// Sends, as arrival i, the sums over the parts of every block's units to that block.
template <int N>
__device__ __forceinline__ void fma_send(const FmaShape& s, const FmaPlace& p, uint32_t base, unsigned char* memory,
                                         int64_t i) {
  const float* sums = reinterpret_cast<const float*>(memory + s.sums_at);
  const int at = s.in_at + ((static_cast<int>(i & 1) * s.R + p.rank) * s.items + static_cast<int>(threadIdx.x)) * 4;
  constexpr int kAtOnce = 4;  // sends stay in order, so the sums are formed in groups before them
  for (int first = 0; first < s.R; first += kAtOnce) {
    float sum[kAtOnce];
    int to[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; j++) {
      const int q = first + j + p.rank;  // all blocks run in step: start apart
      to[j] = q < s.R ? q : q - s.R;
      sum[j] = 0.f;
    }
    for (int part = 0; part < s.parts; part++) {
#pragma unroll
      for (int j = 0; j < kAtOnce; j++)
        if (first + j < s.R) sum[j] += sums[(part * N + p.n) * s.K + to[j] * s.units + p.u];
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; j++) {
      if (first + j >= s.R) break;
      if (s.R == 1) {
        *reinterpret_cast<float*>(memory + at) = sum[j];
      } else {
        const uint32_t peer = peer_address(base, static_cast<uint32_t>(to[j]));
        store_async(peer + static_cast<uint32_t>(at), bits_from(sum[j]), peer + static_cast<uint32_t>(i & 1) * 8);
      }
    }
  }
}

#endif

template <class Cell, int N>
__global__ void __launch_bounds__(kFmaThreads, 1) fma_backward_kernel(const FmaBackward<float> a) {
#if FUSEDRNN_HAS_CLUSTERS
  FUSEDRNN_DYNAMIC_SHARED(memory);
  const FmaShape& shape = a.s;
  const uint32_t base = shared_address(memory);
  const FmaPlace p = fma_place(shape, a.rows, a.H);
  const int64_t steps = fma_steps(shape, a.rows, p);
  float* const w = reinterpret_cast<float*>(memory + shape.weights_at);
  float* const dg = reinterpret_cast<float*>(memory + shape.own_at);
  if (threadIdx.x == 0 && shape.R > 1) start_phases(base, steps, shape.arrival);
  load_weights(shape, p.rank, a.H, a.w[p.d], w);
  FmaUnitGrad<Cell, float> unit;
  unit.start(a, p);
  FmaSaved<Cell, float> even, odd;
  const FmaShare share(shape, shape.rows, 4, 128);
  even.load(a, p, steps - 1);
  odd.load(a, p, steps - 2);
  if (shape.R > 1) cluster_barrier();  // the peers exist and their barriers are initialised
  __syncthreads();

  const auto step = [&](int64_t i, FmaSaved<Cell, float>& saved) {
    const int64_t s = steps - 1 - i;
    if (i > 0 && shape.R > 1) next_phase(base, i, steps, shape.arrival);
    if (p.item) unit.step(a, p, s, i > 0 ? fma_arrived(shape, memory, i) : 0.f, saved, dg);
    __syncthreads();
    fma_columns<N>(shape, share, w, dg, reinterpret_cast<float*>(memory + shape.sums_at));
    __syncthreads();
    if (p.item) fma_send<N>(shape, p, base, memory, i + 1);
    if (shape.R == 1) __syncthreads();
    saved.load(a, p, s - 2);  // registers and device memory alone: nobody waits for it
  };
  for (int64_t i = 0; i < steps; i += 2) {
    step(i, even);
    if (i + 1 < steps) step(i + 1, odd);
  }
  if (steps > 0 && shape.R > 1) next_phase(base, steps, steps, shape.arrival);
  unit.finish(a, p, steps > 0 && p.item ? fma_arrived(shape, memory, steps) : 0.f);
  if (shape.R > 1) cluster_barrier_relaxed();  // nobody leaves while a peer's stores are on their way to it
#endif
}

}  // namespace fusedrnn::cuda
