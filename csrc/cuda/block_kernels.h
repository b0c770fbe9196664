// The kernels of the block family, forward and backward. See block.h.
#pragma once
#include "block.h"
#include "fma_unit.h"

namespace fusedrnn::cuda {

// Loads after it stay after it: left alone, the compiler asks for all weights at once, and spills.
__device__ __forceinline__ void in_order() {
#if !defined(FUSEDRNN_EMULATED)
  asm volatile("" ::: "memory");
#endif
}

// The thread's quarter of W_hh: its terms are 4 (lane + 4 j) + e, so that the four lanes of a unit read 64 contiguous
// bytes of the operand. Weight i of the thread is gate (i / 4) % G of term j = i / 4 / G, e = i % 4.
template <int G, int K, int N>
struct BlockWeights {
  static constexpr BlockSplit kSplit = BlockSplit::of(G, K, N);
  static constexpr int kThreads = K * kBlockLanes, kTerms = K / kBlockLanes / 4;
  float own[kSplit.resident];
  const Four* rest;  // the others, one array of all threads for each four

  // from(gate, term): an element of W_hh, zero beyond the layer.
  template <class F>
  __device__ __forceinline__ void load(unsigned char* memory, F&& from) {
    const int lane = static_cast<int>(threadIdx.x) % kBlockLanes;
    Four* const shared = reinterpret_cast<Four*>(memory) + threadIdx.x;
    rest = shared;
#pragma unroll
    for (int i = 0; i < kSplit.weights; i++) {
      if (kSplit.resident < kSplit.weights && i % 16 == 0) in_order();
      const float w = from(i / 4 % G, 4 * (lane + kBlockLanes * (i / 4 / G)) + i % 4);
      if (i < kSplit.resident)
        own[i] = w;
      else
        shared[(i - kSplit.resident) / 4 * kThreads].v[i % 4] = w;
    }
  }
  __device__ __forceinline__ Four at(int i) const {
    if (i >= kSplit.resident) return rest[(i - kSplit.resident) / 4 * kThreads];
    return Four{{own[i], own[i + 1], own[i + 2], own[i + 3]}};
  }
};

// v [N, V] summed over the four lanes of a unit; lane l ends with the V sums of row l * N / 4 in front.
template <int N, int V, int M = kBlockLanes / 2>
__device__ __forceinline__ void block_fold(float* v, int lane) {
  if constexpr (M > 0 && N > 1) {
    const bool upper = (lane & M) != 0;
#pragma unroll
    for (int i = 0; i < N / 2 * V; i++) {
      const float given = upper ? v[i] : v[i + N / 2 * V], kept = upper ? v[i + N / 2 * V] : v[i];
      v[i] = kept + __shfl_xor_sync(~0u, given, M);
    }
    block_fold<N / 2, V, M / 2>(v, lane);
  } else if constexpr (M > 0) {
#pragma unroll
    for (int i = 0; i < V; i++) v[i] += __shfl_xor_sync(~0u, v[i], M);
    block_fold<1, V, M / 2>(v, lane);
  }
}

// The thread's place: its unit, and the row it finishes, if it is the one to do so.
template <int N>
__device__ __forceinline__ FmaPlace block_place(const FmaShape& s, const Rows& rows, int64_t H) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kBlockLanes;
  return FmaPlace(s, rows, H, static_cast<int>(blockIdx.y), blockIdx.x, thread / kBlockLanes, lane * N / kBlockLanes,
                  lane * N % kBlockLanes == 0);
}

