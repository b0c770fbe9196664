// A persistent family against the step family on the same inputs, at sizes where central differences would take hours:
// units that fill a block's shared memory, more columns than a warp takes at once, many blocks to a team.
#pragma once
#include "cuda_layer_case.h"

namespace emulated {

class AgainstStep : LayerRun {
 public:
  explicit AgainstStep(const Case& c) : LayerRun(c) {}

  // Of the family that FUSEDRNN_CUDA_FAMILY names.
  int check() {
    const std::string family = std::getenv("FUSEDRNN_CUDA_FAMILY");
    AgainstStep step(c_);
    setenv("FUSEDRNN_CUDA_FAMILY", "step", 1);
    step.run();
    setenv("FUSEDRNN_CUDA_FAMILY", family.c_str(), 1);
    run();
    const reference::Layer& l = layer_;
    const int64_t states = l.D * l.B * l.H, GH = l.G() * l.H;
    same("y", a_.y, step.a_.y, l.T * l.B * l.D * l.H);
    same("h_n", a_.h_n, step.a_.h_n, states);
    same("c_n", a_.c_n, step.a_.c_n, states);
    same("dx", b_.dx, step.b_.dx, l.T * l.B * l.I);
    same("dh0", b_.dh0, step.b_.dh0, states);
    same("dc0", b_.dc0, step.b_.dc0, states);
    for (int d = 0; d < l.D; d++) {
      same("dw_ih", b_.dw[d].ih, step.b_.dw[d].ih, GH * l.I);
      same("dw_hh", b_.dw[d].hh, step.b_.dw[d].hh, GH * l.H);
      same("db_ih", b_.dw[d].b_ih, step.b_.dw[d].b_ih, GH);
      same("db_hh", b_.dw[d].b_hh, step.b_.dw[d].b_hh, GH);
    }
    return bad_;
  }

 private:
  void run() {
    Memory scratch;
    fusedrnn::cuda::layer_forward(a_, scratch.runtime(c_.device));
    run_backward();
  }
  void same(const char* what, const void* got, const void* want, int64_t count) {
    if (!want) return;
    reference::Vec values(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; i++) values[size_t(i)] = load(want, i, c_.dtype);
    compare(what, got, values);
  }
};

}  // namespace emulated
