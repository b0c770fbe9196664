// The plan over a wide range of layers and devices: never beyond a limit of the device, never without a family, and the
// same for the same question. Plain host code. Prints one line for each broken promise and exits with 1 where there is
// any.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "../../csrc/cuda/plan.h"

namespace {

using namespace fusedrnn;
using namespace fusedrnn::cuda;

int plans = 0, bad = 0;

void expect(bool holds, const char* what, const Problem& p, const Device& dev, const Plan& plan) {
  if (holds) return;
  bad++;
  std::printf(
      "BAD %s: arch=%d cell=%d dtype=%d T=%ld B=%ld H=%ld D=%ld -> %s, %d blocks in clusters of %d, %d bytes (%s)\n",
      what, dev.arch, p.cell, int(p.dtype), long(p.n.T), long(p.n.B), long(p.n.H), long(p.n.D), name(plan.family),
      plan.blocks, plan.cluster, plan.smem, plan.why.c_str());
}

void check(const Problem& p, const Device& dev, bool backward) {
  const Plan plan = backward ? plan_backward(p, dev) : plan_forward(p, dev);
  plans++;
  expect(describe(plan) == describe(backward ? plan_backward(p, dev) : plan_forward(p, dev)), "two answers", p, dev,
         plan);
  expect(!plan.why.empty(), "no reason", p, dev, plan);
  if (plan.family == Family::step) return;
  expect(p.dtype != DType::f64 && !p.projects, "a family that cannot", p, dev, plan);
  expect(plan.smem > 0 && plan.smem <= dev.smem_block, "shared memory", p, dev, plan);
  expect(plan.threads > 0 && plan.threads <= 1024 && plan.threads % 32 == 0, "threads", p, dev, plan);
  expect(plan.blocks > 0, "blocks", p, dev, plan);
  expect(plan.cluster <= dev.max_cluster || plan.cluster <= 1, "cluster", p, dev, plan);
  expect(plan.cluster == 0 || plan.blocks % plan.cluster == 0, "blocks of a cluster", p, dev, plan);
  expect(plan.tile_batch > 0 && plan.tile_units > 0, "tiles", p, dev, plan);
  if (plan.cluster > 0) {
    expect(int64_t(plan.cluster) * plan.tile_units >= p.n.H, "units", p, dev, plan);
    expect(int64_t(plan.blocks / plan.cluster) * plan.tile_batch >= p.n.B, "rows", p, dev, plan);
  } else if (plan.family == Family::block) {
    expect(plan.tile_units >= p.n.H, "units", p, dev, plan);
    expect(int64_t(plan.blocks) * plan.tile_batch >= p.n.B, "rows", p, dev, plan);
  } else {
    // A grid's blocks wait for each other, so all must be resident at once.
    expect(plan.blocks <= dev.sms && dev.cooperative, "more blocks than can be resident", p, dev, plan);
  }
}

void wide_range() {
  for (int arch : {80, 90, 100})
    for (int cell = 0; cell < 4; cell++)
      for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16})
        for (int64_t H : {1,   3,   16,  33,  40,  64,   100,  128,  200,  256,  300,
                          384, 500, 512, 640, 768, 1000, 1024, 1536, 2048, 4096, 10000})
          for (int64_t B : {0, 1, 2, 7, 8, 16, 33, 64, 100, 128, 256, 1000, 100000})
            for (int64_t D : {1, 2})
              for (bool backward : {false, true})
                check({cell, dtype, false, {100, B, 32, H, H, D}, false, H % 2 == 0, B % 2 == 0, true},
                      known_device(arch), backward);
}

// What the fast families are for: they must not silently give up there.
void expected_families() {
  const Device hopper = known_device(90);
  const auto family = [&](DType dtype, int64_t H, int64_t B) {
    return plan_forward({2, dtype, false, {1000, B, H, H, H, 1}, false, false, false, true}, hopper).family;
  };
  const auto want = [&](DType dtype, int64_t H, int64_t B, Family f) {
    plans++;
    if (family(dtype, H, B) == f) return;
    bad++;
    std::printf("BAD LSTM dtype=%d H=%ld B=%ld: expected the %s family, got %s\n", int(dtype), long(H), long(B),
                name(f), name(family(dtype, H, B)));
  };
  for (int64_t H : {128, 256, 384, 512}) want(DType::bf16, H, 16, Family::cluster);
  for (int64_t H : {64, 128, 256}) want(DType::f32, H, 16, Family::fma);
  for (int64_t H : {512, 1024}) want(DType::f32, H, 16, Family::grid);
  want(DType::f64, 128, 16, Family::step);
}

// A kernel that has never run on a kind of device is not chosen there unasked.
void unproven_devices() {
  for (int arch : {80, 100})
    for (DType dtype : {DType::bf16, DType::f32}) {
      const Problem p{2, dtype, false, {1000, 16, 256, 256, 256, 1}, false, false, false, true};
      plans++;
      const Plan plan = plan_forward(p, known_device(arch));
      expect(plan.family == Family::step, "an unproven family", p, known_device(arch), plan);
    }
}

template <class F>
void throws(const char* what, F&& f) {
  plans++;
  try {
    f();
  } catch (const std::invalid_argument&) {
    return;
  }
  bad++;
  std::printf("BAD %s: expected std::invalid_argument\n", what);
}

void forced() {
  const Problem p{2, DType::f32, false, {10, 4, 8, 64, 64, 1}, false, false, false, true};
  for (const char* family : {"step", "cluster", "fma", "block", "grid"}) {
    setenv("FUSEDRNN_CUDA_FAMILY", family, 1);
    const Plan plan = plan_forward(p, known_device(90));
    plans++;
    if (std::string(name(plan.family)) != family && plan.family != Family::step) {
      bad++;
      std::printf("BAD forced %s: got %s\n", family, name(plan.family));
    }
  }
  setenv("FUSEDRNN_CUDA_FAMILY", "fast", 1);
  throws("an unknown family", [&] { plan_forward(p, known_device(90)); });
  unsetenv("FUSEDRNN_CUDA_FAMILY");
  throws("an unknown device", [] { known_device(75); });
}

}  // namespace

int main() {
  for (const char* family :
       {"block", "cluster", "fma", "grid"}) {  // asked for by name, they keep the limits of every device
    setenv("FUSEDRNN_CUDA_FAMILY", family, 1);
    wide_range();
  }
  unsetenv("FUSEDRNN_CUDA_FAMILY");
  wide_range();
  unproven_devices();
  expected_families();
  forced();
  std::printf("%d plans, %d broken promises\n", plans, bad);
  return bad != 0;
}
