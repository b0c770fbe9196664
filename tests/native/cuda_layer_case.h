// One layer call on the emulator against the float64 reference: random inputs, forward, backward, comparison of every
// output. Used for every family: the plan decides which one runs.
#pragma once
#include <cstdio>
#include <random>
#include <string>

#include "cuda_reference.h"
#include "cuda_runtime_emulated.h"

namespace emulated {

struct Case {
  int cell = reference::lstm;
  DType dtype = DType::f64;
  int64_t T = 4, B = 3, I = 3, H = 5, D = 1;
  int64_t P = 0;  // 0: no projection
  bool bias = true, state = true, lengths = false, resets = false, ids = false;
  bool save = true, all_cotangents = true, need_dx = true;
  bool one_row = false;  // with lengths: all rows but the first are empty
  unsigned seed = 1;
  fusedrnn::cuda::Device device = fusedrnn::cuda::known_device(90);

  std::string text() const {
    char s[300];
    std::snprintf(s, sizeof s,
                  "cell=%d dtype=%d T=%d B=%d I=%d H=%d D=%d P=%d bias=%d state=%d lengths=%d resets=%d ids=%d "
                  "save=%d all=%d seed=%u order=%d delivery=%d",
                  cell, int(dtype), int(T), int(B), int(I), int(H), int(D), int(P), bias, state, lengths, resets, ids,
                  save, all_cotangents, seed, int(simt::schedule.order), int(simt::schedule.delivery));
    return s;
  }
};

// Largest tolerated |out - ref| / |ref| (2-norms), per dtype. float64 is bounded by the central differences.
inline double tolerance(DType t) {
  return t == DType::f64 ? 2e-8 : t == DType::f32 ? 3e-6 : t == DType::f16 ? 4e-3 : 3e-2;
}

class LayerRun {
 public:
  explicit LayerRun(const Case& c) : c_(c), rng_(c.seed) { build(); }

  // Returns the number of outputs that are wrong, each said on stdout.
  int check() {
    forward();
    if (c_.save) backward();
    return bad_;
  }

 protected:
  const Case& c_;
  std::mt19937 rng_;
  reference::Layer layer_;
  reference::Cotangents dual_;
  std::vector<int64_t> ids_;
  Memory memory_;
  fusedrnn::ForwardArgs a_{};
  fusedrnn::BackwardArgs b_{};
  int bad_ = 0;

  int64_t P() const { return layer_.P; }
  DType acc() const { return fusedrnn::cuda::acc_of(c_.dtype); }

  // count values that the dtype holds exactly, so that the reference sees what the kernels see.
  reference::Vec values(int64_t count, double scale) {
    std::uniform_real_distribution<double> u(-scale, scale);
    reference::Vec v(count);
    unsigned char one[8];
    for (double& e : v) {
      store(one, 0, c_.dtype, u(rng_));
      e = load(one, 0, c_.dtype);
    }
    return v;
  }
  void* device(const reference::Vec& v) {
    if (v.empty()) return nullptr;
    void* p = memory_.take(v.size() * fusedrnn::cuda::size_of(c_.dtype));
    for (size_t i = 0; i < v.size(); i++) store(p, int64_t(i), c_.dtype, v[i]);
    return p;
  }
  // Rewrites `count` elements on the device from element `first` on.
  void spoil(const void* p, int64_t first, int64_t count, double with) {
    for (int64_t i = 0; p && i < count; i++) store(const_cast<void*>(p), first + i, c_.dtype, with);
  }
  // Padding, and initial states that a reset drops, are NaN and infinities on the device, and ids out of range; the
  // reference keeps harmless values there.
  void hide_what_must_not_matter() {
    const reference::Layer& l = layer_;
    for (int64_t b = 0; b < l.B; b++) {
      const double bad = b % 2 ? NAN : INFINITY;
      for (int64_t t = length(b); t < l.T; t++) {
        spoil(a_.x, (t * l.B + b) * l.I, l.I, bad);
        if (c_.ids) ids_[size_t(t * l.B + b)] = b % 2 ? -1 : l.I;
      }
      if (!c_.resets || !l.resets[size_t(b)] || length(b) == 0) continue;
      spoil(a_.h0, b * l.P, l.P, bad);
      spoil(a_.c0, b * l.H, l.H, bad);
    }
  }
  int64_t length(int64_t b) const { return c_.lengths ? layer_.lengths[size_t(b)] : layer_.T; }
  void* output(int64_t count, DType t) { return memory_.take(size_t(count) * fusedrnn::cuda::size_of(t)); }

