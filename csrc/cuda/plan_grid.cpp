// When the grid family can run a layer, and how it is cut into tiles (fma.h).
#include <algorithm>
#include <string>

#include "fma_plan.h"

namespace fusedrnn::cuda {
namespace {

// What a step costs whatever its size, and the exchange; fitted to measurements on an H200 (docs/gpu-notes.md).
double step_cycles(const FmaShape& s, int weight, bool backward) {
  const double exchange = double(s.N) * s.K * 4 / 16;  // a multiprocessor's share of the L2 cache's bandwidth, in bytes
  return (backward ? 7000 + 2 * exchange : 5000 + exchange) + product_cycles(s, weight);
}

}  // namespace

bool plan_grid(const Problem& p, const Device& dev, bool backward, Plan& plan) {
  plan.why = fma_refusal(p);
  if (!plan.why.empty()) return false;
  plan.why = "W_hh does not fit the chip";
  const int weight = p.dtype == DType::f32 ? 4 : 2;
  for (int units : {4, 8, 12, 16, 24, 32})
    for (int N : {1, 4, 8, 16}) {
      const int R = int((p.n.H + units - 1) / units);
      const FmaShape s = FmaShape::of(cells::kCells[p.cell].G, p.n.H, R, N, backward, weight, true);
      if (s.units != units || !fits_grid(s, dev) || !shape_allowed("FUSEDRNN_GRID_SHAPE", R, N)) continue;
      const int64_t tiles = (p.n.B + N - 1) / N, pairs = tiles * p.n.D,
                    together = std::min<int64_t>(dev.sms / R, pairs);
      const double waves = double((pairs + together - 1) / together);
      const double cost = waves * step_cycles(s, weight, backward) / kCyclesPerUs;
      if (plan.blocks && cost >= plan.step_us) continue;
      plan = Plan{};
      plan.variant = R;
      plan.blocks = int(together) * R;
      plan.threads = kFmaThreads;
      plan.smem = s.shared;
      plan.tile_batch = N;
      plan.tile_units = s.units;
      plan.step_us = cost;
      plan.workspace =
          (pairs * R + std::min(together, pairs) * 2 * (backward ? int64_t(R) * R * s.items : int64_t(N) * s.K)) * 4;
      plan.why = "W_hh stays in the shared memory of " + std::to_string(R) + " multiprocessors";
    }
  return plan.blocks > 0;
}

}  // namespace fusedrnn::cuda
