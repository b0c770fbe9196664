// When the cluster family can run a layer, and with which of its compiled shapes (cluster_geometry.h).
#include <string>

#include "cell_table.h"
#include "cluster_geometry.h"
#include "plan.h"

namespace fusedrnn::cuda {
namespace {

struct ShapeFacts {
  int H, R, tiles, threads, shared, units, fragments;
};

template <class Cell>
void shape_facts(bool backward, int variant, ShapeFacts& out) {
  int i = 0;
  const auto set = [&](auto shape) {
    using S = decltype(shape);
    if (i++ == variant) out = {S::kH, S::kR, S::kTiles, S::kThreads, S::kShared, S::kUnits, S::kWarps * S::kFragments};
  };
#define FUSEDRNN_SHAPE(H, R, TILES)               \
  if (backward)                                   \
    set(ClusterShape<Cell, H, R, TILES, true>{}); \
  else                                            \
    set(ClusterShape<Cell, H, R, TILES, false>{});
  FUSEDRNN_CLUSTER_SHAPES(FUSEDRNN_SHAPE)
#undef FUSEDRNN_SHAPE
}

#define FUSEDRNN_ONE(H, R, TILES) +1
constexpr int kVariants = 0 FUSEDRNN_CLUSTER_SHAPES(FUSEDRNN_ONE);
#undef FUSEDRNN_ONE

// How many clusters of R blocks, one block to a multiprocessor, surely run at once. A processing cluster of the chip
// has 16 or 18 multiprocessors, of which a thread-block cluster needs R; on an H200 (132) the runtime reports 15
// clusters of 8 and 7 of 16.
int resident(const Device& dev, int R) { return R > 8 ? dev.sms / 18 : dev.sms / 18 * (16 / R) + (R == 8 ? 1 : 0); }

// Microseconds of a step, forward and backward, as measured with the LSTM on an H200 (docs/gpu-notes.md); the other
// cells keep the order.
struct Cost {
  int H, R, tiles;
  double forward, backward;
};
constexpr Cost kCosts[] = {{128, 8, 1, 0.45, 0.51},  {128, 8, 2, 0.72, 0.77},  {256, 8, 1, 0.69, 0.80},
                           {256, 8, 2, 1.42, 1.72},  {384, 8, 1, 1.05, 1.60},  {384, 12, 1, 0.81, 1.10},
                           {512, 16, 1, 0.94, 1.38}, {512, 16, 2, 1.94, 2.68}, {768, 16, 1, 2.37, 2.68},
                           {1024, 16, 1, 6.43, 6.83}};
double step_cost(int H, int R, int tiles, bool backward) {
  for (const Cost& c : kCosts)
    if (c.H == H && c.R == R && c.tiles == tiles) return backward ? c.backward : c.forward;
  return 5;
}

std::string refusal(const Problem& p, const Device& dev) {
  if (dev.arch < 90 || dev.max_cluster < 8) return "needs thread-block clusters";
  if (p.dtype != DType::bf16 && p.dtype != DType::f16) return "holds 16-bit weights only";
  if (p.projects) return "does not project";
  if (p.n.H % 2) return "needs an even H";
  if (p.n.B < 1 || p.n.T < 1) return "nothing to do";
  if (p.n.T > (int64_t(1) << 30)) return "counts steps in 32 bits";
  return "";
}

}  // namespace

bool plan_cluster(const Problem& p, const Device& dev, bool backward, Plan& plan) {
  plan.why = refusal(p, dev);
  if (!plan.why.empty()) return false;
  plan.why = "W_hh does not fit a cluster";
  int smallest = 0;  // only the smallest padded size that holds H
  for (int v = 0; v < kVariants; v++) {
    ShapeFacts s{};
    with_cell(p.cell, [&](auto cell) { shape_facts<decltype(cell)>(backward, v, s); });
    if (s.H < p.n.H || (smallest && s.H != smallest)) continue;
    if (s.R > dev.max_cluster || s.shared > dev.smem_block || s.threads * 32 > dev.regs_sm) continue;
    const int at_once = resident(dev, s.R);
    if (at_once == 0) continue;
    smallest = s.H;
    const int64_t rows = 8 * s.tiles, clusters = (p.n.B + rows - 1) / rows * p.n.D;
    const int64_t waves = (clusters + at_once - 1) / at_once;
    const double cost = double(waves) * step_cost(s.H, s.R, s.tiles, backward);
    if ((plan.cluster && cost >= plan.step_us) || clusters * s.R > (int64_t(1) << 30)) continue;
    plan.step_us = cost;
    plan.variant = v;
    plan.cluster = s.R;
    plan.blocks = int((p.n.B + rows - 1) / rows) * s.R;
    plan.threads = s.threads;
    plan.smem = s.shared;
    plan.tile_batch = int(rows);
    plan.tile_units = s.units;
    plan.workspace = p.n.D * int64_t(s.R) * s.fragments * 512;
  }
  if (plan.cluster == 0) {
    if (smallest) plan.why = "too many rows to count";
    return false;
  }
  plan.why =
      "W_hh stays in " + std::to_string(plan.cluster) + " multiprocessors, padded to H " + std::to_string(smallest);
  return true;
}

}  // namespace fusedrnn::cuda