template <class Cell, int K, int N>
__global__ void __launch_bounds__(K* kBlockLanes, 1) block_forward_kernel(const FmaForward<float> a) {
  FUSEDRNN_DYNAMIC_SHARED(memory);
  constexpr int G = Cell::G;
  const FmaPlace p = block_place<N>(a.s, a.rows, a.H);
  const int64_t steps = fma_steps(a.s, a.rows, p);
  const int lane = static_cast<int>(threadIdx.x) % kBlockLanes;
  float* const h = reinterpret_cast<float*>(memory + a.s.in_at);  // [2, N, K]
  BlockWeights<G, K, N> w;
  w.load(memory, [&](int g, int k) { return p.unit < a.H && k < a.H ? a.w[p.d][(g * a.H + p.unit) * a.H + k] : 0.f; });
  for (int e = static_cast<int>(threadIdx.x); e < N * K; e += K * kBlockLanes) {
    const int n = e / K, k = e % K;
    const bool given = a.h0 && k < a.H && p.first_row + n < a.rows.B;
    h[e] = given ? a.h0[(p.d * a.rows.B + p.first_row + n) * a.H + k] : 0.f;
  }
  FmaUnit<Cell, float> unit;
  unit.start(a, p);
  FmaInputs<Cell, float> even, odd;
  even.load(a, p, 0);
  odd.load(a, p, 1);
  __syncthreads();

  const auto step = [&](int64_t s, FmaInputs<Cell, float>& inputs) {
    const float* const from = h + (s & 1) * N * K;
    float sums[N * G];
#pragma unroll
    for (int i = 0; i < N * G; i++) sums[i] = 0.f;
#pragma unroll
    for (int j = 0; j < K / kBlockLanes / 4; j++) {
      if constexpr (w.kSplit.resident < w.kSplit.weights) in_order();
      Four x[N];
#pragma unroll
      for (int n = 0; n < N; n++) x[n] = load4(from + n * K + 4 * (lane + kBlockLanes * j));
#pragma unroll
      for (int g = 0; g < G; g++) {
        const Four weights = w.at((j * G + g) * 4);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) sums[n * G + g] += weights.v[e] * x[n].v[e];
      }
    }
    block_fold<N, G>(sums, lane);
    const bool live = p.mine && s < p.length;
    unit.step(sums, inputs, live);
    if (p.item) h[((s + 1) & 1) * N * K + p.n * K + p.u] = live ? unit.h : 0.f;
    // The one barrier of a step: the next one reads what is written here, and writes what this one has read. What
    // follows it touches registers and device memory alone.
    __syncthreads();
    if (live) unit.store(a, p, s);
    inputs.load(a, p, s + 2);
  };
  for (int64_t s = 0; s < steps; s += 2) {
    step(s, even);
    if (s + 1 < steps) step(s + 1, odd);
  }
  unit.finish(a, p);
}

template <class Cell, int K, int N>
__global__ void __launch_bounds__(K* kBlockLanes, 1) block_backward_kernel(const FmaBackward<float> a) {
  FUSEDRNN_DYNAMIC_SHARED(memory);
  constexpr int G = Cell::G;
  const FmaPlace p = block_place<N>(a.s, a.rows, a.H);
  const int64_t steps = fma_steps(a.s, a.rows, p);
  const int lane = static_cast<int>(threadIdx.x) % kBlockLanes;
  float* const dg = reinterpret_cast<float*>(memory + a.s.in_at);  // [2, N, G, K]
  BlockWeights<G, K, N> w;
  w.load(memory, [&](int g, int u) { return p.unit < a.H && u < a.H ? a.w[p.d][(g * a.H + u) * a.H + p.unit] : 0.f; });
  FmaUnitGrad<Cell, float> unit;
  unit.start(a, p);
  FmaSaved<Cell, float> even, odd;
  even.load(a, p, steps - 1);
  odd.load(a, p, steps - 2);
  float dh = 0.f;  // of the thread's unit and row, from the step handled before

  const auto step = [&](int64_t i, FmaSaved<Cell, float>& saved) {
    const int64_t s = steps - 1 - i;
    float* const own = dg + (i & 1) * N * G * K;
    if (p.item) unit.step(a, p, s, dh, saved, own);
    __syncthreads();  // one barrier serves: the next step writes the other half
    saved.load(a, p, s - 2);
    float sums[N];
#pragma unroll
    for (int n = 0; n < N; n++) sums[n] = 0.f;
#pragma unroll
    for (int j = 0; j < K / kBlockLanes / 4; j++) {
#pragma unroll
      for (int g = 0; g < G; g++) {
        const Four weights = w.at((j * G + g) * 4);
#pragma unroll
        for (int n = 0; n < N; n++) {
          const Four x = load4(own + (n * G + g) * K + 4 * (lane + kBlockLanes * j));
#pragma unroll
          for (int e = 0; e < 4; e++) sums[n] += weights.v[e] * x.v[e];
        }
      }
    }
    block_fold<N, 1>(sums, lane);
    dh = sums[0];
  };
  for (int64_t i = 0; i < steps; i += 2) {
    step(i, even);
    if (i + 1 < steps) step(i + 1, odd);
  }
  unit.finish(a, p, dh);
}

}  // namespace fusedrnn::cuda
