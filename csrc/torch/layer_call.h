// From torch tensors to the arguments of a backend (csrc/layer.h): checks, contiguous copies,
// outputs. Shared by the CPU and CUDA implementations of the ops, so that both refuse the same
// calls with the same words.
#pragma once
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "../cells/all.h"
#include "../layer.h"
#include "tensors.h"

namespace fusedrnn::torch_ops {

// One layer of a stack that takes a streaming step: its states are rows of those of the stack.
struct Place {
  int64_t layers, layer;
};

// Owns the contiguous inputs and the pointers into them. `f` is what a backend reads.
struct LayerCall {
  ForwardArgs f{};
  ScalarType dtype, acc;
  bool has_c, projects;
  int64_t slots;
  std::vector<Tensor> held;     // keeps contiguous copies alive
  std::vector<int64_t> starts;  // of packed data: where its steps begin

  LayerCall(const Tensor& x, const MaybeTensor& h0, const MaybeTensor& c0, const std::vector<Tensor>& weights,
            const MaybeTensor& lengths, const MaybeTensor& resets, int64_t cell, int64_t directions, bool tf32,
            std::optional<Place> step = std::nullopt) {
    expect(cell >= 0 && cell < cells::kCellCount, "a cell index in [0, ", cells::kCellCount, "), got ", cell);
    expect(directions == 1 || directions == 2, "1 or 2 directions, got ", directions);
    const cells::CellInfo& info = cells::kCells[cell];
    const int64_t per = static_cast<int64_t>(weights.size()) / directions;
    expect(per * directions == static_cast<int64_t>(weights.size()) && per >= 2 && per <= 5,
           "2 to 5 weights for each of ", directions, " directions, got ", weights.size());
    projects = per == 3 || per == 5;
    has_c = info.has_cell;
    slots = info.S;
    expect(!projects || has_c, "a cell with a cell state where weights project, got ", info.name);
    const Tensor &w_ih = weights[0], &w_hh = weights[1];
    expect(w_ih.dim() == 2 && w_hh.dim() == 2, "2-D weights, got ", Shape{w_ih}, " and ", Shape{w_hh});
    dtype = w_ih.scalar_type();
    acc = accumulation_type(dtype);
    const bool ids = x.scalar_type() == ScalarType::Long;
    const bool packed = !step && lengths && x.dim() == 1 + !ids;
    expect(x.dim() == (step || packed ? 1 : 2) + !ids,
           step ? "x of shape [B, I] or int64 [B], got "
                : "x of shape [T, B, I] or int64 [T, B], or packed with lengths, got ",
           Shape{x});
    expect(w_ih.size(0) % info.G == 0, "w_ih of ", info.G, " * H rows, got ", Shape{w_ih});
    Dims& n = f.n;
    n = {1, x.size(0), w_ih.size(1), w_ih.size(0) / info.G, w_hh.size(1), directions};
    if (packed) {
      expect(!resets, "no resets with packed data");
      take_lengths_of_packed(x, *lengths);
    } else if (!step) {
      n.T = x.size(0);
      n.B = x.size(1);
    }
    expect(n.T > 0, "at least one time step, got x of shape ", Shape{x});
    expect(projects || n.P == n.H, "w_hh of shape [", info.G * n.H, ", ", n.H, "], got ", Shape{w_hh});
    f.cell = static_cast<int>(cell);
    f.dtype = dtype_of(w_ih, "weights");
    f.tf32 = tf32;
    const int64_t GH = info.G * n.H;
    for (int64_t d = 0; d < directions; d++) {
      const Tensor* w = &weights[d * per];
      f.w[d].ih = take(w[0], {GH, n.I}, "w_ih", x);
      f.w[d].hh = take(w[1], {GH, n.P}, "w_hh", x);
      if (per >= 4) f.w[d].b_ih = take(w[2], {GH}, "b_ih", x);
      if (per >= 4) f.w[d].b_hh = take(w[3], {GH}, "b_hh", x);
      if (projects) f.w[d].hr = take(w[per - 1], {n.P, n.H}, "w_hr", x);
    }
    if (step) {
      take_step(x, h0, c0, ids, *step);
      return;
    }
    if (ids) {
      f.ids =
          static_cast<const int64_t*>(take(x, packed ? Extent{f.rows()} : Extent{n.T, n.B}, "x", x, ScalarType::Long));
    } else {
      f.x = take(x, sequence(n.I), "x", x);
    }
    if (h0) f.h0 = take(*h0, {n.D, n.B, n.P}, "h0", x);
    expect(has_c || !c0, "no c0 for cell ", info.name);
    if (c0) f.c0 = take(*c0, {n.D, n.B, n.H}, "c0", x);
    if (lengths && !packed)
      f.lengths = static_cast<const int64_t*>(take(*lengths, {n.B}, "lengths", x, ScalarType::Long));
    if (resets) f.resets = static_cast<const bool*>(take(*resets, {n.T, n.B}, "resets", x, ScalarType::Bool));
  }

