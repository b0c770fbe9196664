// The plan: which family of kernels runs a layer on a device, with which tiles. Plain host C++ without CUDA or torch,
// so it is built and tested on every machine and can be shown to Python (fusedrnn.cuda_plan).
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../layer.h"

namespace fusedrnn::cuda {

// What the plan needs to know of a device; on hardware it is read once per device (device_facts in runtime.h).
struct Device {
  int arch;          // compute capability, major * 10 + minor: 80, 90, 100
  int sms;           // multiprocessors
  int smem_block;    // bytes of shared memory a block may opt in to
  int smem_sm;       // bytes of shared memory of a multiprocessor
  int regs_sm;       // 32-bit registers of a multiprocessor
  int threads_sm;    // resident threads of a multiprocessor
  int max_cluster;   // largest cluster, 0 without clusters
  bool cooperative;  // cooperative launches are possible
};

// Blocks of the largest cluster of an architecture: 8 are portable, datacenter chips allow 16.
constexpr int largest_cluster(int arch) { return arch < 90 ? 0 : arch < 110 ? 16 : 8; }

// Facts of the devices the project is built for: 80 (A100), 90 (H100, H200), 100 (B200). The limits are those of the
// CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability". Throws std::invalid_argument
// otherwise.
Device known_device(int arch);

// A layer call, as far as a plan depends on it.
struct Problem {
  int cell;
  DType dtype;
  bool tf32;
  Dims n;
  bool projects;
  bool lengths, resets;  // a family may refuse them; none needs to
  bool save;             // backward follows

  static Problem of(const ForwardArgs& a);
};

// step: any layer on any device. block: float32 weights in the registers of one multiprocessor. cluster: 16-bit weights
// in the registers of a cluster. fma: float32 weights in the shared memory of a cluster. grid: weights in the shared
// memory of many multiprocessors, which meet in device memory.
enum class Family { step, block, cluster, fma, grid };
const char* name(Family f);

// One direction of time (forward or backward) of one layer call. The fields after `family` are the launch of a
// persistent kernel and are zero for the step family.
struct Plan {
  Family family = Family::step;
  int variant = 0;        // index into the family's own table of compiled kernels
  int cluster = 0;        // blocks of a cluster
  int blocks = 0;         // gridDim.x: blocks in all
  int threads = 0;        // of a block
  int smem = 0;           // dynamic shared memory of a block, bytes
  int tile_batch = 0;     // batch rows that one block or one cluster owns
  int tile_units = 0;     // hidden units that one block owns
  int64_t workspace = 0;  // bytes of device memory wanted beside the tensors
  double step_us = 0;     // predicted microseconds of a step of all rows
  std::string why;        // one sentence: why this family, or why not a faster one
};

// What a step of the step family takes at least: two launches, of which the host makes one in about five microseconds.
inline constexpr double kStepFamilyUs = 9;

// The plans of a call: of the families that can run it, the one with the smallest predicted step_us, if it is below the
// step family's. FUSEDRNN_CUDA_FAMILY=step|block|cluster|fma|grid forces a family where it can run, and otherwise
// the step family is taken and `why` says so; an unknown name throws std::invalid_argument.
Plan plan_forward(const Problem& p, const Device& dev);
Plan plan_backward(const Problem& p, const Device& dev);

// Each persistent family answers for itself (in its own plan_<family>.cpp): true and a filled plan where it can run the
// problem within every limit of the device, with step_us filled in, else false with the reason in plan.why.
bool plan_block(const Problem& p, const Device& dev, bool backward, Plan& plan);
bool plan_cluster(const Problem& p, const Device& dev, bool backward, Plan& plan);
bool plan_fma(const Problem& p, const Device& dev, bool backward, Plan& plan);
bool plan_grid(const Problem& p, const Device& dev, bool backward, Plan& plan);

// A plan as (field, value) pairs in a fixed order, for people.
std::vector<std::pair<std::string, std::string>> describe(const Plan& plan);

}  // namespace fusedrnn::cuda