  void build() {
    reference::Layer& l = layer_;
    l = {c_.cell, c_.T, c_.B, c_.I, c_.H, c_.P ? c_.P : c_.H, c_.D, c_.P > 0, c_.bias, {}, {}, {}, {}, {},
         {},      {},   {},   {},   {}};
    const int64_t GH = l.G() * l.H;
    if (c_.ids) {
      l.x.assign(l.T * l.B * l.I, 0);
      for (int64_t r = 0; r < l.T * l.B; r++) {
        ids_.push_back(int64_t(rng_() % l.I));
        l.x[r * l.I + ids_.back()] = 1;
      }
    } else {
      l.x = values(l.T * l.B * l.I, 1);
    }
    if (c_.state) l.h0 = values(l.D * l.B * l.P, 1);
    if (c_.state && l.cell == reference::lstm) l.c0 = values(l.D * l.B * l.H, 1);
    const double scale = 1.5 / std::sqrt(double(l.H));
    for (int d = 0; d < l.D; d++) {
      l.w_ih[d] = values(GH * l.I, scale);
      l.w_hh[d] = values(GH * l.P, scale);
      if (c_.bias) l.b_ih[d] = values(GH, scale), l.b_hh[d] = values(GH, scale);
      if (l.projects) l.w_hr[d] = values(l.P * l.H, scale);
    }
    // Lengths 0 and T are always among several rows; resets include t = 0 and steps past the end.
    for (int64_t b = 0; c_.lengths && b < l.B; b++)
      l.lengths.push_back(b == 0 ? l.T : b == 1 || c_.one_row ? 0 : int64_t(rng_() % (l.T + 1)));
    for (int64_t i = 0; c_.resets && i < l.T * l.B; i++) l.resets.push_back(rng_() % 3 == 0);
    dual_.dy = values(l.T * l.B * l.D * l.P, 1);
    if (c_.all_cotangents) {
      dual_.dhn = values(l.D * l.B * l.P, 1);
      if (l.cell == reference::lstm) dual_.dcn = values(l.D * l.B * l.H, 1);
    }
    const bool has_c = l.cell == reference::lstm;
    const int64_t S = l.cell == reference::lstm || l.cell == reference::gru ? 4 : 0, steps = l.D * l.T * l.B;
    a_.cell = c_.cell;
    a_.dtype = c_.dtype;
    a_.n = {l.T, l.B, l.I, l.H, l.P, l.D};
    a_.x = c_.ids ? nullptr : device(l.x);
    a_.ids = c_.ids ? ids_.data() : nullptr;
    a_.h0 = device(l.h0);
    a_.c0 = device(l.c0);
    hide_what_must_not_matter();
    for (int d = 0; d < l.D; d++)
      a_.w[d] = {device(l.w_ih[d]), device(l.w_hh[d]), device(l.b_ih[d]), device(l.b_hh[d]), device(l.w_hr[d])};
    a_.lengths = c_.lengths ? l.lengths.data() : nullptr;
    a_.resets = c_.resets ? reinterpret_cast<const bool*>(l.resets.data()) : nullptr;
    a_.y = output(l.T * l.B * l.D * l.P, c_.dtype);
    a_.h_n = output(l.D * l.B * l.P, c_.dtype);
    if (has_c) a_.c_n = output(l.D * l.B * l.H, c_.dtype);
    if (!c_.save) return;
    if (S) a_.gates = output(steps * S * l.H, c_.dtype);
    if (has_c) a_.cells = output(steps * l.H, acc());
    if (l.projects) a_.hidden = output(steps * l.H, acc());
  }

