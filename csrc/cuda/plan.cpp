#include "plan.h"

#include <cstdlib>
#include <stdexcept>

namespace fusedrnn::cuda {
namespace {

struct FamilyEntry {
  Family family;
  bool (*plan)(const Problem&, const Device&, bool, Plan&);
  // Compute capability (major) on which its kernels have run and been right (docs/gpu-notes.md); elsewhere the family
  // is taken only where somebody asks for it by name. 0: none yet.
  int proven;
};
constexpr FamilyEntry kPersistent[] = {{Family::block, plan_block, 0},
                                       {Family::cluster, plan_cluster, 9},
                                       {Family::fma, plan_fma, 9},
                                       {Family::grid, plan_grid, 9}};

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

Plan make(const Problem& p, const Device& dev, bool backward) {
  Family forced{};
  const bool wish = forced_family(forced);
  Plan step;
  if (wish && forced == Family::step) {
    step.why = "FUSEDRNN_CUDA_FAMILY=step";
    return step;
  }
  step.step_us = kStepFamilyUs;
  Plan best = step;
  for (const FamilyEntry& entry : kPersistent) {
    if (wish && entry.family != forced) continue;
    Plan plan;
    const bool can = entry.plan(p, dev, backward, plan);
    const bool proven = entry.proven == dev.arch / 10;
    if (can && (wish || (proven && plan.step_us < best.step_us))) {
      best = plan;
      best.family = entry.family;
    }
    if (!step.why.empty()) step.why += "; ";
    step.why += std::string(name(entry.family)) + ": ";
    step.why += !can ? plan.why : proven ? "would take longer" : "has not run on such a device yet";
  }
  return best.family == Family::step ? step : best;
}

}  // namespace

Device known_device(int arch) {
  switch (arch) {
    case 80:
      return {80, 108, 163 << 10, 164 << 10, 65536, 2048, largest_cluster(80), true};
    case 90:
      return {90, 132, 227 << 10, 228 << 10, 65536, 2048, largest_cluster(90), true};
    case 100:
      return {100, 148, 227 << 10, 228 << 10, 65536, 2048, largest_cluster(100), true};
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
          {"step_us", std::to_string(plan.step_us)},
          {"why", plan.why}};
}

}  // namespace fusedrnn::cuda
