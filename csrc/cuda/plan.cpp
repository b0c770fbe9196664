#include "plan.h"

#include <cstdlib>
#include <stdexcept>

namespace fusedrnn::cuda {
namespace {

struct FamilyEntry {
  Family family;
  bool (*plan)(const Problem&, const Device&, bool, Plan&);
};
// In order of preference: the fewer multiprocessors have to agree on a step, the cheaper the step.
constexpr FamilyEntry kPersistent[] = {
    {Family::block, plan_block}, {Family::cluster, plan_cluster}, {Family::fma, plan_fma}, {Family::grid, plan_grid}};

// True when FUSEDRNN_CUDA_FAMILY names a family, which is then in `forced`.
bool forced_family(Family& forced) {
  const char* wish = std::getenv("FUSEDRNN_CUDA_FAMILY");
  if (!wish || !*wish) return false;
  for (Family f : {Family::step, Family::block, Family::cluster, Family::fma, Family::grid})
    if (std::string(wish) == name(f)) {
      forced = f;
      return true;
    }
  throw std::invalid_argument("fusedrnn: expected FUSEDRNN_CUDA_FAMILY to be step, block, cluster, fma or grid, got '" +
                              std::string(wish) + "'");
}

// The persistent kernels have run on compute capability 9.x and nowhere else (docs/gpu-notes.md). Elsewhere they are
// taken only where somebody asks for them by name.
bool proven_on(const Device& dev) { return dev.arch / 10 == 9; }

Plan make(const Problem& p, const Device& dev, bool backward) {
  Family forced{};
  const bool wish = forced_family(forced);
  Plan step;
  if (wish && forced == Family::step) {
    step.why = "FUSEDRNN_CUDA_FAMILY=step";
    return step;
  }
  if (!wish && !proven_on(dev)) {
    step.why = "persistent kernels have only run on compute capability 9.x so far; FUSEDRNN_CUDA_FAMILY asks for them";
    return step;
  }
  for (const FamilyEntry& entry : kPersistent) {
    if (wish && entry.family != forced) continue;
    Plan plan;
    if (entry.plan(p, dev, backward, plan)) {
      plan.family = entry.family;
      return plan;
    }
    if (!step.why.empty()) step.why += "; ";
    step.why += std::string(name(entry.family)) + ": " + plan.why;
  }
  return step;
}

}  // namespace

Device known_device(int arch) {
  switch (arch) {
    case 80:
      return {80, 108, 163 << 10, 164 << 10, 65536, 2048, 0, true};
    case 90:
      return {90, 132, 227 << 10, 228 << 10, 65536, 2048, 16, true};
    case 100:
      return {100, 148, 227 << 10, 228 << 10, 65536, 2048, 16, true};
  }
  throw std::invalid_argument("fusedrnn: expected an architecture of 80, 90 or 100, got " + std::to_string(arch));
}

Problem Problem::of(const ForwardArgs& a) {
  return {a.cell,
          a.dtype,
          a.tf32,
          a.n,
          a.w[0].hr != nullptr,
          a.lengths != nullptr,
          a.resets != nullptr,
          a.gates || a.cells || a.hidden};
}

const char* name(Family f) {
  switch (f) {
    case Family::block:
      return "block";
    case Family::cluster:
      return "cluster";
    case Family::fma:
      return "fma";
    case Family::grid:
      return "grid";
    default:
      return "step";
  }
}

Plan plan_forward(const Problem& p, const Device& dev) { return make(p, dev, false); }
Plan plan_backward(const Problem& p, const Device& dev) { return make(p, dev, true); }

std::vector<std::pair<std::string, std::string>> describe(const Plan& plan) {
  return {{"family", name(plan.family)},
          {"variant", std::to_string(plan.variant)},
          {"cluster", std::to_string(plan.cluster)},
          {"blocks", std::to_string(plan.blocks)},
          {"threads", std::to_string(plan.threads)},
          {"shared_memory", std::to_string(plan.smem)},
          {"tile_batch", std::to_string(plan.tile_batch)},
          {"tile_units", std::to_string(plan.tile_units)},
          {"workspace", std::to_string(plan.workspace)},
          {"why", plan.why}};
}

}  // namespace fusedrnn::cuda
