// The recurrent part of a layer (family.h) against float64, at full size: a family's forward and backward are called
// directly, without the products around them. The reference rounds what a 16-bit kernel must round (the state that is
// multiplied, the gate gradients that are multiplied) and nothing else, so the tolerance is that of one rounding.
#pragma once
#include <cmath>
#include <cstdio>
#include <random>
#include <string>

#include "../../csrc/cuda/cell_table.h"
#include "cuda_runtime_emulated.h"

namespace emulated {

struct RecurrenceCase {
  const char* what = "";
  int cell = 2;
  DType dtype = DType::bf16;
  int64_t T = 4, B = 8, H = 128, D = 1;
  bool state = true, bias = true, lengths = false, resets = false, save = true, alias = true;
  unsigned seed = 1;
  std::string text() const {
    char s[300];
    std::snprintf(s, sizeof s, "%s cell=%d dtype=%d T=%d B=%d H=%d D=%d state=%d bias=%d lengths=%d resets=%d save=%d",
                  what, cell, int(dtype), int(T), int(B), int(H), int(D), state, bias, lengths, resets, save);
    return s;
  }
};

using Values = std::vector<double>;

class RecurrenceRun {
 public:
  explicit RecurrenceRun(const RecurrenceCase& c) : c_(c), rng_(c.seed) {
    const auto& info = fusedrnn::cells::kCells[c.cell];
    G_ = info.G, S_ = info.S, N_ = info.N;
    has_cell_ = info.has_cell, reads_h_ = info.reads_h_prev;
    build();
    reference_forward();
  }

  // Each call runs the family once under the current schedule and returns the first fault, or "".
  using Forward = fusedrnn::cuda::Launch (*)(const fusedrnn::cuda::Plan&, const fusedrnn::cuda::Recurrence&,
                                             const Runtime&);
  using Backward = fusedrnn::cuda::Launch (*)(const fusedrnn::cuda::Plan&, const fusedrnn::cuda::RecurrenceGrad&,
                                              const Runtime&);
  std::string forward(Forward family, const fusedrnn::cuda::Plan& plan);
  // Needs a forward that was right; walks twice over the same saved tensors in the tests.
  std::string backward(Backward family, const fusedrnn::cuda::Plan& plan);

 private:
  RecurrenceCase c_;
  std::mt19937 rng_;
  int64_t G_, S_, N_;
  bool has_cell_, reads_h_, reference_backward_done_ = false;
  Memory memory_;
  std::vector<int64_t> lengths_;
  std::vector<char> resets_;
  Values gx_, w_[2], b_ih_[2], b_hh_[2], h0_, c0_, dy_, dhn_, dcn_;
  Values y_, h_n_, c_n_, gates_, cells_;  // wanted
  Values dgates_, dh0_, dc0_;
  fusedrnn::ForwardArgs a_{};

  double rounded(double v) const {
    unsigned char one[8];
    store(one, 0, c_.dtype, v);
    return load(one, 0, c_.dtype);
  }
  Values values(int64_t n, double scale) {
    std::uniform_real_distribution<double> u(-scale, scale);
    Values v(static_cast<size_t>(n));
    for (double& e : v) e = rounded(u(rng_));
    return v;
  }
  void* device(const Values& v, DType t) {
    if (v.empty()) return nullptr;
    void* p = memory_.take(v.size() * fusedrnn::cuda::size_of(t));
    for (size_t i = 0; i < v.size(); i++) store(p, int64_t(i), t, v[i]);
    return p;
  }
  void* device(const Values& v) { return device(v, c_.dtype); }
  int64_t length(int64_t b) const { return c_.lengths ? lengths_[size_t(b)] : c_.T; }
  bool cut(int64_t d, int64_t t, int64_t b) const {
    const int64_t boundary = t + d;
    return c_.resets && boundary < length(b) && resets_[size_t(boundary * c_.B + b)];
  }
  // What must not matter, is NaN on the device: padding, and initial states that a reset drops. The reference never
  // reads it. `v`: rows [.., T, B] of `width` elements.
  Values without_padding(Values v, int64_t width) const {
    for (size_t i = 0; i < v.size(); i++) {
      const int64_t row = int64_t(i) / width;
      if (row / c_.B % c_.T >= length(row % c_.B)) v[i] = NAN;
    }
    return v;
  }
  Values without_dropped(Values v) const {
    for (size_t i = 0; i < v.size(); i++) {
      const int64_t d = int64_t(i) / (c_.B * c_.H), b = int64_t(i) / c_.H % c_.B;
      if (d == 0 && length(b) > 0 && cut(0, 0, b)) v[i] = NAN;
    }
    return v;
  }
  size_t row(int64_t d, int64_t t, int64_t b) const { return size_t((d * c_.T + t) * c_.B + b); }

