#include "cpu_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>

#include "../../csrc/cells/all.h"
#include "cpu_check.h"

using fusedrnn::DType;
using oracle::Values;

namespace {

Values random_values(std::mt19937& g, size_t count, double scale) {
  std::uniform_real_distribution<double> u(-scale, scale);
  Values v(count);
  for (double& x : v) x = u(g);
  return v;
}

}  // namespace

bool Results::operator==(const Results& r) const {
  bool same = y.raw == r.y.raw && h_n.raw == r.h_n.raw && c_n.raw == r.c_n.raw && dx.raw == r.dx.raw &&
              dh0.raw == r.dh0.raw && dc0.raw == r.dc0.raw;
  for (int d = 0; d < 2; d++)
    for (int i = 0; i < 5; i++) same = same && dw[d][i].raw == r.dw[d][i].raw;
  return same;
}

std::string Options::name() const {
  static const char* types[] = {"f64", "f32", "bf16", "f16"};
  std::string s = std::string(fusedrnn::cells::kCells[cell].name) + " " + types[int(dtype)];
  const int64_t sizes[] = {n.T, n.B, n.I, n.H, n.P, n.D};
  for (int i = 0; i < 6; i++) s += std::string(" ") + "TBIHPD"[i] + std::to_string(sizes[i]);
  s += bias ? " bias" : "";
  s += states ? " states" : "";
  s += lengths ? sorted ? " sorted lengths" : " lengths" : "";
  s += resets ? " resets" : "";
  s += ids ? " ids" : "";
  s += dy ? "" : " no-dy";
  return s + " seed " + std::to_string(seed);
}

Case::Case(const Options& options) : o(options) {
  const fusedrnn::Dims& n = o.n;
  const bool has_cell = fusedrnn::cells::kCells[o.cell].has_cell;
  const int64_t GH = oracle::gates(o.cell) * n.H;
  std::mt19937 g(o.seed);
  auto fill = [&](size_t count, double scale) {
    Values v = random_values(g, count, scale);
    for (double& x : v) x = round_to(o.dtype, x);
    return v;
  };
  layer.cell = o.cell;
  layer.n = n;
  layer.round = o.dtype == DType::f64    ? [](double x) { return x; }
                : o.dtype == DType::f32  ? [](double x) { return x; }  // within the tolerance
                : o.dtype == DType::bf16 ? [](double x) { return round_to(DType::bf16, x); }
                                         : [](double x) { return round_to(DType::f16, x); };
  layer.x = fill(n.T * n.B * n.I, 1);
  if (o.ids) {
    layer.x.assign(layer.x.size(), 0.0);
    for (int64_t i = 0; i < n.T * n.B; i++) {
      ids_.push_back(int64_t(g() % unsigned(n.I)));
      layer.x[i * n.I + ids_.back()] = 1;
    }
  }
  const double scale = 1 / std::sqrt(double(n.H));
  for (int d = 0; d < n.D; d++) {
    oracle::Weights& w = layer.w[d];
    w.ih = fill(GH * n.I, scale);
    w.hh = fill(GH * n.P, scale);
    if (o.bias) w.b_ih = fill(GH, scale), w.b_hh = fill(GH, scale);
    if (n.P < n.H) w.hr = fill(n.P * n.H, scale);
    const Values* parts[5] = {&w.ih, &w.hh, &w.b_ih, &w.b_hh, &w.hr};
    for (int i = 0; i < 5; i++) w_[d][i] = Array(o.dtype, *parts[i]);
  }
  const size_t ph = n.D * n.B * n.P, pc = n.D * n.B * n.H;
  layer.h0 = o.states ? fill(ph, 1) : Values(ph, 0.0);
  layer.c0 = o.states && has_cell ? fill(pc, 1) : Values(pc, 0.0);
  dhn = o.states ? fill(ph, 1) : Values(ph, 0.0);
  dcn = o.states && has_cell ? fill(pc, 1) : Values(pc, 0.0);
  dy = o.dy ? fill(n.T * n.B * n.D * n.P, 1) : Values(n.T * n.B * n.D * n.P, 0.0);
  layer.lengths.assign(n.B, n.T);
  if (o.lengths)
    for (int64_t& l : layer.lengths) l = int64_t(g() % unsigned(n.T + 1));
  if (o.sorted) std::sort(layer.lengths.begin(), layer.lengths.end(), std::greater<>());
  layer.resets.assign(n.T * n.B, 0);
  if (o.resets)
    for (char& r : layer.resets) r = g() % 4 == 0;
  x_ = Array(o.dtype, layer.x);
  h0_ = Array(o.dtype, layer.h0);
  c0_ = Array(o.dtype, layer.c0);
  dy_ = Array(o.dtype, dy);
  dhn_ = Array(o.dtype, dhn);
  dcn_ = Array(o.dtype, dcn);
}

fusedrnn::Weights Case::weights(int d) {
  auto p = [&](int i) { return w_[d][i].raw.empty() ? nullptr : w_[d][i].data(); };
  return {p(0), p(1), p(2), p(3), p(4)};
}

Results Case::run(const fusedrnn::cpu::Threads& threads, bool save) { return run(threads, save, nullptr, false); }

