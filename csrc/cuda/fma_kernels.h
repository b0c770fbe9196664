// What the forward and the backward kernel of the fma family share on the device.
#pragma once
#include "fma.h"
#include "prim.h"
#include "rows.h"

namespace fusedrnn::cuda {

struct alignas(16) Four {
  float v[4];
};
__device__ __forceinline__ Four load4(const float* p) { return *reinterpret_cast<const Four*>(p); }
template <class T>
__device__ __forceinline__ Four load4(const T* p) {
  struct alignas(8) Packed {
    T v[4];
  };
  const Packed q = *reinterpret_cast<const Packed*>(p);
  return Four{{widen(q.v[0]), widen(q.v[1]), widen(q.v[2]), widen(q.v[3])}};
}

// Past the L1 cache, which does not see what other multiprocessors write.
__device__ __forceinline__ float load_l2(const float* p) { return __ldcg(p); }
__device__ __forceinline__ Four load4_l2(const float* p) {
  const float4 q = __ldcg(reinterpret_cast<const float4*>(p));
  return Four{{q.x, q.y, q.z, q.w}};
}

// The thread's place: the (unit, row) it finishes, if any.
struct FmaPlace {
  int d, rank, u, n;
  bool item;          // the thread has a pair of its block
  bool mine;          // and it is a unit and a row of the layer
  int64_t first_row;  // of the team's tile
  int64_t unit, b, length;

  __device__ __forceinline__ FmaPlace(const FmaShape& s, const Rows& rows, int64_t H, int d_, int rank_, int64_t tile)
      : d(d_), rank(rank_), first_row(tile * s.N) {
    const int i = static_cast<int>(threadIdx.x);
    item = i < s.items;
    n = item ? i / s.units : 0;
    u = item ? i % s.units : 0;
    unit = static_cast<int64_t>(rank) * s.units + u;
    b = first_row + n;
    mine = item && unit < H && b < rows.B;
    length = b < rows.B ? rows.length(b) : 0;
  }
  // The same with unit and row given; `finishes`: whether the thread is the one that finishes them.
  __device__ __forceinline__ FmaPlace(const FmaShape& s, const Rows& rows, int64_t H, int d_, int64_t tile, int u_,
                                      int n_, bool finishes)
      : d(d_), rank(0), u(u_), n(n_), item(finishes), first_row(tile * s.N) {
    unit = u;
    b = first_row + n;
    mine = item && unit < H && b < rows.B;
    length = b < rows.B ? rows.length(b) : 0;
  }
  __device__ __forceinline__ int64_t time(int64_t s) const { return d ? length - 1 - s : s; }
  // Whether the state that enters step s is dropped.
  __device__ __forceinline__ bool cut(const Rows& rows, int64_t s) const {
    return s < length && rows.cut(d, time(s), b, length);
  }
};

// The longest of the team's rows: how many steps it takes. The same in every block of the team.
__device__ __forceinline__ int64_t fma_steps(const FmaShape& s, const Rows& rows, const FmaPlace& p) {
  int64_t longest = 0;
  for (int n = 0; n < s.N; n++) {
    const int64_t b = p.first_row + n;
    const int64_t length = b < rows.B ? rows.length(b) : 0;
    longest = length > longest ? length : longest;
  }
  return longest;
}

// The block's rows of W_hh [G*H, H] into shared memory, [gate, unit] by K columns; zero beyond H.
template <class T>
__device__ __forceinline__ void load_weights(const FmaShape& s, int rank, int64_t H, const T* from, T* to) {
  for (int e = static_cast<int>(threadIdx.x); e < s.rows * s.K; e += kFmaThreads) {
    const int row = e / s.K, k = e - row * s.K, g = row / s.units;
    const int64_t unit = static_cast<int64_t>(rank) * s.units + (row - g * s.units);
    to[e] = unit < H && k < H ? from[(g * H + unit) * H + k] : narrow<T>(0.f);
  }
}

// v[0 .. V-1] summed over the lanes that differ in bits M, M/2, .. 1. Halves are traded as long as there are two, so
// that each lane ends with V / (2M) of the sums (at least one).
template <int V, int M>
__device__ __forceinline__ void fold(float* v, int lane) {
  if constexpr (M > 0 && V > 1) {
    const bool upper = (lane & M) != 0;
#pragma unroll
    for (int i = 0; i < V / 2; i++) {
      const float given = upper ? v[i] : v[i + V / 2], kept = upper ? v[i + V / 2] : v[i];
      v[i] = kept + __shfl_xor_sync(~0u, given, M);
    }
    fold<V / 2, M / 2>(v, lane);
  } else if constexpr (M > 0) {
    v[0] += __shfl_xor_sync(~0u, v[0], M);
    fold<1, M / 2>(v, lane);
  }
}

// A warp's share of a product, the same at every step: part `part` of the sum, over begin .. end of its terms; the
// first output of the warp and the distance to its next ones.
struct FmaShare {
  int part, begin, end, first, stride;