  void build() {
    const int64_t rows = c_.D * c_.T * c_.B, H = c_.H, states = c_.D * c_.B * H;
    gx_ = values(rows * G_ * H, 1.5);
    for (int d = 0; d < c_.D; d++) {
      w_[d] = values(G_ * H * H, 1.2 / std::sqrt(double(H)));
      if (c_.bias) b_ih_[d] = values(G_ * H, 0.5), b_hh_[d] = values(G_ * H, 0.5);
    }
    if (c_.state) {
      h0_ = values(states, 1);
      if (has_cell_) c0_ = values(states, 1);
      dhn_ = values(states, 1);
      if (has_cell_) dcn_ = values(states, 1);
    }
    dy_ = values(c_.T * c_.B * c_.D * H, 1);
    for (int64_t b = 0; b < c_.B; b++)
      lengths_.push_back(b == 0 ? c_.T : b == 1 ? 0 : int64_t(rng_() % uint64_t(c_.T + 1)));
    for (int64_t i = 0; i < c_.T * c_.B; i++) resets_.push_back(rng_() % 4 == 0);
    a_.cell = c_.cell;
    a_.dtype = c_.dtype;
    a_.n = {c_.T, c_.B, 1, H, H, c_.D};
    a_.h0 = device(without_dropped(h0_));
    a_.c0 = device(without_dropped(c0_));
    for (int d = 0; d < c_.D; d++) a_.w[d] = {nullptr, device(w_[d]), device(b_ih_[d]), device(b_hh_[d]), nullptr};
    a_.lengths = c_.lengths ? lengths_.data() : nullptr;
    a_.resets = c_.resets ? reinterpret_cast<const bool*>(resets_.data()) : nullptr;
    a_.y = memory_.take(dy_.size() * 2);
    a_.h_n = memory_.take(size_t(states) * 2);
    if (has_cell_) a_.c_n = memory_.take(size_t(states) * 2);
    if (c_.save && S_) a_.gates = memory_.take(size_t(rows * S_ * H) * 2);
    if (c_.save && has_cell_) a_.cells = memory_.take(size_t(rows * H) * 4);
  }