  // Packed data, x [N, I] or ids [N]: rows that are longest first, step by step.
  void take_lengths_of_packed(const Tensor& x, const Tensor& lengths) {
    expect(x.is_cpu(), "packed data on the CPU, got it on another device");
    expect(lengths.dim() == 1 && lengths.size(0) > 0, "lengths of shape [B] with packed data, got ", Shape{lengths});
    Dims& n = f.n;
    n.B = lengths.size(0);
    const int64_t* const length = static_cast<const int64_t*>(take(lengths, {n.B}, "lengths", x, ScalarType::Long));
    for (int64_t b = 0; b < n.B; b++)
      expect(length[b] >= 0 && (b == 0 || length[b] <= length[b - 1]),
             "lengths of packed data that do not increase and are not negative, got ", length[b], " at row ", b);
    n.T = length[0];
    const int64_t rows = x.size(0);
    int64_t sum = 0;
    for (int64_t b = 0; b < n.B && sum <= rows; b++) sum += length[b];
    expect(sum == rows, "as many rows of packed data as its lengths add up to, got ", rows);
    starts.assign(n.T + 1, 0);
    for (int64_t t = 0, active = n.B; t < n.T; t++) {
      while (length[active - 1] <= t) active--;
      starts[t + 1] = starts[t] + active;
    }
    f.lengths = length;
    f.starts = starts.data();
  }

  // Lengths index memory, so they are looked at before a kernel runs. Of CPU tensors, whose values can be seen.
  void check_lengths() const {
    const Dims& n = f.n;
    for (int64_t i = 0; f.lengths && i < n.B; i++)
      expect(f.lengths[i] >= 0 && f.lengths[i] <= n.T, "lengths in [0, ", n.T, "], got ", f.lengths[i], " at row ", i);
  }

  // What is saved holds nothing beyond the lengths, if there are any. Not where they are all 0: an array of no elements
  // has no address.
  void save_compact() {
    check_lengths();
    if (f.lengths && !f.starts) f.valid = std::accumulate(f.lengths, f.lengths + f.n.B, int64_t(0));
  }

  // The sizes of an array of all steps, and of one that forward saves.
  Extent sequence(int64_t last) const { return f.starts ? Extent{f.rows(), last} : Extent{f.n.T, f.n.B, last}; }
  Extent saved(int64_t last) const {
    if (f.starts || f.valid > 0) return Extent{f.n.D, f.saved_rows(), last};
    return Extent{f.n.D, f.n.T, f.n.B, last};
  }

  // Input and state of one streaming step: x [B, I] or [B], h [layers, B, P], c [layers, B, H].
  void take_step(const Tensor& x, const MaybeTensor& h, const MaybeTensor& c, bool ids, Place place) {
    const Dims& n = f.n;
    if (ids) {
      f.ids = static_cast<const int64_t*>(take(x, {n.B}, "x", x, ScalarType::Long));
    } else {
      f.x = take(x, {n.B, n.I}, "x", x);
    }
    expect(has_c || !c, "no c for a cell without a cell state");
    if (h) f.h0 = row(take(*h, {place.layers, n.B, n.P}, "h", x), place.layer, n.B * n.P);
    if (c) f.c0 = row(take(*c, {place.layers, n.B, n.H}, "c", x), place.layer, n.B * n.H);
  }

  // Row i of rows of `size` elements of the weights' dtype.
  template <class P>
  P* row(P* base, int64_t i, int64_t size) const {
    const int64_t bytes = f.dtype == DType::f64 ? 8 : f.dtype == DType::f32 ? 4 : 2;
    using Byte = std::conditional_t<std::is_const_v<P>, const char, char>;
    return static_cast<Byte*>(base) + i * size * bytes;
  }

  // A checked, contiguous input's data; the tensor lives as long as this call.
  const void* take(const Tensor& t, const Extent& shape, const char* name, const Tensor& x,
                   std::optional<ScalarType> want = std::nullopt) {
    const ScalarType type = want.value_or(dtype);
    expect(t.scalar_type() == type, name, " of dtype ", type_name(type), ", got ", type_name(t.scalar_type()));
    expect(t.is_cpu() == x.is_cpu() && t.get_device_index() == x.get_device_index(), name, " on the device of x");
    check_shape(t, shape, name);
    if (t.is_contiguous()) return t.const_data_ptr();
    held.push_back(torch::stable::contiguous(t));
    return held.back().const_data_ptr();
  }

