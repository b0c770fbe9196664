#include "cpu_oracle.h"

#include <cmath>

namespace oracle {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Step {
  int64_t t;
  bool cut;  // the state before it was dropped
  Values h_prev, c_prev, x_side, h_side, hidden, c, h;
};

// Row r of a [rows, k] matrix times v, plus a bias if there is one.
double row_dot(const Values& m, int64_t r, const double* v, int64_t k, const Values& bias) {
  double s = bias.empty() ? 0 : bias[r];
  for (int64_t i = 0; i < k; i++) s += m[r * k + i] * v[i];
  return s;
}

void cell_forward(int cell, int64_t H, Step& s) {
  const Values &x = s.x_side, &a = s.h_side;
  for (int64_t j = 0; j < H; j++) {
    const double z = x[j] + a[j];
    if (cell == elman_tanh) s.hidden[j] = std::tanh(z);
    if (cell == elman_relu) s.hidden[j] = z < 0 ? 0 : z;
    if (cell == lstm) {
      const double i = sigmoid(z), f = sigmoid(x[H + j] + a[H + j]);
      const double g = std::tanh(x[2 * H + j] + a[2 * H + j]), o = sigmoid(x[3 * H + j] + a[3 * H + j]);
      s.c[j] = f * s.c_prev[j] + i * g;
      s.hidden[j] = o * std::tanh(s.c[j]);
    }
    if (cell == gru) {
      const double r = sigmoid(z), u = sigmoid(x[H + j] + a[H + j]);
      const double c = std::tanh(x[2 * H + j] + r * a[2 * H + j]);
      s.hidden[j] = (1 - u) * c + u * s.h_prev[j];
    }
  }
}

// dh: of the hidden output. dc: in and out. dxs, das: of x_side and h_side. Returns the direct gradient of h_prev.
Values cell_backward(int cell, int64_t H, const Step& s, const Values& dh, Values& dc, Values& dxs, Values& das) {
  const Values &x = s.x_side, &a = s.h_side;
  Values direct(H, 0.0);
  for (int64_t j = 0; j < H; j++) {
    if (cell == elman_tanh) dxs[j] = das[j] = dh[j] * (1 - s.h[j] * s.h[j]);
    if (cell == elman_relu) dxs[j] = das[j] = s.h[j] > 0 ? dh[j] : 0;
    if (cell == lstm) {
      const double i = sigmoid(x[j] + a[j]), f = sigmoid(x[H + j] + a[H + j]);
      const double g = std::tanh(x[2 * H + j] + a[2 * H + j]), o = sigmoid(x[3 * H + j] + a[3 * H + j]);
      const double tc = std::tanh(s.c[j]), d = dc[j] + dh[j] * o * (1 - tc * tc);
      dxs[j] = das[j] = d * g * i * (1 - i);
      dxs[H + j] = das[H + j] = d * s.c_prev[j] * f * (1 - f);
      dxs[2 * H + j] = das[2 * H + j] = d * i * (1 - g * g);
      dxs[3 * H + j] = das[3 * H + j] = dh[j] * tc * o * (1 - o);
      dc[j] = d * f;
    }
    if (cell == gru) {
      const double r = sigmoid(x[j] + a[j]), u = sigmoid(x[H + j] + a[H + j]);
      const double c = std::tanh(x[2 * H + j] + r * a[2 * H + j]);
      const double dn = dh[j] * (1 - u) * (1 - c * c);
      dxs[2 * H + j] = dn;
      das[2 * H + j] = dn * r;
      dxs[j] = das[j] = dn * a[2 * H + j] * r * (1 - r);
      dxs[H + j] = das[H + j] = dh[j] * (s.h_prev[j] - c) * u * (1 - u);
      direct[j] = dh[j] * u;
    }
  }
  return direct;
}

// One row of the batch in one direction, its steps in the order they run.
std::vector<Step> run_row(const Layer& l, int d, int64_t b) {
  const fusedrnn::Dims& n = l.n;
  const int64_t GH = gates(l.cell) * n.H, length = l.lengths[b];
  const Weights& w = l.w[d];
  Values h(l.h0.begin() + (d * n.B + b) * n.P, l.h0.begin() + (d * n.B + b + 1) * n.P);
  Values c(l.c0.begin() + (d * n.B + b) * n.H, l.c0.begin() + (d * n.B + b + 1) * n.H);
  std::vector<Step> steps;
  for (int64_t s = 0; s < length; s++) {
    Step p;
    p.t = d == 0 ? s : length - 1 - s;
    const int64_t boundary = d == 0 ? p.t : p.t + 1;  // a reset there separates this step from the one before
    p.cut = boundary < length && l.resets[boundary * n.B + b];
    if (p.cut) h.assign(n.P, 0.0), c.assign(n.H, 0.0);
    p.h_prev = h;
    p.c_prev = c;
    p.hidden.resize(n.H);
    p.c.resize(n.H);
    for (int64_t j = 0; j < GH; j++) {
      p.x_side.push_back(row_dot(w.ih, j, &l.x[(p.t * n.B + b) * n.I], n.I, w.b_ih));
      p.h_side.push_back(row_dot(w.hh, j, h.data(), n.P, w.b_hh));
    }
    cell_forward(l.cell, n.H, p);
    if (w.hr.empty()) {
      h = p.hidden;
    } else {
      h.resize(n.P);
      for (int64_t j = 0; j < n.P; j++) h[j] = row_dot(w.hr, j, p.hidden.data(), n.H, {});
    }
    for (double& v : h) v = l.round(v);
    c = p.c;
    p.h = w.hr.empty() ? h : p.hidden;  // what the derivative of an Elman cell is taken at
    steps.push_back(p);
    steps.back().hidden = p.hidden;
  }
  return steps;
}

// The published h of a step.
Values published(const Layer& l, int d, const Step& s) {
  if (l.w[d].hr.empty()) return s.h;
  Values h(l.n.P);
  for (int64_t j = 0; j < l.n.P; j++) h[j] = l.round(row_dot(l.w[d].hr, j, s.hidden.data(), l.n.H, {}));
  return h;
}

}  // namespace