Case Case::row(int64_t b) const {
  Options one = o;
  one.n.B = 1;
  Case c(one);  // of another batch: all that its rows share and hold is replaced
  const auto cut = [&](Array& to, const Array& from, int64_t width) {
    const size_t bytes = width * bytes_of(from.dtype);
    to.raw.assign(from.raw.begin() + b * bytes, from.raw.begin() + (b + 1) * bytes);
  };
  cut(c.x_, x_, o.n.I);
  cut(c.h0_, h0_, o.n.H);
  if (!c0_.raw.empty()) cut(c.c0_, c0_, o.n.H);
  for (int i = 0; i < 5; i++) c.w_[0][i] = w_[0][i];
  if (o.ids) c.ids_ = {ids_[b]};
  return c;
}

Results Case::step(const fusedrnn::cpu::Threads& threads) {
  const bool has_cell = fusedrnn::cells::kCells[o.cell].has_cell;
  Results r;
  r.y = r.h_n = Array(o.dtype, o.n.B * o.n.H);
  r.c_n = Array(o.dtype, has_cell ? o.n.B * o.n.H : 0);
  fusedrnn::ForwardArgs f = {};
  f.cell = o.cell;
  f.dtype = o.dtype;
  f.n = o.n;
  f.x = o.ids ? nullptr : x_.data();
  f.ids = o.ids ? ids_.data() : nullptr;
  f.h0 = o.states ? h0_.data() : nullptr;
  f.c0 = o.states && has_cell ? c0_.data() : nullptr;
  f.w[0] = weights(0);
  f.y = r.y.data();
  f.h_n = r.h_n.data();
  f.c_n = has_cell ? r.c_n.data() : nullptr;
  check::that(fusedrnn::cpu::kernels().step(f, threads), o.name() + ": no streaming step");
  return r;
}

Results Case::run_packed(const fusedrnn::cpu::Threads& threads, bool save) {
  const fusedrnn::Dims& n = o.n;
  std::vector<int64_t> starts = {0};
  for (int64_t t = 0; t < n.T; t++)
    starts.push_back(starts.back() + std::count_if(layer.lengths.begin(), layer.lengths.end(),
                                                   [&](int64_t length) { return length > t; }));
  return run(threads, save, starts.data(), false);
}
Results Case::run_compact(const fusedrnn::cpu::Threads& threads) { return run(threads, true, nullptr, true); }

Array Case::packed(const Array& padded, int64_t row, const int64_t* starts) {
  const size_t bytes = row * bytes_of(padded.dtype);
  Array to(padded.dtype, starts[o.n.T] * row);
  for (int64_t t = 0; t < o.n.T; t++)
    std::copy_n(padded.raw.begin() + t * o.n.B * bytes, (starts[t + 1] - starts[t]) * bytes,
                to.raw.begin() + starts[t] * bytes);
  return to;
}
Array Case::padded(const Array& packed, int64_t row, const int64_t* starts) {
  const size_t bytes = row * bytes_of(packed.dtype);
  Array to(packed.dtype, o.n.T * o.n.B * row);
  std::fill(to.raw.begin(), to.raw.end(), 0);
  for (int64_t t = 0; t < o.n.T; t++)
    std::copy_n(packed.raw.begin() + starts[t] * bytes, (starts[t + 1] - starts[t]) * bytes,
                to.raw.begin() + t * o.n.B * bytes);
  return to;
}