  template <class F>
  void each_unit(F&& f) {
    for (int64_t u = 0; u < c_.H; u++) f(u);
  }
  void reference_forward();
  void reference_backward();
  std::string compare(const char* what, const void* got, DType t, const Values& want, double tolerance) const;
};

inline void RecurrenceRun::reference_forward() {
  const int64_t H = c_.H, rows = c_.D * c_.T * c_.B;
  y_.assign(dy_.size(), 0);
  h_n_.assign(size_t(c_.D * c_.B * H), 0);
  if (has_cell_) c_n_ = h_n_, cells_.assign(size_t(rows * H), NAN);
  gates_.assign(size_t(rows * S_ * H), NAN);
  fusedrnn::cuda::with_cell(c_.cell, [&](auto cell) {
    using Cell = decltype(cell);
    for (int64_t d = 0; d < c_.D; d++)
      for (int64_t b = 0; b < c_.B; b++) {
        const size_t state = size_t((d * c_.B + b) * H);
        Values h(static_cast<size_t>(H)), c(h);
        if (!h0_.empty()) h.assign(h0_.begin() + long(state), h0_.begin() + long(state) + H);
        if (!c0_.empty()) c.assign(c0_.begin() + long(state), c0_.begin() + long(state) + H);
        for (int64_t s = 0; s < length(b); s++) {
          const int64_t t = d ? length(b) - 1 - s : s;
          if (cut(d, t, b)) std::fill(h.begin(), h.end(), 0.), std::fill(c.begin(), c.end(), 0.);
          Values operand(h), next(h);
          for (double& e : operand) e = rounded(e);
          each_unit([&](int64_t u) {
            double x[4], a[4], saved[4] = {};
            for (int64_t q = 0; q < G_; q++) {
              x[q] =
                  gx_[row(d, t, b) * size_t(G_ * H) + size_t(q * H + u)] + (c_.bias ? b_ih_[d][size_t(q * H + u)] : 0);
              a[q] = c_.bias ? b_hh_[d][size_t(q * H + u)] : 0;
              const double* w = &w_[d][size_t((q * H + u) * H)];
              for (int64_t k = 0; k < H; k++) a[q] += w[k] * operand[size_t(k)];
            }
            double hn, cn = 0;
            Cell::forward(x, a, h[size_t(u)], c[size_t(u)], hn, cn, saved);
            next[size_t(u)] = hn;
            c[size_t(u)] = cn;
            for (int64_t q = 0; q < S_; q++)
              gates_[(row(d, t, b) * size_t(S_) + size_t(q)) * size_t(H) + size_t(u)] = saved[q];
            if (has_cell_) cells_[row(d, t, b) * size_t(H) + size_t(u)] = cn;
          });
          h = next;
          each_unit([&](int64_t u) { y_[size_t(((t * c_.B + b) * c_.D + d) * H + u)] = h[size_t(u)]; });
        }
        each_unit([&](int64_t u) {
          h_n_[state + size_t(u)] = h[size_t(u)];
          if (has_cell_) c_n_[state + size_t(u)] = c[size_t(u)];
        });
      }
  });
}

// From what the kernel saved (y, gates, cells as they stand in memory), so that the error is backward's own.
inline void RecurrenceRun::reference_backward() {
  const int64_t H = c_.H, rows = c_.D * c_.T * c_.B;
  dgates_.assign(size_t(rows * N_ * H), 0);
  dh0_.assign(size_t(c_.D * c_.B * H), 0);
  if (has_cell_) dc0_ = dh0_;
  fusedrnn::cuda::with_cell(c_.cell, [&](auto cell) {
    using Cell = decltype(cell);
    for (int64_t d = 0; d < c_.D; d++)
      for (int64_t b = 0; b < c_.B; b++) {
        const size_t state = size_t((d * c_.B + b) * H);
        Values dh(static_cast<size_t>(H)), dc(dh);
        each_unit([&](int64_t u) {
          if (!dhn_.empty()) dh[size_t(u)] = dhn_[state + size_t(u)];
          if (!dcn_.empty()) dc[size_t(u)] = dcn_[state + size_t(u)];
        });
        for (int64_t s = length(b) - 1; s >= 0; s--) {
          const int64_t t = d ? length(b) - 1 - s : s, before = d ? t + 1 : t - 1;
          Values operand(size_t(G_ * H)), direct(static_cast<size_t>(H));
          each_unit([&](int64_t u) {
            const size_t out = size_t(((t * c_.B + b) * c_.D + d) * H + u);
            double saved[4], g[4], h_prev = 0, c_prev = 0;
            for (int64_t q = 0; q < S_; q++)
              saved[q] = load(a_.gates, int64_t((row(d, t, b) * size_t(S_) + size_t(q)) * size_t(H)) + u, c_.dtype);
            const bool first = s == 0, dropped = cut(d, t, b);
            if (!dropped && first && !h0_.empty()) h_prev = h0_[state + size_t(u)];
            if (!dropped && first && !c0_.empty()) c_prev = c0_[state + size_t(u)];
            if (!dropped && !first) {
              h_prev = load(a_.y, ((before * c_.B + b) * c_.D + d) * H + u, c_.dtype);
              if (has_cell_) c_prev = load(a_.cells, int64_t(row(d, before, b)) * H + u, DType::f32);
            }
            const double c = has_cell_ ? load(a_.cells, int64_t(row(d, t, b)) * H + u, DType::f32) : 0;
            Cell::backward(saved, load(a_.y, int64_t(out), c_.dtype), h_prev, c, c_prev, dh[size_t(u)] + dy_[out],
                           dc[size_t(u)], direct[size_t(u)], g);
            for (int64_t q = 0; q < N_; q++)
              dgates_[(row(d, t, b) * size_t(N_) + size_t(q)) * size_t(H) + size_t(u)] = g[q];
            for (int64_t i = 0; i < G_; i++)
              operand[size_t(Cell::h_gate(int(i)) * H + u)] = rounded(g[Cell::h_first + i]);
          });
          dh = direct;
          for (int64_t r = 0; r < G_ * H; r++)
            each_unit([&](int64_t u) { dh[size_t(u)] += w_[d][size_t(r * H + u)] * operand[size_t(r)]; });
          if (cut(d, t, b)) std::fill(dh.begin(), dh.end(), 0.), std::fill(dc.begin(), dc.end(), 0.);
        }
        each_unit([&](int64_t u) {
          dh0_[state + size_t(u)] = dh[size_t(u)];
          if (has_cell_) dc0_[state + size_t(u)] = dc[size_t(u)];
        });
      }
  });
}

// NaN in `want` marks what need not be written.
inline std::string RecurrenceRun::compare(const char* what, const void* got, DType t, const Values& want,
                                          double tolerance) const {
  for (size_t i = 0; i < want.size(); i++) {
    if (std::isnan(want[i])) continue;
    const double v = load(got, int64_t(i), t), error = std::fabs(v - want[i]);
    if (error <= tolerance * (0.25 + std::fabs(want[i]))) continue;
    char s[200];
    std::snprintf(s, sizeof s, "%s[%zu] is %g, expected %g", what, i, v, want[i]);
    return s;
  }
  return "";
}

inline std::string RecurrenceRun::forward(Forward family, const fusedrnn::cuda::Plan& plan) {
  const int64_t H = c_.H, rows = c_.D * c_.T * c_.B;
  const bool alias = c_.alias && a_.gates;
  const int64_t ld = alias ? S_ * H : G_ * H;
  const auto poison = [](void* p, size_t bytes) {
    if (p) std::memset(p, 0xFF, bytes);
  };
  poison(a_.y, y_.size() * 2);
  poison(a_.h_n, h_n_.size() * 2);
  poison(a_.c_n, h_n_.size() * 2);
  poison(a_.gates, gates_.size() * 2);
  poison(a_.cells, cells_.size() * 4);
  Memory scratch;
  fusedrnn::cuda::Recurrence r{a_, alias ? a_.gates : scratch.take(size_t(rows * ld) * 2), ld};
  const Values gx = without_padding(gx_, G_ * H);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t k = 0; k < G_ * H; k++) store(r.gx, i * ld + k, c_.dtype, gx[size_t(i * G_ * H + k)]);
  try {
    if (family(plan, r, scratch.runtime(fusedrnn::cuda::known_device(90))) != fusedrnn::cuda::Launch::done)
      return "refused";
  } catch (const std::exception& e) {
    return e.what();
  }
  const double tolerance = c_.dtype == DType::bf16 ? 1.2e-2 : 3e-3;
  std::string bad = compare("y", a_.y, c_.dtype, y_, tolerance);
  if (bad.empty()) bad = compare("h_n", a_.h_n, c_.dtype, h_n_, tolerance);
  if (bad.empty() && has_cell_) bad = compare("c_n", a_.c_n, c_.dtype, c_n_, tolerance);
  if (bad.empty() && a_.gates) bad = compare("gates", a_.gates, c_.dtype, gates_, tolerance);
  if (bad.empty() && a_.cells) bad = compare("cells", a_.cells, DType::f32, cells_, tolerance);
  return bad;
}

