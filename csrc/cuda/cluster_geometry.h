// The geometry of the cluster family: how W_hh, the state and the work of a step are laid over a thread-block cluster.
//
// R blocks own one group of kTiles batch tiles (8 rows each) and one direction. Block
// `rank` owns kUnits = H / R hidden units, in groups of 8; two warps serve a group, and every thread finishes exactly
// one (unit, row) of each tile: lane 4g + t of warp 2 group + part the unit g of the group and the row 2t + part.
//
// Weights are A fragments of mma.m16n8k16, stationary for the whole sequence: in registers as far as they fit, the rest
// in shared memory. pack_weights lays them out so that a thread reads its own with 16-byte loads.
#pragma once
#include <cstdint>

#include "../cells/all.h"

namespace fusedrnn::cuda {

// The compiled shapes: units (with padding), blocks of a cluster, batch tiles of a cluster. A plan's `variant` is the
// place in this list. (The tests with seeded faults compile one shape, to be quick.)
#if defined(FUSEDRNN_CLUSTER_ONE_SHAPE)
#define FUSEDRNN_CLUSTER_SHAPES(X) X(128, 8, 1)
#else
#define FUSEDRNN_CLUSTER_SHAPES(X) \
  X(128, 8, 1)                     \
  X(128, 8, 2)                     \
  X(256, 8, 1)                     \
  X(256, 8, 2)                     \
  X(384, 8, 1)                     \
  X(384, 12, 1)                    \
  X(512, 16, 1)                    \
  X(512, 16, 2)                    \
  X(768, 16, 1)                    \
  X(1024, 16, 1)
#endif

inline constexpr int kTileRows = 8;
inline constexpr int kSharedMost = 227 * 1024;  // bytes of a block on sm_90 and sm_100

// How many fragments (4 registers each) a thread keeps: the cap per thread follows the warps per scheduler (255
// registers to 8 warps, 168 to 12, 128 to 16), and a step needs 60 to 100 beside the weights, more with more tiles.
constexpr int register_fragments(int warps, int tiles, bool backward, int wanted) {
  if (warps <= 8) return tiles == 1 ? 36 : backward ? 24 : 32;
  if (warps <= 12) return !backward ? 21 : wanted > 24 ? 20 : 18;
  return 2;
}

// Bit q: the recurrent part of gate q keeps its bias apart from the inputs.
template <class Cell>
constexpr unsigned biases_apart() {
  unsigned bits = 0;
  for (int q = 0; q < Cell::G; q++) bits |= unsigned(Cell::h_bias_apart(q)) << q;
  return bits;
}

// H: units with padding; R: blocks of a cluster; TILES: batch tiles of a cluster.
template <class Cell_, int H_, int R_, int TILES_, bool BACKWARD>
struct ClusterShape {
  using Cell = Cell_;
  static constexpr unsigned kBiasesApart = biases_apart<Cell_>();
  static constexpr int kH = H_, kR = R_, kTiles = TILES_, kUnits = kH / kR;
  static constexpr int kWarps = kUnits / 4, kThreads = 32 * kWarps;
  static_assert(kH % 64 == 0 && kUnits % 16 == 0 && kR % 4 == 0 && kWarps <= 16);

  // A warp's products: kM tiles of 16 rows times kBlocks blocks of 32 columns. Forward: an m-tile is two gates of the
  // group's 8 units, the columns are half of the units (the two warps of a group split them). Backward: the m-tiles are
  // shares of all units, the columns are the block's own gate rows, zero-padded.
  static constexpr int kDepth = BACKWARD ? (Cell::G * kUnits + 31) / 32 * 32 : kH;
  static constexpr int kM = BACKWARD ? kR / 4 : (Cell::G + 1) / 2;
  static constexpr int kBlocks = BACKWARD ? kDepth / 32 : kH / 64;
  static constexpr int kFragments = kM * kBlocks * 2;

  // Shared memory: barriers, what arrives (two buffers of kTiles each), what the block's own warps exchange, weights.
  static constexpr int kArrival = BACKWARD ? kTileRows * kUnits * kR * 4 : kTileRows * kH * 2;
  static constexpr int kOwn = BACKWARD ? 2 * kTileRows * kDepth * 2 : kWarps * 512;
  static constexpr int kArrivalAt = 128, kBuffer = kTiles * kArrival, kOwnAt = kArrivalAt + 2 * kBuffer;
  static constexpr int kWeightsAt = kOwnAt + kTiles * kOwn;

  // Fragments too many for the registers are in shared memory; what has no room there either is read from the L2 cache
  // at every step.
  static constexpr int kMost = register_fragments(kWarps, kTiles, BACKWARD, kFragments);
  static constexpr int kInRegisters = kFragments < kMost ? kFragments : kMost;
  static constexpr int kRoom = (kSharedMost - kWeightsAt) / (kWarps * 512);
  static constexpr int kInShared = kFragments - kInRegisters < kRoom ? kFragments - kInRegisters : kRoom;
  static constexpr int kStreamed = kFragments - kInRegisters - kInShared;
  static constexpr int kShared = kWeightsAt + kWarps * kInShared * 512;
};

}  // namespace fusedrnn::cuda
