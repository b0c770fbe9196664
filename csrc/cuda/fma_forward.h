// The fma family, forward: y, h_n, c_n and what backward needs, from the projected inputs. See fma.h.
//
// Per step: wait for h_{t-1} of all units; the warps multiply the block's rows of W_hh by it, eight lanes sharing a
// sum; after one barrier each thread adds the parts of its (unit, row), runs the cell and sends h_t to every block.
// Nobody waits for an empty buffer: a block sends h_t only after all of h_{t-1} has come, every block sent its part of
// h_{t-1} after its warps had read h_{t-2}, and h_t takes the place of h_{t-2}.
#pragma once
#include "fma_unit.h"

namespace fusedrnn::cuda {

#if FUSEDRNN_HAS_CLUSTERS
// Sends h of the thread's (unit, row) to every block of the cluster, as the operand of step s.
template <int N>
__device__ __forceinline__ void fma_send_state(const FmaShape& shape, const FmaPlace& p, int64_t s, uint32_t base,
                                               unsigned char* memory, float h) {
  const int at = shape.in_at + (static_cast<int>(s & 1) * N * shape.K + p.n * shape.K + static_cast<int>(p.unit)) * 4;
  if (shape.R == 1) {
    *reinterpret_cast<float*>(memory + at) = h;
    return;
  }
#pragma unroll 4
  for (int i = 0; i < shape.R; i++) {
    const int q = i + p.rank < shape.R ? i + p.rank : i + p.rank - shape.R;  // all blocks run in step: start apart
    const uint32_t peer = peer_address(base, static_cast<uint32_t>(q));
    store_async(peer + static_cast<uint32_t>(at), bits_from(h), peer + static_cast<uint32_t>(s & 1) * 8);
  }
}

#endif

template <class Cell, int N>
__global__ void __launch_bounds__(kFmaThreads, 1) fma_forward_kernel(const FmaForward<float> a) {
#if FUSEDRNN_HAS_CLUSTERS
  FUSEDRNN_DYNAMIC_SHARED(memory);
  const FmaShape& shape = a.s;
  const uint32_t base = shared_address(memory);
  const FmaPlace p = fma_place(shape, a.rows, a.H);
  const int64_t steps = fma_steps(shape, a.rows, p);
  float* const w = reinterpret_cast<float*>(memory + shape.weights_at);
  float* const in = reinterpret_cast<float*>(memory + shape.in_at);
  if (threadIdx.x == 0 && shape.R > 1) start_phases(base, steps - 1, shape.arrival);
  load_weights(shape, p.rank, a.H, a.w[p.d], w);
  // h0 of all units is the operand of step 0; the rest of both operands is padding and stays zero.
  load_h0(shape, p, a, in);
  for (int e = static_cast<int>(threadIdx.x); e < N * shape.K; e += kFmaThreads) in[N * shape.K + e] = 0.f;
  FmaUnit<Cell, float> unit;
  unit.start(a, p);
  FmaInputs<Cell, float> even, odd;
  const FmaShare share(shape, shape.K, 32, 16);
  even.load(a, p, 0);
  odd.load(a, p, 1);
  if (shape.R > 1) cluster_barrier();  // the peers exist and their barriers are initialised
  __syncthreads();

  const auto step = [&](int64_t s, FmaInputs<Cell, float>& inputs) {
    if (s > 0 && shape.R > 1) next_phase(base, s, steps - 1, shape.arrival);
    fma_rows<N>(shape, share, w, in + (s & 1) * N * shape.K, reinterpret_cast<float*>(memory + shape.sums_at));
    __syncthreads();
    if (p.item) {
      const bool live = p.mine && s < p.length;
      unit.step(shape, p, reinterpret_cast<const float*>(memory + shape.sums_at), inputs, live);
      if (s + 1 < steps) fma_send_state<N>(shape, p, s + 1, base, memory, live ? unit.h : 0.f);
      if (live) unit.store(a, p, s);
    }
    if (shape.R == 1) __syncthreads();
    inputs.load(a, p, s + 2);
  };
  for (int64_t s = 0; s < steps; s += 2) {
    step(s, even);
    if (s + 1 < steps) step(s + 1, odd);
  }
  unit.finish(a, p);
  if (shape.R > 1) cluster_barrier_relaxed();  // nobody leaves while a peer's stores are on their way to it
#endif
}

}  // namespace fusedrnn::cuda
