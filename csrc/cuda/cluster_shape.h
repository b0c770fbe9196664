// The layout of the products' operands and of the weights of the cluster family (cluster_geometry.h).
#pragma once
#include "cluster_geometry.h"
#include "prim.h"

namespace fusedrnn::cuda {

// The operand of the products, 8 rows by any number of columns of 2 bytes, in chunks of 8 columns by 8 rows. Byte
// offset of row n of a chunk. Rows of one parity stand together, so that what a warp finishes is 64 bytes in one piece
// (pieces travel as one packet; scattered, they cost 4 cycles per message), and are permuted by the chunk so that a
// warp's 16-byte loads (row g of chunk 4k + t) meet every bank once per quarter.
__device__ __forceinline__ uint32_t operand_offset(int chunk, int n) {
  return static_cast<uint32_t>(chunk * 128 + ((n & 1) * 4 + ((n >> 1) ^ (chunk & 3))) * 16);
}

// Packed weights: [D][R][warp][fragment][lane] of 16 bytes; fragment f = (block*2 + half)*kM + m.
struct WeightLayout {
  int64_t H;  // without padding
  int H_pad, R, units, warps, m, blocks, G;
  bool backward;
  int gate[4];  // backward: the gate of each run of `units` columns

  template <class S>
  static WeightLayout of(int64_t H, bool backward) {
    WeightLayout w{H, S::kH, S::kR, S::kUnits, S::kWarps, S::kM, S::kBlocks, S::Cell::G, backward, {}};
    for (int i = 0; i < S::Cell::G; i++) w.gate[i] = S::Cell::h_gate(i);
    return w;
  }
  __host__ __device__ __forceinline__ int64_t quads() const {
    return int64_t(R) * warps * blocks * 2 * m * 32;
  }  // of one direction

  // Where in W_hh [G*H, H] the element `e` (0..7) of a lane's fragment stands, or -1 for padding. Element e is half e&1
  // of register e>>1; the k of mma number `half` in a block of 32 columns are 8t + 4 half + {0, 1} and {2, 3}.
  __device__ __forceinline__ int64_t source(int rank, int warp, int f, int lane, int e) const {
    const int g = lane >> 2, t = lane & 3, reg = e >> 1;
    const int tile = f % m, half = f / m % 2, block = f / m / 2;
    const int row = g + 8 * (reg & 1), k = 8 * t + 4 * half + 2 * (reg >> 1) + (e & 1);
    int64_t w_row, column;
    if (backward) {
      const int own = block * 32 + k, run = own / units;
      if (run >= G) return -1;
      const int64_t unit = int64_t(rank) * units + own % units;
      column = backward_tile(rank, warp, tile) * 16 + row;
      if (unit >= H) return -1;
      w_row = gate[run] * H + unit;
    } else {
      const int64_t unit = int64_t(rank) * units + warp / 2 * 8 + g;
      const int gate = 2 * tile + (reg & 1);
      column = (warp % 2 * blocks + block) * 32 + k;
      if (unit >= H || gate >= G) return -1;
      w_row = gate * H + unit;
    }
    return column < H ? w_row * H + column : -1;
  }
  // Backward: which 16 units the m-tile of a warp stands for. Turned by the rank, so that the blocks of a cluster,
  // which run in step, do not all send to the same peer first.
  __device__ __forceinline__ int backward_tile(int rank, int warp, int tile) const {
    return (warp * m + tile + rank * (units / 16)) % (H_pad / 16);
  }
};

}  // namespace fusedrnn::cuda
