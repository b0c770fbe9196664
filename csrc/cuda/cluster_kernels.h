// What the cluster kernels take. The forward and the backward kernel are in cluster_forward.h and cluster_backward.h;
// each cluster_<cell>.cu compiles the rows of the table for one cell.
#pragma once
#include "cluster_shape.h"
#include "rows.h"

namespace fusedrnn::cuda {

// Pointers as in Recurrence (family.h); directions follow each other in every array but the biases.
template <class T>
struct ClusterForward {
  Rows rows;
  int64_t H;
  int D;
  const Quad* weights;
  const T* b_ih[2];
  const T* b_hh[2];
  const T* gx;  // may be the memory of gates
  int64_t gx_ld;
  const T *h0, *c0;
  T *y, *h_n, *c_n, *gates;
  float* cells;
};

// Pointers as in RecurrenceGrad.
template <class T>
struct ClusterBackward {
  Rows rows;
  int64_t H;
  int D;
  const Quad* weights;
  const T *gates, *y, *h0, *c0;
  const float* cells;
  const T *dy, *dhn, *dcn;
  T *dgates, *dh0, *dc0;
};

// The kernels of one cell and type, by variant (defined and instantiated in cluster_<cell>_*.cu).
template <class T>
using ForwardKernel = void (*)(ClusterForward<T>);
template <class T>
using BackwardKernel = void (*)(ClusterBackward<T>);
template <class Cell, class T>
ForwardKernel<T> cluster_forward_variant(int variant);
template <class Cell, class T>
BackwardKernel<T> cluster_backward_variant(int variant);

// Where a thread stands in its cluster (cluster_geometry.h).
template <class S>
struct Place {
  int warp, lane, g, t, part, d, rank;
  int unit;     // the unit it finishes
  int64_t row;  // the row of tile 0

  __device__ __forceinline__ Place() {
    const int thread = static_cast<int>(threadIdx.x);
    warp = thread >> 5;
    lane = thread & 31;
    g = lane >> 2;
    t = lane & 3;
    part = warp & 1;
    d = static_cast<int>(blockIdx.y);
    rank = static_cast<int>(cluster_rank());
    unit = rank * S::kUnits + (warp >> 1) * 8 + g;
    row = static_cast<int64_t>(blockIdx.x / S::kR) * (S::kTiles * kTileRows) + 2 * t + part;
  }
};

// The longest row of the cluster's tiles: how many steps it takes. The same in every block of the cluster.
template <class S>
__device__ __forceinline__ int longest_row(const Rows& rows) {
  if (!rows.lengths) return static_cast<int>(rows.T);
  const int64_t first = static_cast<int64_t>(blockIdx.x / S::kR) * (S::kTiles * kTileRows);
  int64_t longest = 0;
  for (int n = 0; n < S::kTiles * kTileRows && first + n < rows.B; n++) {
    const int64_t length = rows.length(first + n);
    longest = length > longest ? length : longest;
  }
  return static_cast<int>(longest);
}

// A thread's weights: fragments in registers, then in shared memory, where each lane reads only what it wrote, then
// those that are read anew at every step.
template <class S>
struct Stationary {
  Quad registers[S::kInRegisters];
  uint32_t shared;
  const Quad* streamed;

  __device__ __forceinline__ void load(const Quad* packed, const Place<S>& p, uint32_t base) {
    const Quad* mine = packed + (((int64_t(p.d) * S::kR + p.rank) * S::kWarps + p.warp) * S::kFragments) * 32 + p.lane;
    shared = base + S::kWeightsAt + (p.warp * S::kInShared * 32 + p.lane) * 16;
    streamed = mine + (S::kInRegisters + S::kInShared) * 32;
#pragma unroll
    for (int f = 0; f < S::kInRegisters; f++) registers[f] = mine[f * 32];
#pragma unroll 4
    for (int f = 0; f < S::kInShared; f++) store_shared16(shared + f * 512, mine[(S::kInRegisters + f) * 32]);
  }
  __device__ __forceinline__ Quad fragment(int f) const {
    if (f < S::kInRegisters) return registers[f < S::kInRegisters ? f : 0];
    if (f < S::kInRegisters + S::kInShared) return load_shared16(shared + (f - S::kInRegisters) * 512);
    return load_constant16(streamed + (f - S::kInRegisters - S::kInShared) * 32);
  }
};

// Values of one row that neighbouring units (lanes 4 apart) store together, 4 bytes at a time: stores of 2 bytes are
// much slower. Needs an even number of units. COUNT 1: the even unit stores both. COUNT 4: the even unit stores the
// values 0 and 1 of both, the odd one 2 and 3.
template <int COUNT>
struct PairStore {
  // From the place of a thread's own unit to the first that it stores.
  __device__ __forceinline__ static int64_t offset(int g, int64_t gate) {
    return (g & 1) * (COUNT == 4 ? 2 * gate - 2 : int64_t(-2));
  }
  __device__ __forceinline__ static void store(bool live, int g, char* at, int64_t gate, const uint16_t (&v)[COUNT]) {
    static_assert(COUNT == 1 || COUNT == 4);
    const bool odd = g & 1;
    uint32_t keep = v[0], give = v[0];
    if constexpr (COUNT == 4) {
      const uint32_t low = v[0] | uint32_t(v[1]) << 16, high = v[2] | uint32_t(v[3]) << 16;
      keep = odd ? high : low;
      give = odd ? low : high;
    }
    const uint32_t got = __shfl_xor_sync(~0u, give, 4);
    const uint32_t first = odd ? got : keep, second = odd ? keep : got;
    store4_if(live && (COUNT == 4 || !odd), at, (first & 0xffff) | second << 16);
    if constexpr (COUNT == 4) store4_if(live, at + gate, first >> 16 | (second & 0xffff0000u));
  }
};

// sum[j][m] = the warp's m-tile times the operand of tile j, whose first block that concerns the warp stands at
// `operand` for this lane; tiles are `stride` bytes apart. Where the products are too few to hide their latency, two
// chains share a sum.
template <class S, class T>
__device__ __forceinline__ void product(const Stationary<S>& w, uint32_t operand, int stride,
                                        float (&sum)[S::kTiles][S::kM][4]) {
  constexpr int kChains = S::kM * S::kTiles >= 3 ? 1 : 2;
  float other[S::kTiles][S::kM][4];
#pragma unroll
  for (int j = 0; j < S::kTiles; j++)
#pragma unroll
    for (int m = 0; m < S::kM; m++)
#pragma unroll
      for (int e = 0; e < 4; e++) sum[j][m][e] = other[j][m][e] = 0.f;
#pragma unroll
  for (int block = 0; block < S::kBlocks; block++) {
    Quad b[S::kTiles];
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) b[j] = load_shared16(operand + static_cast<uint32_t>(j * stride + block * 512));
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int m = 0; m < S::kM; m++) {
        const Quad a = w.fragment((block * 2 + half) * S::kM + m);
#pragma unroll
        for (int j = 0; j < S::kTiles; j++)
          multiply<T>(half % kChains ? other[j][m] : sum[j][m], a, b[j].v[2 * half], b[j].v[2 * half + 1]);
      }
  }
  if constexpr (kChains == 2) {
#pragma unroll
    for (int j = 0; j < S::kTiles; j++)
#pragma unroll
      for (int m = 0; m < S::kM; m++)
#pragma unroll
        for (int e = 0; e < 4; e++) sum[j][m][e] += other[j][m][e];
  }
}

}  // namespace fusedrnn::cuda
