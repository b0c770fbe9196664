// The fma and the grid family: W_hh resident in the shared memory of a team of blocks, products by plain multiply-add
// in float32, which is exact for float32 layers. A team owns a tile of batch rows of one direction for the whole
// sequence; each of its blocks owns `units` hidden units, all their gates, and finishes them. Nothing but the states
// (forward) or their gradients (backward) travels. A team is either
//   fma: a cluster of up to 16 blocks: through distributed shared memory, counted in by an mbarrier (one block alone
//   needs neither), float32 only; or grid: up to as many blocks as the chip has multiprocessors, launched together:
//   through device memory (the L2 cache), with one flag per block.
//
// Steps are counted per row, s = 0 .. length-1 in walking order, so that rows of different lengths start together.
#pragma once
#include "cell_table.h"
#include "plan.h"

namespace fusedrnn::cuda {

inline constexpr int kFmaThreads = 256, kFmaWarps = kFmaThreads / 32;

// How a layer is cut into tiles, and where a block keeps what; computed on the host, the same for plan and kernel.
struct FmaShape {
  int R;      // blocks of a team
  int N;      // batch rows of a team: 1, 2, 4, 8 or 16
  int units;  // of a block, a multiple of 4; the last block's may reach beyond H
  int K;      // columns of W_hh with padding: R * units rounded up to 32
  int rows;   // G * units: rows of W_hh in a block
  int parts;  // how many warps share an output and add up their sums
  // Byte offsets in a block's shared memory, and its size: weights [rows, K]; what arrives (twice in a cluster);
  // backward, gate gradients [N, rows]; sums [parts, N, rows or K].
  int weights_at, in_at, own_at, sums_at, shared;
  int items;    // units * N: (unit, row) pairs of a block, one per thread
  int arrival;  // bytes that arrive per step: 4 for every pair of the cluster

  // weight: bytes of an element of W_hh. grid: the team exchanges through device memory.
  static FmaShape of(int G, int64_t H, int R, int N, bool backward, int weight = 4, bool grid = false) {
    FmaShape s{};
    s.R = R;
    s.N = N;
    s.units = static_cast<int>((H + R - 1) / R + 3) / 4 * 4;
    s.K = (R * s.units + 31) / 32 * 32;
    s.rows = G * s.units;
    s.items = s.units * N;
    s.arrival = s.R * s.items * 4;
    int groups = backward ? (s.K + 127) / 128 : (s.rows + 15) / 16;  // a warp's share without a split
    s.parts = 1;
    while (s.parts * 2 * groups <= kFmaWarps && s.parts * 2 <= (backward ? s.rows / 4 : s.K / 32)) s.parts *= 2;
    s.weights_at = 128;  // the barriers come first
    s.in_at = s.weights_at + s.rows * s.K * weight;
    // In a grid forward keeps one copy of the states, backward four partial sums to a thread.
    s.own_at =
        s.in_at + (grid ? (backward ? kFmaThreads * 16 : N * s.K * 4) : 2 * (backward ? s.arrival : N * s.K * 4));
    s.sums_at = s.own_at + (backward ? N * s.rows * 4 : 0);
    s.shared = s.sums_at + s.parts * N * (backward ? s.K : s.rows) * 4;
    return s;
  }
};

// Whether the shape runs on the device at all.
inline bool fits_cluster(const FmaShape& s, const Device& dev) {
  return s.items <= kFmaThreads && s.shared <= dev.smem_block && s.K <= 1024 && (s.R == 1 || s.R <= dev.max_cluster);
}
inline bool fits_grid(const FmaShape& s, const Device& dev) {
  return s.items <= kFmaThreads && s.shared <= dev.smem_block && s.R <= kFmaThreads && s.R <= dev.sms &&
         dev.cooperative;
}

}  // namespace fusedrnn::cuda