Results Case::run(const fusedrnn::cpu::Threads& threads, bool save, const int64_t* starts, bool compact) {
  const fusedrnn::Dims& n = o.n;
  const fusedrnn::cells::CellInfo& cell = fusedrnn::cells::kCells[o.cell];
  const DType acc = o.dtype == DType::f64 ? DType::f64 : DType::f32;
  const bool project = n.P < n.H;
  const int64_t rows = starts ? starts[n.T] : n.T * n.B;
  const int64_t kept = compact ? std::accumulate(layer.lengths.begin(), layer.lengths.end(), int64_t(0)) : rows;
  Array x = starts ? packed(x_, n.I, starts) : x_, dy_rows = starts ? packed(dy_, n.D * n.P, starts) : dy_;
  std::vector<int64_t> ids = ids_;
  for (int64_t t = 0; t < n.T && starts && o.ids; t++)
    std::copy_n(ids_.begin() + t * n.B, starts[t + 1] - starts[t], ids.begin() + starts[t]);
  if (starts) ids.resize(o.ids ? rows : 0);
  Results r;
  r.y = Array(o.dtype, rows * n.D * n.P);
  r.h_n = Array(o.dtype, n.D * n.B * n.P);
  r.c_n = Array(o.dtype, cell.has_cell ? n.D * n.B * n.H : 0);
  Array gates(acc, n.D * kept * cell.S * n.H), cells(acc, cell.has_cell ? n.D * kept * n.H : 0);
  Array hidden(acc, project ? n.D * kept * n.H : 0);
  auto given = [](bool b, Array& a) { return b ? a.data() : nullptr; };
  fusedrnn::ForwardArgs f = {};
  f.cell = o.cell;
  f.dtype = o.dtype;
  f.n = n;
  f.x = given(!o.ids, x);
  f.ids = o.ids ? ids.data() : nullptr;
  f.h0 = given(o.states, h0_);
  f.c0 = given(o.states && cell.has_cell, c0_);
  for (int d = 0; d < n.D; d++) f.w[d] = weights(d);
  f.lengths = o.lengths ? layer.lengths.data() : nullptr;
  static_assert(sizeof(bool) == 1);
  f.resets = o.resets ? reinterpret_cast<const bool*>(layer.resets.data()) : nullptr;
  f.starts = starts;
  f.valid = compact ? kept : 0;
  f.y = r.y.data();
  f.h_n = r.h_n.data();
  f.c_n = given(cell.has_cell, r.c_n);
  f.gates = given(save && cell.S > 0, gates);
  f.cells = given(save && cell.has_cell, cells);
  f.hidden = given(save && project, hidden);
  fusedrnn::cpu::kernels().forward(f, threads);
  if (!save) {
    if (starts) r.y = padded(r.y, n.D * n.P, starts);
    return r;
  }

  between();
  const Array y_before = r.y, gates_before = gates, cells_before = cells, hidden_before = hidden;
  fusedrnn::BackwardArgs b = {};
  b.f = f;
  b.f.h_n = b.f.c_n = nullptr;
  b.dy = given(o.dy, dy_rows);
  b.dhn = given(o.states, dhn_);
  b.dcn = given(o.states && cell.has_cell, dcn_);
  r.dx = Array(o.dtype, o.ids ? 0 : rows * n.I);
  r.dh0 = Array(o.dtype, o.states ? n.D * n.B * n.P : 0);
  r.dc0 = Array(o.dtype, o.states && cell.has_cell ? n.D * n.B * n.H : 0);
  b.dx = given(!o.ids, r.dx);
  b.dh0 = given(o.states, r.dh0);
  b.dc0 = given(o.states && cell.has_cell, r.dc0);
  for (int d = 0; d < n.D; d++) {
    for (int i = 0; i < 5; i++) r.dw[d][i] = Array(o.dtype, w_[d][i].raw.size() / bytes_of(o.dtype));
    auto p = [&](int i) { return r.dw[d][i].raw.empty() ? nullptr : r.dw[d][i].data(); };
    b.dw[d] = {p(0), p(1), p(2), p(3), p(4)};
  }
  fusedrnn::cpu::kernels().backward(b, threads);
  check::that(r.y.raw == y_before.raw && gates.raw == gates_before.raw && cells.raw == cells_before.raw &&
                  hidden.raw == hidden_before.raw,
              o.name() + ": backward wrote to saved buffers");
  if (starts) {
    r.y = padded(r.y, n.D * n.P, starts);
    if (!o.ids) r.dx = padded(r.dx, n.I, starts);
  }
  return r;
}

const oracle::Output& Case::expected_output() {
  if (!output_) output_ = std::make_unique<oracle::Output>(oracle::forward(layer));
  return *output_;
}
const oracle::Gradients& Case::expected_gradients() {
  if (!gradients_) gradients_ = std::make_unique<oracle::Gradients>(oracle::backward(layer, dy, dhn, dcn));
  return *gradients_;
}

bool Case::matches(const Results& r) {
  // Units of the largest reference value; sums are over up to a few hundred terms.
  const double tolerance = o.dtype == DType::f64   ? 2e-13
                           : o.dtype == DType::f32 ? 1e-5
                           : o.dtype == DType::f16 ? 4e-3
                                                   : 3e-2;
  bool all = true;
  auto same = [&](const char* what, const Array& got, const Values& want) {
    if (got.raw.empty()) return;
    const Values v = got.values();
    double scale = 0, worst = 0;
    for (double w : want) scale = std::max(scale, std::abs(w));
    for (size_t i = 0; i < want.size(); i++) {
      const double e = std::abs(v[i] - want[i]);
      if (!(e <= worst)) worst = e;
    }
    const bool ok = v.size() == want.size() && worst <= tolerance * std::max(scale, 0.01);
    all &= check::that(ok,
                       o.name() + ": " + what + " is off by " + std::to_string(worst) + " of " + std::to_string(scale));
  };
  const oracle::Output& out = expected_output();
  same("y", r.y, out.y);
  same("h_n", r.h_n, out.h_n);
  same("c_n", r.c_n, out.c_n);
  if (r.dw[0][0].raw.empty()) return all;
  const oracle::Gradients& g = expected_gradients();
  same("dx", r.dx, g.dx);
  same("dh0", r.dh0, g.dh0);
  same("dc0", r.dc0, g.dc0);
  for (int d = 0; d < o.n.D; d++) {
    const oracle::Weights& w = g.dw[d];
    const Values* parts[5] = {&w.ih, &w.hh, &w.b_ih, &w.b_hh, &w.hr};
    static const char* names[5] = {"dw_ih", "dw_hh", "db_ih", "db_hh", "dw_hr"};
    for (int i = 0; i < 5; i++) same(names[i], r.dw[d][i], *parts[i]);
  }
  return all;
}
