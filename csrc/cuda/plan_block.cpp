// When the block family can run a layer, and how it is cut into tiles (block.h).
#include <string>

#include "block.h"
#include "fma_plan.h"

namespace fusedrnn::cuda {
namespace {

// Cycles of a step, predicted and not yet measured: latencies (operand, folding, the cell, the barrier), and the larger
// of arithmetic (128 products a cycle) and reads of shared memory (128 bytes a cycle).
double step_cycles(int G, int K, int N, bool backward) {
  const BlockSplit split = BlockSplit::of(G, K, N);
  const double threads = K * kBlockLanes, read = (split.weights - split.resident) * threads * 4;
  const double operands = threads * N * (backward ? G : 1) * K / kBlockLanes;  // bytes, eight threads to an address
  return (backward ? 400 : 350) + std::max(threads * split.weights * N / 128, (read + operands / 2) / 128);
}

}  // namespace

bool plan_block(const Problem& p, const Device& dev, bool backward, Plan& plan) {
  plan.why = fma_refusal(p);
  if (plan.why.empty() && p.dtype != DType::f32) plan.why = "holds float32 weights only";
  if (!plan.why.empty()) return false;
  plan.why = "W_hh does not fit a multiprocessor";
  const int G = cells::kCells[p.cell].G;
  for (int K : kBlockUnits) {
    if (K < p.n.H) continue;
    for (int N : kBlockRows) {
      if (!BlockSplit::holds(G, K, N)) continue;
      const FmaShape s = block_shape(G, K, N, backward);
      const int threads = K * kBlockLanes;
      if (s.shared > dev.smem_block || threads > dev.threads_sm || !shape_allowed("FUSEDRNN_BLOCK_SHAPE", K, N))
        continue;
      const int64_t tiles = (p.n.B + N - 1) / N;
      const double waves = double((tiles * p.n.D + dev.sms - 1) / dev.sms);
      const double cost = waves * step_cycles(G, K, N, backward) / kCyclesPerUs;
      if ((plan.blocks && cost >= plan.step_us) || tiles > (int64_t(1) << 30)) continue;
      plan = Plan{};
      plan.blocks = int(tiles);
      plan.threads = threads;
      plan.smem = s.shared;
      plan.tile_batch = N;
      plan.tile_units = K;
      plan.step_us = cost;
      plan.why = "W_hh stays in one multiprocessor, padded to H " + std::to_string(K);
    }
    if (plan.blocks) break;  // a larger padding is never better
  }
  return plan.blocks > 0;
}

}  // namespace fusedrnn::cuda