inline std::string RecurrenceRun::backward(Backward family, const fusedrnn::cuda::Plan& plan) {
  if (!reference_backward_done_) reference_backward();
  reference_backward_done_ = true;
  const int64_t H = c_.H, rows = c_.D * c_.T * c_.B;
  Memory scratch;
  fusedrnn::cuda::RecurrenceGrad r{};
  r.b.f = a_;
  r.b.f.h_n = r.b.f.c_n = nullptr;
  r.b.dy = device(without_padding(dy_, c_.D * H));
  r.b.dhn = device(dhn_);
  r.b.dcn = device(dcn_);
  r.b.dh0 = scratch.take(dh0_.size() * 2);
  if (has_cell_) r.b.dc0 = scratch.take(dc0_.size() * 2);
  r.dgates = scratch.take(size_t(rows * N_ * H) * 2);
  try {
    if (family(plan, r, scratch.runtime(fusedrnn::cuda::known_device(90))) != fusedrnn::cuda::Launch::done)
      return "refused";
  } catch (const std::exception& e) {
    return e.what();
  }
  const double tolerance = c_.dtype == DType::bf16 ? 1.2e-2 : 3e-3;
  std::string bad = compare("dgates", r.dgates, c_.dtype, dgates_, tolerance);
  if (bad.empty()) bad = compare("dh0", r.b.dh0, c_.dtype, dh0_, tolerance);
  if (bad.empty() && has_cell_) bad = compare("dc0", r.b.dc0, c_.dtype, dc0_, tolerance);
  return bad;
}

}  // namespace emulated
