// When the fma family can run a layer, and how it is cut into tiles (fma.h).
#include <algorithm>
#include <string>

#include "fma_plan.h"

namespace fusedrnn::cuda {
namespace {

// How many clusters of R blocks, one block to a multiprocessor, run at once: a processing cluster of the chip has 16 or
// 18 multiprocessors, and one thread-block cluster stays within it.
int64_t resident(const Device& dev, int R) {
  return R > 8 ? std::max(1, dev.sms / 18) : std::max(1, dev.sms / 18 * (16 / R));
}

// What a step costs whatever its size, and the exchange; fitted to measurements on an H200 (docs/gpu-notes.md).
double step_cycles(const FmaShape& s, bool backward) {
  return (backward ? 2200 + 300.0 * s.R : 2100 + 80.0 * s.R) + product_cycles(s, 4);
}

}  // namespace

bool plan_fma(const Problem& p, const Device& dev, bool backward, Plan& plan) {
  plan.why = fma_refusal(p);
  if (plan.why.empty() && p.dtype != DType::f32) plan.why = "holds float32 weights only";
  if (plan.why.empty() && (dev.arch < 90 || dev.max_cluster < 8)) plan.why = "needs thread-block clusters";
  if (!plan.why.empty()) return false;
  plan.why = "W_hh does not fit a cluster";
  for (int R : {1, 2, 4, 8, 16})
    for (int N : {1, 2, 4, 8}) {
      const FmaShape s = FmaShape::of(cells::kCells[p.cell].G, p.n.H, R, N, backward);
      if (!fits_cluster(s, dev) || !shape_allowed("FUSEDRNN_FMA_SHAPE", R, N)) continue;
      const int64_t tiles = (p.n.B + N - 1) / N, clusters = tiles * p.n.D;
      const double waves = double((clusters + resident(dev, R) - 1) / resident(dev, R));
      const double cost = waves * step_cycles(s, backward) / kCyclesPerUs;
      if ((plan.blocks && cost >= plan.step_us) || tiles * R > (int64_t(1) << 30)) continue;
      plan = Plan{};
      plan.cluster = R;
      plan.blocks = int(tiles) * R;
      plan.threads = kFmaThreads;
      plan.smem = s.shared;
      plan.tile_batch = N;
      plan.tile_units = s.units;
      plan.step_us = cost;
      plan.why = "W_hh stays in the shared memory of a cluster of " + std::to_string(R);
    }
  return plan.blocks > 0;
}

}  // namespace fusedrnn::cuda