  // A gradient that may be absent or expanded.
  const void* take(const MaybeTensor& t, const Extent& shape, const char* name, const Tensor& x) {
    return t ? take(*t, shape, name, x) : nullptr;
  }
};

using ForwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Outputs of layer_forward in the schema's order; fills the pointers of call.f. The backend chooses the type of the
// gates, and make_kept(like, size, type), which makes what only backward reads.
template <class Make>
ForwardResult allocate_forward(LayerCall& call, const Tensor& x, bool save, ScalarType gates_type, Make&& make_kept) {
  const Dims& n = call.f.n;
  auto make = [&](bool wanted, const Extent& size, ScalarType type) {
    return make_empty(x, wanted ? size : Extent{0}, type);
  };
  auto keep = [&](bool wanted, const Extent& size, ScalarType type) {
    return wanted ? make_kept(x, size, type) : make(false, size, type);
  };
  Tensor y = make(true, call.sequence(n.D * n.P), call.dtype);
  Tensor h_n = make(true, {n.D, n.B, n.P}, call.dtype);
  Tensor c_n = make(call.has_c, {n.D, n.B, n.H}, call.dtype);
  Tensor gates = keep(save && call.slots > 0, call.saved(call.slots * n.H), gates_type);
  Tensor cells = keep(save && call.has_c, call.saved(n.H), call.acc);
  Tensor hidden = keep(save && call.projects, call.saved(n.H), call.acc);
  call.f.y = y.mutable_data_ptr();
  call.f.h_n = h_n.mutable_data_ptr();
  if (call.has_c) call.f.c_n = c_n.mutable_data_ptr();
  if (save && call.slots > 0) call.f.gates = gates.mutable_data_ptr();
  if (save && call.has_c) call.f.cells = cells.mutable_data_ptr();
  if (save && call.projects) call.f.hidden = hidden.mutable_data_ptr();
  return {y, h_n, c_n, gates, cells, hidden};
}

// What layer_backward reads of a forward pass.
struct Saved {
  Tensor y, gates, cells, hidden;
};

// All four as they were kept, or, where none was, from forward(), a forward pass that saves.
template <class Forward>
Saved saved_or_again(const MaybeTensor& y, const MaybeTensor& gates, const MaybeTensor& cells,
                     const MaybeTensor& hidden, Forward&& forward) {
  const int given = y.has_value() + gates.has_value() + cells.has_value() + hidden.has_value();
  expect(given == 0 || given == 4, "all of y, gates, cells and hidden, or none of them, got ", given);
  if (given) return {*y, *gates, *cells, *hidden};
  const ForwardResult again = forward();
  return {std::get<0>(again), std::get<3>(again), std::get<4>(again), std::get<5>(again)};
}

// Everything layer_backward reads and writes.
struct BackwardCall : LayerCall {
  BackwardArgs b{};
  Tensor dx, dh0, dc0;
  std::vector<Tensor> dweights;

  BackwardCall(const MaybeTensor& dy, const MaybeTensor& dh_n, const MaybeTensor& dc_n, const Tensor& x,
               const MaybeTensor& h0, const MaybeTensor& c0, const std::vector<Tensor>& weights,
               const MaybeTensor& lengths, const MaybeTensor& resets, const Saved& kept, int64_t cell,
               int64_t directions, bool need_dx, bool need_dw, bool tf32, ScalarType gates_type)
      : LayerCall(x, h0, c0, weights, lengths, resets, cell, directions, tf32) {
    const Dims& n = f.n;
    // A saved tensor is only read, but ForwardArgs declares it as the output it once was.
    auto kept_of = [&](const Tensor& t, int64_t last, ScalarType type, const char* name) {
      return const_cast<void*>(take(t, saved(last), name, x, type));
    };
    f.y = const_cast<void*>(take(kept.y, sequence(n.D * n.P), "y", x));
    if (x.is_cpu() && (slots > 0 ? kept.gates.dim() : has_c ? kept.cells.dim() : 0) == 3) save_compact();
    if (slots > 0) f.gates = kept_of(kept.gates, slots * n.H, gates_type, "gates");
    if (has_c) f.cells = kept_of(kept.cells, n.H, acc, "cells");
    if (projects) f.hidden = kept_of(kept.hidden, n.H, acc, "hidden");
    b.f = f;
    b.dy = take(dy, sequence(n.D * n.P), "dy", x);
    b.dhn = take(dh_n, {n.D, n.B, n.P}, "dh_n", x);
    expect(has_c || !dc_n, "no dc_n for a cell without a cell state");
    b.dcn = take(dc_n, {n.D, n.B, n.H}, "dc_n", x);

    const bool want_dx = need_dx && !f.ids;
    const Extent none{0};
    dx = make_empty(x, want_dx ? sequence(n.I) : none, dtype);
    dh0 = make_empty(x, Extent{n.D, n.B, n.P}, dtype);
    dc0 = make_empty(x, has_c ? Extent{n.D, n.B, n.H} : none, dtype);
    if (want_dx) b.dx = dx.mutable_data_ptr();
    b.dh0 = dh0.mutable_data_ptr();
    if (has_c) b.dc0 = dc0.mutable_data_ptr();
    const size_t per = weights.size() / directions;
    for (size_t i = 0; i < weights.size(); i++) {
      dweights.push_back(need_dw ? make_empty(weights[i], weights[i].sizes(), dtype) : make_empty(x, none, dtype));
      if (!need_dw) continue;
      WeightGrads& g = b.dw[i / per];
      void* const slot = dweights.back().mutable_data_ptr();
      const size_t k = i % per;
      (k == 0 ? g.ih : k == 1 ? g.hh : per >= 4 && k == 2 ? g.b_ih : per >= 4 && k == 3 ? g.b_hh : g.hr) = slot;
    }
  }

  std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> result() const { return {dx, dh0, dc0, dweights}; }
};

}  // namespace fusedrnn::torch_ops
