// When the fma family can run a layer, and how it is cut into tiles (fma.h).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "fma.h"

namespace fusedrnn::cuda {
namespace {

// How many clusters of R blocks, one block to a multiprocessor, run at once: a processing cluster of the chip has 16 or
// 18 multiprocessors, and one thread-block cluster stays within it.
int64_t resident(const Device& dev, int R) {
  return R > 8 ? std::max(1, dev.sms / 18) : std::max(1, dev.sms / 18 * (16 / R));
}

// Cycles of a step on one multiprocessor: the larger of arithmetic (128 products a cycle) and reads of shared memory
// (128 bytes a cycle).
double product_cycles(const FmaShape& s, int weight) {
  const double cells = double(s.rows) * s.K;
  return 1.3 * std::max(cells * s.N / 128, cells * (weight + s.N * 0.5) / 128);
}
// What a step costs whatever its size, and the exchange; fitted to measurements on an H200 (docs/gpu-notes.md).
double cluster_cycles(const FmaShape& s, bool backward) {
  return (backward ? 2200 + 300.0 * s.R : 2100 + 80.0 * s.R) + product_cycles(s, 4);
}
double grid_cycles(const FmaShape& s, int weight, bool backward) {
  const double exchange = double(s.N) * s.K * 4 / 16;  // a multiprocessor's share of the L2 cache's bandwidth, in bytes
  return (backward ? 7000 + 2 * exchange : 5000 + exchange) + product_cycles(s, weight);
}

// A step of the step family: two launches, of which the host makes one in about five microseconds.
constexpr double kStepFamily = 18000;

// FUSEDRNN_FMA_SHAPE=R,N allows one shape of a cluster alone, FUSEDRNN_FMA_GRID=R,N one of a grid; for tests and
// measurements.
bool allowed(bool grid, int R, int N) {
  const char* cluster_wish = std::getenv("FUSEDRNN_FMA_SHAPE");
  const char* grid_wish = std::getenv("FUSEDRNN_FMA_GRID");
  const char* wish = grid ? grid_wish : cluster_wish;
  if (!wish || !*wish) return !((grid ? cluster_wish : grid_wish) && *(grid ? cluster_wish : grid_wish));
  int r = 0, n = 0;
  return std::sscanf(wish, "%d,%d", &r, &n) == 2 && r == R && n == N;
}

struct Choice {
  double best = kStepFamily;
  bool any = false;  // some shape fits the device
};

void try_clusters(const Problem& p, const Device& dev, bool backward, Plan& plan, Choice& c) {
  if (p.dtype != DType::f32 || dev.arch < 90 || dev.max_cluster < 8) return;
  for (int R : {1, 2, 4, 8, 16})
    for (int N : {1, 2, 4, 8}) {
      const FmaShape s = FmaShape::of(cells::kCells[p.cell].G, p.n.H, R, N, backward);
      if (!fits_cluster(s, dev) || !allowed(false, R, N)) continue;
      c.any = true;
      const int64_t tiles = (p.n.B + N - 1) / N, clusters = tiles * p.n.D;
      const double cost = double((clusters + resident(dev, R) - 1) / resident(dev, R)) * cluster_cycles(s, backward);
      if (cost >= c.best || tiles * R > (int64_t(1) << 30)) continue;
      c.best = cost;
      plan = Plan{};
      plan.cluster = R;
      plan.blocks = int(tiles) * R;
      plan.smem = s.shared;
      plan.tile_batch = N;
      plan.tile_units = s.units;
      plan.why = "W_hh stays in the shared memory of a cluster of " + std::to_string(R);
    }
}

void try_grids(const Problem& p, const Device& dev, bool backward, Plan& plan, Choice& c) {
  const int weight = p.dtype == DType::f32 ? 4 : 2;
  for (int units : {4, 8, 12, 16, 24, 32})
    for (int N : {1, 4, 8, 16}) {
      const int R = int((p.n.H + units - 1) / units);
      const FmaShape s = FmaShape::of(cells::kCells[p.cell].G, p.n.H, R, N, backward, weight, true);
      if (s.units != units || !fits_grid(s, dev) || !allowed(true, R, N)) continue;
      c.any = true;
      const int64_t tiles = (p.n.B + N - 1) / N, pairs = tiles * p.n.D,
                    together = std::min<int64_t>(dev.sms / R, pairs);
      const double cost = double((pairs + together - 1) / together) * grid_cycles(s, weight, backward);
      if (cost >= c.best) continue;
      c.best = cost;
      plan = Plan{};
      plan.variant = R;
      plan.blocks = int(together) * R;
      plan.smem = s.shared;
      plan.tile_batch = N;
      plan.tile_units = s.units;
      plan.workspace = pairs * (R + 2 * (backward ? int64_t(R) * R * s.items : int64_t(N) * s.K)) * 4;
      plan.why = "W_hh stays in the shared memory of " + std::to_string(R) + " multiprocessors";
    }
}

std::string refusal(const Problem& p) {
  if (p.dtype == DType::f64) return "computes in float32";
  if (p.projects) return "does not project";
  if (p.n.B < 1 || p.n.T < 1) return "nothing to do";
  if (p.n.H > 4096) return "W_hh does not fit the chip";
  return "";
}

}  // namespace

bool plan_fma(const Problem& p, const Device& dev, bool backward, Plan& plan) {
  plan.why = refusal(p);
  if (!plan.why.empty()) return false;
  Choice choice;
  Plan found;
  try_clusters(p, dev, backward, found, choice);
  try_grids(p, dev, backward, found, choice);
  if (found.blocks == 0) {
    plan.why = choice.any ? "too many rows to run at once" : "W_hh does not fit the chip";
    return false;
  }
  plan = found;
  plan.threads = kFmaThreads;
  return true;
}

}  // namespace fusedrnn::cuda
