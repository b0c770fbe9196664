// The grid family, forward and backward: a team of up to all multiprocessors. See fma.h; the steps are those of
// fma_forward.h and fma_backward.h, with another exchange: a block writes its part to device memory (it stays in the L2
// cache), raises its flag, and waits for the flags of all. Two buffers take turns, and none is overrun: a block writes
// for step s+1 after all flags of step s, a flag of step s is raised after its block has read the buffer of step s-1,
// and that is the buffer that is written.
#pragma once
#include "fma_unit.h"
#include "grid_prim.h"

namespace fusedrnn::cuda {

// Which team a block belongs to, and where the teams exchange.
struct FmaTeams {
  int64_t first, tiles;  // the launch's first (direction, tile) pair, counted d * tiles + tile; tiles of a direction
  uint32_t* flags;       // [pairs, R], zero at launch
  // [pairs of a launch, 2, ...]: forward [N, R * units] states, backward [R to, R from, N * units] parts of dh.
  float* exchange;
};

__device__ __forceinline__ FmaPlace fma_place(const FmaShape& s, const Rows& rows, int64_t H, const FmaTeams& teams) {
  const int64_t pair = teams.first + blockIdx.x / s.R;
  return FmaPlace(s, rows, H, static_cast<int>(pair / teams.tiles), static_cast<int>(blockIdx.x % s.R),
                  pair % teams.tiles);
}

// All threads of the block: until every block of the team has raised its flag to `value`.
__device__ __forceinline__ void await_team(const FmaShape& s, const uint32_t* flags, uint32_t value) {
  if (static_cast<int>(threadIdx.x) < s.R) await_flag(flags + threadIdx.x, value);
  __syncthreads();
}

template <class Cell, class T, int N>
__global__ void __launch_bounds__(kFmaThreads, 1) grid_forward_kernel(const FmaForward<T> a, const FmaTeams teams) {
  FUSEDRNN_DYNAMIC_SHARED(memory);
  const FmaShape& shape = a.s;
  const FmaPlace p = fma_place(shape, a.rows, a.H, teams);
  const int64_t steps = fma_steps(shape, a.rows, p), pair = teams.first + blockIdx.x / shape.R;
  T* const w = reinterpret_cast<T*>(memory + shape.weights_at);
  float* const in = reinterpret_cast<float*>(memory + shape.in_at);
  float* const sums = reinterpret_cast<float*>(memory + shape.sums_at);
  uint32_t* const flags = teams.flags + pair * shape.R;
  const int width = shape.R * shape.units;
  float* const exchange = teams.exchange + blockIdx.x / shape.R * (int64_t{2} * N * width);
  load_weights(shape, p.rank, a.H, a.w[p.d], w);
  load_h0(shape, p, a, in);
  FmaUnit<Cell, T> unit;
  unit.start(a, p);
  FmaInputs<Cell, T> even, odd;
  const FmaShare share(shape, shape.K, 32, 16);
  even.load(a, p, 0);
  odd.load(a, p, 1);
  __syncthreads();

  const auto step = [&](int64_t s, FmaInputs<Cell, T>& inputs) {
    if (s > 0) {
      await_team(shape, flags, static_cast<uint32_t>(s));
      const float* from = exchange + (s & 1) * N * width;
      // Columns from `width` to K are padding and stay zero.
      for (int k = static_cast<int>(threadIdx.x) * 4; k < width; k += kFmaThreads * 4) {
        Four h[N];
#pragma unroll
        for (int n = 0; n < N; n++) h[n] = load4_l2(from + n * width + k);
#pragma unroll
        for (int n = 0; n < N; n++) *reinterpret_cast<Four*>(in + n * shape.K + k) = h[n];
      }
      __syncthreads();
    }
    fma_rows<N>(shape, share, w, in, sums);
    __syncthreads();
    const bool live = p.mine && s < p.length;
    if (p.item) {
      unit.step(shape, p, sums, inputs, live);
      // The product takes h as it is stored.
      if (s + 1 < steps) exchange[(((s + 1) & 1) * N + p.n) * width + p.unit] = live ? widen(narrow<T>(unit.h)) : 0.f;
    }
    __syncthreads();
    if (threadIdx.x == 0 && s + 1 < steps) raise_flag(flags + p.rank, static_cast<uint32_t>(s + 1));
    if (live) unit.store(a, p, s);
    inputs.load(a, p, s + 2);
  };
  for (int64_t s = 0; s < steps; s += 2) {
    step(s, even);
    if (s + 1 < steps) step(s + 1, odd);
  }
  unit.finish(a, p);
}

// The gradient that arrived for each (unit, row) of the block: the parts of the team's blocks in their order, cut into
// as many runs as there are threads for (four pairs to a thread), and then the runs in their order. own: 4 floats a
// thread.
__device__ __forceinline__ float fma_collect(const FmaShape& s, const float* from, float* own) {
  const int thread = static_cast<int>(threadIdx.x), quads = s.items / 4, runs = kFmaThreads / quads,
            run = thread / quads;
  if (run < runs) {
    const int end = (run + 1) * s.R / runs;
    from += (thread - run * quads) * 4;
    Four sum{};
#pragma unroll 8
    for (int q = run * s.R / runs; q < end; q++) {
      const Four part = load4_l2(from + static_cast<int64_t>(q) * s.items);
#pragma unroll
      for (int e = 0; e < 4; e++) sum.v[e] += part.v[e];
    }
    *reinterpret_cast<Four*>(own + thread * 4) = sum;
  }
  __syncthreads();
  float sum = 0.f;
  if (thread < s.items)
    for (int r = 0; r < runs; r++) sum += own[r * s.items + thread];
  return sum;
}

// Sends to every block of the team its units' columns of sums [parts, N, K], as floats [to, this block, N, units].
template <int N>
__device__ __forceinline__ void fma_spread(const FmaShape& s, int rank, const float* sums, float* to, int64_t block) {
  for (int k = static_cast<int>(threadIdx.x) * 4; k < s.R * s.units; k += kFmaThreads * 4) {
    const int q = k / s.units, u = k - q * s.units;
    float* const out = to + q * block + static_cast<int64_t>(rank) * s.items + u;
#pragma unroll 4
    for (int n = 0; n < N; n++) {
      Four sum = load4(sums + n * s.K + k);
      for (int part = 1; part < s.parts; part++) {
        const Four more = load4(sums + (part * N + n) * s.K + k);
#pragma unroll
        for (int e = 0; e < 4; e++) sum.v[e] += more.v[e];
      }
      *reinterpret_cast<Four*>(out + n * s.units) = sum;
    }
  }
}

template <class Cell, class T, int N>
__global__ void __launch_bounds__(kFmaThreads, 1) grid_backward_kernel(const FmaBackward<T> a, const FmaTeams teams) {
  FUSEDRNN_DYNAMIC_SHARED(memory);
  const FmaShape& shape = a.s;
  const FmaPlace p = fma_place(shape, a.rows, a.H, teams);
  const int64_t steps = fma_steps(shape, a.rows, p), pair = teams.first + blockIdx.x / shape.R;
  const int64_t block = static_cast<int64_t>(shape.R) * shape.items;  // what a block receives
  T* const w = reinterpret_cast<T*>(memory + shape.weights_at);
  float* const own = reinterpret_cast<float*>(memory + shape.in_at);
  float* const dg = reinterpret_cast<float*>(memory + shape.own_at);
  float* const sums = reinterpret_cast<float*>(memory + shape.sums_at);
  uint32_t* const flags = teams.flags + pair * shape.R;
  float* const exchange = teams.exchange + blockIdx.x / shape.R * (2 * shape.R * block);
  load_weights(shape, p.rank, a.H, a.w[p.d], w);
  FmaUnitGrad<Cell, T> unit;
  unit.start(a, p);
  FmaSaved<Cell, T> even, odd;
  const FmaShare share(shape, shape.rows, 4, 128);
  even.load(a, p, steps - 1);
  odd.load(a, p, steps - 2);
  __syncthreads();

  const auto arrived = [&](int64_t i) {
    await_team(shape, flags, static_cast<uint32_t>(i));
    return fma_collect(shape, exchange + ((i & 1) * shape.R + p.rank) * block, own);
  };
  const auto step = [&](int64_t i, FmaSaved<Cell, T>& saved) {
    const int64_t s = steps - 1 - i;
    const float dh = i > 0 ? arrived(i) : 0.f;
    if (p.item) unit.step(a, p, s, dh, saved, dg);
    saved.load(a, p, s - 2);
    __syncthreads();
    fma_columns<N>(shape, share, w, dg, sums);
    __syncthreads();
    fma_spread<N>(shape, p.rank, sums, exchange + ((i + 1) & 1) * shape.R * block, block);
    __syncthreads();
    if (threadIdx.x == 0) raise_flag(flags + p.rank, static_cast<uint32_t>(i + 1));
  };
  for (int64_t i = 0; i < steps; i += 2) {
    step(i, even);
    if (i + 1 < steps) step(i + 1, odd);
  }
  unit.finish(a, p, steps > 0 ? arrived(steps) : 0.f);
}

}  // namespace fusedrnn::cuda
