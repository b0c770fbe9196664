// The recurrent layer as layer.h defines it, in double precision, written for reading: one row, one step, one unit at a
// time. Shares nothing with the kernels under test. Gradients come from central differences, so that no hand-derived
// backward stands behind the backward that is tested.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

namespace reference {

using Vec = std::vector<double>;
enum Cell { elman_tanh, elman_relu, lstm, gru };

struct Layer {
  int cell;
  int64_t T, B, I, H, P, D;
  bool projects, biased;
  int64_t G() const { return cell == lstm ? 4 : cell == gru ? 3 : 1; }
  Vec x;       // [T, B, I]; for ids the one-hot rows
  Vec h0, c0;  // [D, B, P], [D, B, H]; empty for zeros
  Vec w_ih[2], w_hh[2], b_ih[2], b_hh[2], w_hr[2];
  std::vector<int64_t> lengths;  // [B] or empty
  std::vector<char> resets;      // [T, B] or empty
};

struct Output {
  Vec y, h_n, c_n;  // [T, B, D*P], [D, B, P], [D, B, H]
};

inline double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

// One step of one row: h [P], c [H] are replaced. The vectors are static only to spare their allocation.
inline void step(const Layer& l, int d, const double* x, Vec& h, Vec& c) {
  const int64_t G = l.G(), H = l.H;
  static Vec xs, as, out;
  xs.resize(G * H);
  as.resize(G * H);
  out.resize(H);
  for (int64_t r = 0; r < G * H; r++) {
    xs[r] = l.biased ? l.b_ih[d][r] : 0;
    as[r] = l.biased ? l.b_hh[d][r] : 0;
    for (int64_t k = 0; k < l.I; k++) xs[r] += l.w_ih[d][r * l.I + k] * x[k];
    for (int64_t k = 0; k < l.P; k++) as[r] += l.w_hh[d][r * l.P + k] * h[k];
  }
  for (int64_t j = 0; j < H; j++) {
    auto sum = [&](int64_t g) { return xs[g * H + j] + as[g * H + j]; };
    if (l.cell == elman_tanh) out[j] = std::tanh(sum(0));
    if (l.cell == elman_relu) out[j] = sum(0) > 0 ? sum(0) : 0;
    if (l.cell == lstm) {
      c[j] = sigmoid(sum(1)) * c[j] + sigmoid(sum(0)) * std::tanh(sum(2));
      out[j] = sigmoid(sum(3)) * std::tanh(c[j]);
    }
    if (l.cell == gru) {
      const double r = sigmoid(sum(0)), z = sigmoid(sum(1));
      const double n = std::tanh(xs[2 * H + j] + r * as[2 * H + j]);
      out[j] = (1 - z) * n + z * h[j];
    }
  }
  if (!l.projects) {
    h = out;
    return;
  }
  for (int64_t p = 0; p < l.P; p++) {
    h[p] = 0;
    for (int64_t j = 0; j < H; j++) h[p] += l.w_hr[d][p * H + j] * out[j];
  }
}

inline Output forward(const Layer& l) {
  Output o{Vec(l.T * l.B * l.D * l.P), Vec(l.D * l.B * l.P), Vec(l.cell == lstm ? l.D * l.B * l.H : 0)};
  for (int64_t d = 0; d < l.D; d++)
    for (int64_t b = 0; b < l.B; b++) {
      const int64_t length = l.lengths.empty() ? l.T : l.lengths[b];
      Vec h(l.P), c(l.H);
      for (int64_t p = 0; p < l.P && !l.h0.empty(); p++) h[p] = l.h0[(d * l.B + b) * l.P + p];
      for (int64_t j = 0; j < l.H && !l.c0.empty(); j++) c[j] = l.c0[(d * l.B + b) * l.H + j];
      for (int64_t s = 0; s < length; s++) {
        const int64_t t = d ? length - 1 - s : s, boundary = d ? t + 1 : t;
        if (!l.resets.empty() && boundary < length && l.resets[boundary * l.B + b]) {
          h.assign(l.P, 0);
          c.assign(l.H, 0);
        }
        step(l, int(d), &l.x[(t * l.B + b) * l.I], h, c);
        for (int64_t p = 0; p < l.P; p++) o.y[((t * l.B + b) * l.D + d) * l.P + p] = h[p];
      }
      for (int64_t p = 0; p < l.P; p++) o.h_n[(d * l.B + b) * l.P + p] = h[p];
      for (int64_t j = 0; j < l.H && l.cell == lstm; j++) o.c_n[(d * l.B + b) * l.H + j] = c[j];
    }
  return o;
}

// The loss whose gradients are wanted: <y, dy> + <h_n, dhn> + <c_n, dcn>; an empty factor counts as zeros.
struct Cotangents {
  Vec dy, dhn, dcn;
};
inline double loss(const Layer& l, const Cotangents& g) {
  const Output o = forward(l);
  double sum = 0;
  auto add = [&](const Vec& v, const Vec& w) {
    for (size_t i = 0; i < w.size(); i++) sum += v[i] * w[i];
  };
  add(o.y, g.dy);
  add(o.h_n, g.dhn);
  add(o.c_n, g.dcn);
  return sum;
}

// d loss / d v for a member v of l, by central differences.
inline Vec gradient(Layer& l, const Cotangents& g, Vec& v) {
  Vec out(v.size());
  const double eps = 1e-5;
  for (size_t i = 0; i < v.size(); i++) {
    const double keep = v[i];
    v[i] = keep + eps;
    const double up = loss(l, g);
    v[i] = keep - eps;
    out[i] = (up - loss(l, g)) / (2 * eps);
    v[i] = keep;
  }
  return out;
}

}  // namespace reference