  void compare(const char* what, const void* got, const reference::Vec& want) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < want.size(); i++) {
      const double e = load(got, int64_t(i), c_.dtype) - want[i];
      error += e * e;
      norm += want[i] * want[i];
    }
    // A gradient may vanish altogether (a row of length zero alone); then it must vanish exactly up to rounding.
    const double relative = std::sqrt(error) / std::max(std::sqrt(norm), 1e-2);
    if (relative <= tolerance(c_.dtype)) return;
    bad_++;
    std::printf("BAD %s: relative error %.3g in %s\n", what, relative, c_.text().c_str());
  }

  void forward() {
    Memory scratch;
    fusedrnn::cuda::layer_forward(a_, scratch.runtime(c_.device));
    const reference::Output want = reference::forward(layer_);
    compare("y", a_.y, want.y);
    compare("h_n", a_.h_n, want.h_n);
    if (a_.c_n) compare("c_n", a_.c_n, want.c_n);
  }

  std::vector<unsigned char> bytes(const void* p, int64_t count, DType t) {
    const auto* q = static_cast<const unsigned char*>(p);
    return p ? std::vector<unsigned char>(q, q + count * int64_t(fusedrnn::cuda::size_of(t)))
             : std::vector<unsigned char>();
  }
  std::vector<unsigned char> saved() {
    const int64_t steps = layer_.D * layer_.T * layer_.B;
    std::vector<unsigned char> all = bytes(a_.y, layer_.T * layer_.B * layer_.D * P(), c_.dtype);
    for (const auto& more : {bytes(a_.gates, steps * 4 * layer_.H, c_.dtype), bytes(a_.cells, steps * layer_.H, acc()),
                             bytes(a_.hidden, steps * layer_.H, acc())})
      all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  void run_backward() {
    const reference::Layer& l = layer_;
    const int64_t GH = l.G() * l.H;
    b_.f = a_;
    b_.f.h_n = b_.f.c_n = nullptr;
    b_.dy = device(dual_.dy);
    for (int64_t b = 0; b < l.B; b++)
      for (int64_t t = length(b); t < l.T; t++) spoil(b_.dy, (t * l.B + b) * l.D * l.P, l.D * l.P, NAN);
    b_.dhn = device(dual_.dhn);
    b_.dcn = device(dual_.dcn);
    if (!c_.ids && c_.need_dx) b_.dx = output(l.T * l.B * l.I, c_.dtype);
    b_.dh0 = output(l.D * l.B * l.P, c_.dtype);
    if (l.cell == reference::lstm) b_.dc0 = output(l.D * l.B * l.H, c_.dtype);
    for (int d = 0; d < l.D; d++) {
      auto& w = b_.dw[d];
      w.ih = output(GH * l.I, c_.dtype);
      w.hh = output(GH * l.P, c_.dtype);
      if (c_.bias) w.b_ih = output(GH, c_.dtype), w.b_hh = output(GH, c_.dtype);
      if (l.projects) w.hr = output(l.P * l.H, c_.dtype);
    }
    const auto before = saved();
    {
      Memory scratch;
      fusedrnn::cuda::layer_backward(b_, scratch.runtime(c_.device));
    }
    if (saved() != before) {
      bad_++;
      std::printf("BAD backward wrote to saved tensors in %s\n", c_.text().c_str());
    }
  }

  void backward() {
    run_backward();
    reference::Layer& l = layer_;
    auto gradient = [&](const char* what, void* got, reference::Vec& of) {
      if (got && !of.empty()) compare(what, got, reference::gradient(l, dual_, of));
    };
    gradient("dx", b_.dx, l.x);
    // Without h0 the gradient is still that of the zeros that stood for it.
    if (l.h0.empty()) l.h0.assign(l.D * l.B * l.P, 0);
    if (l.c0.empty() && l.cell == reference::lstm) l.c0.assign(l.D * l.B * l.H, 0);
    gradient("dh0", b_.dh0, l.h0);
    gradient("dc0", b_.dc0, l.c0);
    for (int d = 0; d < l.D; d++) {
      gradient("dw_ih", b_.dw[d].ih, l.w_ih[d]);
      gradient("dw_hh", b_.dw[d].hh, l.w_hh[d]);
      gradient("db_ih", b_.dw[d].b_ih, l.b_ih[d]);
      gradient("db_hh", b_.dw[d].b_hh, l.b_hh[d]);
      gradient("dw_hr", b_.dw[d].hr, l.w_hr[d]);
    }
  }
};

}  // namespace emulated
