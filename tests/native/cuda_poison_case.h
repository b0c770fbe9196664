// A step whose input is NaN, right before a reset: its state is NaN, and none of it may pass the reset, in either
// direction and in neither pass. What lies between the boundaries around that step is not judged, nor are the sums over
// all steps; everything else must be what it is without the NaN.
#pragma once
#include "cuda_layer_case.h"

namespace emulated {

class PoisonRun : LayerRun {
 public:
  // Needs resets, inputs that are no ids, and at least 3 steps. The row is the one of length T.
  explicit PoisonRun(const Case& c) : LayerRun(c), t_(c.T / 2), first_(t_), end_(t_ + 1) {
    reference::Layer& l = layer_;
    l.resets[size_t(end_ * l.B)] = 1;
    while (first_ > 0 && !l.resets[size_t(first_ * l.B)]) first_--;
    spoil(a_.x, t_ * l.B * l.I, l.I, NAN);
  }

  int check() {
    Memory scratch;
    fusedrnn::cuda::layer_forward(a_, scratch.runtime(c_.device));
    run_backward();
    reference::Layer& l = layer_;
    const reference::Output want = reference::forward(l);
    const bool poisoned = std::isnan(load(a_.y, t_ * l.B * l.D * l.P, c_.dtype));
    if (!poisoned && l.cell != reference::elman_relu) fail("y", "is not NaN where x is");
    judge("y", a_.y, want.y, step(l.D * l.P));
    judge("dx", b_.dx, reference::gradient(l, dual_, l.x), step(l.I));
    // The step is before a reset in direction 0; in direction 1 it is before the end of the row where nothing else
    // cuts.
    judge("h_n", a_.h_n, want.h_n, state(l.P, false, first_ == 0));
    if (a_.c_n) judge("c_n", a_.c_n, want.c_n, state(l.H, false, first_ == 0));
    const bool enters = first_ == 0 && !l.resets[0];
    if (!l.h0.empty()) judge("dh0", b_.dh0, reference::gradient(l, dual_, l.h0), state(l.P, enters, false));
    if (!l.c0.empty()) judge("dc0", b_.dc0, reference::gradient(l, dual_, l.c0), state(l.H, enters, false));
    return bad_;
  }

 private:
  int64_t t_, first_, end_;  // the step, and the steps first_ .. end_-1 that no reset separates from it

  using Reached = std::function<bool(int64_t)>;
  // Of element i of [T, B, width], and of [D, B, width] whose row 0 is reached in the given directions.
  Reached step(int64_t width) const {
    return [=, this](int64_t i) {
      const int64_t row = i / width, t = row / layer_.B;
      return row % layer_.B == 0 && first_ <= t && t < end_;
    };
  }
  Reached state(int64_t width, bool upwards, bool downwards) const {
    return [=, this](int64_t i) {
      const int64_t row = i / width;
      return row % layer_.B == 0 && (row / layer_.B ? downwards : upwards);
    };
  }
  void judge(const char* what, void* got, const reference::Vec& want, const Reached& reached) {
    for (size_t i = 0; i < want.size(); i++)
      if (reached(int64_t(i))) store(got, int64_t(i), c_.dtype, want[i]);
    compare(what, got, want);
  }
  void fail(const char* what, const char* why) {
    bad_++;
    std::printf("BAD %s %s in %s\n", what, why, c_.text().c_str());
  }
};

}  // namespace emulated