  // terms: how many the sum has, in units that are not split; outputs: how many a warp takes at a time.
  __device__ __forceinline__ FmaShare(const FmaShape& s, int terms, int unit, int outputs) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    part = warp % s.parts;
    begin = part * (terms / unit) / s.parts * unit;
    end = (part + 1) * (terms / unit) / s.parts * unit;
    first = warp / s.parts * outputs;
    stride = kFmaWarps / s.parts * outputs;
  }
};

// sums[part, n, row] = W[row, :] . h[n, :] over the part's columns. A warp takes 16 rows at a time, 4 to every 8 lanes,
// which share the columns.
template <int N, class T>
__device__ __forceinline__ void fma_rows(const FmaShape& s, const FmaShare& share, const T* w, const float* h,
                                         float* sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32, kl = lane & 7;
  for (int tile = share.first; tile < s.rows; tile += share.stride) {
    const int row = tile + (lane >> 3) * 4;
    const bool live = row < s.rows;
    const T* from = w + (live ? row : 0) * s.K;
    float acc[4 * N];
#pragma unroll
    for (int i = 0; i < 4 * N; i++) acc[i] = 0.f;
    for (int k = share.begin + kl * 4; k < share.end; k += 32) {
      Four weights[4];
#pragma unroll
      for (int i = 0; i < 4; i++) weights[i] = load4(from + i * s.K + k);
#pragma unroll
      for (int n = 0; n < N; n++) {
        const Four x = load4(h + n * s.K + k);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
          for (int e = 0; e < 4; e++) acc[i * N + n] += weights[i].v[e] * x.v[e];
      }
    }
    fold<4 * N, 4>(acc, kl);
    constexpr int kKept = 4 * N >= 8 ? 4 * N / 8 : 1;
    const int first = N == 1 ? kl >> 1 : kl * kKept;
#pragma unroll
    for (int j = 0; j < kKept; j++) {
      const int i = (first + j) / N, n = (first + j) % N;
      // With one row of h, both lanes of a pair have the sum.
      if (live && (N > 1 || kl % 2 == 0)) sums[(share.part * N + n) * s.rows + row + i] = acc[j];
    }
  }
}

// sums[part, n, k] = sum over the part's rows of dg[n, row] W[row, k]. A warp takes 128 columns, 4 to a lane.
template <int N, class T>
__device__ __forceinline__ void fma_columns(const FmaShape& s, const FmaShare& share, const T* w, const float* dg,
                                            float* sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int k = share.first + lane * 4; k < s.K; k += share.stride) {
    Four acc[N];
#pragma unroll
    for (int n = 0; n < N; n++) acc[n] = Four{};
    for (int row = share.begin; row < share.end; row += 4) {
      Four weights[4];
#pragma unroll
      for (int i = 0; i < 4; i++) weights[i] = load4(w + (row + i) * s.K + k);
#pragma unroll
      for (int n = 0; n < N; n++) {
        const Four g = load4(dg + n * s.rows + row);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
          for (int e = 0; e < 4; e++) acc[n].v[e] += g.v[i] * weights[i].v[e];
      }
    }
#pragma unroll
    for (int n = 0; n < N; n++) *reinterpret_cast<Four*>(sums + (share.part * N + n) * s.K + k) = acc[n];
  }
}

#if FUSEDRNN_HAS_CLUSTERS
// The thread's place where a team is a cluster, or a block alone.
__device__ __forceinline__ FmaPlace fma_place(const FmaShape& s, const Rows& rows, int64_t H) {
  const int rank = s.R > 1 ? static_cast<int>(cluster_rank()) : 0;
  return FmaPlace(s, rows, H, static_cast<int>(blockIdx.y), rank, blockIdx.x / s.R);
}
// Two barriers at the start of shared memory, armed for arrivals 1 and 2 of `arrivals`. By one thread.
__device__ __forceinline__ void start_phases(uint32_t base, int64_t arrivals, int bytes) {
  phase_init(base);
  phase_init(base + 8);
  phase_init_fence();
  if (arrivals >= 1) phase_arm(base + 8, static_cast<uint32_t>(bytes));
  if (arrivals >= 2) phase_arm(base, static_cast<uint32_t>(bytes));
}
// Waits for arrival i = 1, 2, .. and lets thread 0 arm its barrier for arrival i + 2. Every thread of the block waits.
__device__ __forceinline__ void next_phase(uint32_t base, int64_t i, int64_t arrivals, int bytes) {
  const uint32_t barrier = base + static_cast<uint32_t>(i & 1) * 8;
  phase_wait(barrier, static_cast<uint32_t>((i - 1) >> 1) & 1);
  if (threadIdx.x == 0 && i + 2 <= arrivals) phase_arm(barrier, static_cast<uint32_t>(bytes));
}
#endif

}  // namespace fusedrnn::cuda