double nearest_kink(const Layer& l) {
  double least = 1;
  if (l.cell != elman_relu) return least;
  for (int d = 0; d < l.n.D; d++)
    for (int64_t b = 0; b < l.n.B; b++)
      for (const Step& s : run_row(l, d, b))
        for (int64_t j = 0; j < l.n.H; j++) least = std::fmin(least, std::fabs(s.x_side[j] + s.h_side[j]));
  return least;
}

Output forward(const Layer& l) {
  const fusedrnn::Dims& n = l.n;
  Output out = {Values(n.T * n.B * n.D * n.P, 0.0), l.h0, l.c0};
  for (int d = 0; d < n.D; d++)
    for (int64_t b = 0; b < n.B; b++)
      for (const Step& s : run_row(l, d, b)) {
        const Values h = published(l, d, s);
        for (int64_t j = 0; j < n.P; j++)
          out.y[((s.t * n.B + b) * n.D + d) * n.P + j] = out.h_n[(d * n.B + b) * n.P + j] = h[j];
        for (int64_t j = 0; j < n.H; j++) out.c_n[(d * n.B + b) * n.H + j] = s.c[j];
      }
  return out;
}

Gradients backward(const Layer& l, const Values& dy, const Values& dhn, const Values& dcn) {
  const fusedrnn::Dims& n = l.n;
  const int64_t GH = gates(l.cell) * n.H;
  Gradients out;
  out.dx.assign(n.T * n.B * n.I, 0.0);
  out.dh0 = dhn;
  out.dc0 = dcn;
  for (int d = 0; d < n.D; d++) {
    const Weights& w = l.w[d];
    Weights& g = out.dw[d];
    g.ih.assign(w.ih.size(), 0.0);
    g.hh.assign(w.hh.size(), 0.0);
    g.hr.assign(w.hr.size(), 0.0);
    g.b_ih.assign(GH, 0.0);
    g.b_hh.assign(GH, 0.0);
    for (int64_t b = 0; b < n.B; b++) {
      const std::vector<Step> steps = run_row(l, d, b);
      double *dh0 = &out.dh0[(d * n.B + b) * n.P], *dc0 = &out.dc0[(d * n.B + b) * n.H];
      Values dh(dh0, dh0 + n.P), dc(dc0, dc0 + n.H);
      for (int64_t k = int64_t(steps.size()) - 1; k >= 0; k--) {
        const Step& s = steps[k];
        for (int64_t j = 0; j < n.P; j++) dh[j] += dy[((s.t * n.B + b) * n.D + d) * n.P + j];
        Values dhidden = dh, dxs(GH), das(GH);
        if (!w.hr.empty()) {
          dhidden.assign(n.H, 0.0);
          for (int64_t p = 0; p < n.P; p++)
            for (int64_t j = 0; j < n.H; j++) {
              dhidden[j] += dh[p] * w.hr[p * n.H + j];
              g.hr[p * n.H + j] += dh[p] * s.hidden[j];
            }
        }
        const Values direct = cell_backward(l.cell, n.H, s, dhidden, dc, dxs, das);
        dh.assign(n.P, 0.0);
        for (int64_t j = 0; j < GH; j++) {
          g.b_ih[j] += dxs[j];
          g.b_hh[j] += das[j];
          for (int64_t i = 0; i < n.I; i++) {
            g.ih[j * n.I + i] += dxs[j] * l.x[(s.t * n.B + b) * n.I + i];
            out.dx[(s.t * n.B + b) * n.I + i] += dxs[j] * w.ih[j * n.I + i];
          }
          for (int64_t p = 0; p < n.P; p++) {
            g.hh[j * n.P + p] += das[j] * s.h_prev[p];
            dh[p] += das[j] * w.hh[j * n.P + p];
          }
        }
        if (w.hr.empty())
          for (int64_t j = 0; j < n.H; j++) dh[j] += direct[j];
        if (s.cut) dh.assign(n.P, 0.0), dc.assign(n.H, 0.0);
      }
      for (int64_t j = 0; j < n.P; j++) dh0[j] = dh[j];
      for (int64_t j = 0; j < n.H; j++) dc0[j] = dc[j];
    }
  }
  return out;
}

}  // namespace oracle
