// The block family: float32 layers of up to 128 units, a tile of batch rows of one direction on one multiprocessor for
// the whole sequence. W_hh stays in the registers of the block, what does not fit there in its shared memory; nothing
// leaves the multiprocessor but the outputs, and a step costs one barrier.
//
// Four threads share a unit (backward: a column of W_hh) and split the sum; each holds all gates of its quarter of the
// terms. After the sum is folded over the four, one of them finishes the unit for each row: the first for N = 1, each
// its own row for N = 4. As in the fma family, steps are counted per row in walking order.
#pragma once
#include <algorithm>

#include "fma.h"

namespace fusedrnn::cuda {

inline constexpr int kBlockLanes = 4;  // threads that share a unit

// H rounded up to what kernels are compiled for, and the rows of a tile.
inline constexpr int kBlockUnits[] = {32, 64, 96, 128};
inline constexpr int kBlockRows[] = {1, 4};

// Where a thread's weights are, a matter of the kernel alone: G cells' gates, K units, N rows.
struct BlockSplit {
  int weights;   // of a thread: G * K / 4
  int room;      // registers for weights, a multiple of 4
  int resident;  // weights in registers; the others are in shared memory

  static constexpr BlockSplit of(int G, int K, int N) {
    const int threads = K * kBlockLanes, most = std::min(255, 65536 / threads / 8 * 8);
    const int weights = G * K / kBlockLanes;
    // What remains for everything else: addresses, a step's inputs twice, sums and operands.
    const int spare = 92 + 4 * G + (N > 1 ? 4 * N + 8 : 0), room = (most - spare) / 4 * 4;
#if defined(FUSEDRNN_FEW_VARIANTS)
    return {weights, room, std::min(weights, room > 12 ? 12 : 4)};  // so that small layers take both paths
#else
    return {weights, room, std::min(weights, room)};
#endif
  }
  // Whether such a kernel is compiled: not where most weights would be read from shared memory at every step.
  static constexpr bool holds(int G, int K, int N) { return G * K <= 384 && of(G, K, N).room >= 8; }
};

// The fma family's description of a tile with one block, for what both share; sums are not kept in memory.
inline FmaShape block_shape(int G, int K, int N, bool backward) {
  FmaShape s{};
  s.R = 1;
  s.N = N;
  s.units = s.K = K;
  s.rows = G * K;
  s.parts = 1;
  s.items = K * N;
  const BlockSplit split = BlockSplit::of(G, K, N);
  s.in_at = (split.weights - split.resident) * K * kBlockLanes * 4;
  s.shared = s.in_at + 2 * N * (backward ? s.rows : K) * 4;
  return s;
}

}  // namespace fusedrnn::cuda
