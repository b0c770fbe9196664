// The ops on CPU tensors: one native call for one layer and the whole sequence.
#include <torch/csrc/stable/library.h>

#include "large.h"
#include "layer_call.h"
#include "run.h"

namespace fusedrnn::torch_ops {
namespace {

// The values that index memory.
void check_values(const LayerCall& call) {
  const ForwardArgs& f = call.f;
  const Dims& n = f.n;
  call.check_lengths();
  for (int64_t i = 0; f.ids && i < f.rows(); i++) {
    if (f.ids[i] >= 0 && f.ids[i] < n.I) continue;
    expect(!f.starts, "token ids in [0, ", n.I, "), got ", f.ids[i], " at row ", i, " of the packed data");
    expect(false, "token ids in [0, ", n.I, "), got ", f.ids[i], " at step ", i / n.B, ", row ", i % n.B);
  }
}

ForwardResult layer_forward(const Tensor& x, const MaybeTensor& h0, const MaybeTensor& c0,
                            const std::vector<Tensor>& weights, const MaybeTensor& lengths, const MaybeTensor& resets,
                            int64_t cell, int64_t directions, bool save, bool tf32, bool compact) {
  LayerCall call(x, h0, c0, weights, lengths, resets, cell, directions, tf32);
  check_values(call);
  if (save && compact) call.save_compact();
  ForwardResult out = allocate_forward(call, x, save, call.acc, make_large);
  run_forward(call.f);
  return out;
}

// One streaming step of a stack of layers of one direction: x [B, I] or ids [B], h [L, B, P] and
// c [L, B, H], the weights of layer after layer. Every layer is checked before the first one runs.
std::tuple<Tensor, Tensor, MaybeTensor> layer_step(const Tensor& x, const MaybeTensor& h, const MaybeTensor& c,
                                                   const std::vector<Tensor>& weights, int64_t cell, int64_t layers) {
  expect(layers >= 1 && !weights.empty() && weights.size() % layers == 0,
         "the same number of weights for each of at least one layer, got ", weights.size(), " for ", layers);
  const int64_t per = static_cast<int64_t>(weights.size()) / layers;
  std::vector<LayerCall> calls;
  std::vector<Tensor> outputs;
  calls.reserve(layers);
  outputs.reserve(layers);
  for (int64_t i = 0; i < layers; i++) {
    const std::vector<Tensor> own(weights.begin() + i * per, weights.begin() + (i + 1) * per);
    calls.emplace_back(i ? outputs.back() : x, h, c, own, MaybeTensor(), MaybeTensor(), cell, 1, false,
                       Place{layers, i});
    const Dims& n = calls.back().f.n;
    const int64_t size[2] = {n.B, n.P};
    outputs.push_back(make_empty(x, {size, 2}, calls.back().dtype));
    calls.back().f.y = outputs.back().mutable_data_ptr();
  }
  check_values(calls[0]);
  const Dims& n = calls[0].f.n;
  const int64_t h_size[3] = {layers, n.B, n.P}, c_size[3] = {layers, n.B, n.H};
  Tensor h_n = make_empty(x, {h_size, 3}, calls[0].dtype);
  MaybeTensor c_n;
  if (calls[0].has_c) c_n = make_empty(x, {c_size, 3}, calls[0].dtype);
  for (int64_t i = 0; i < layers; i++) {
    ForwardArgs& f = calls[i].f;
    f.h_n = calls[i].row(h_n.mutable_data_ptr(), i, n.B * n.P);
    if (c_n) f.c_n = calls[i].row(c_n->mutable_data_ptr(), i, n.B * n.H);
    run_forward(f);
  }
  return {outputs.back(), h_n, c_n};
}

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> layer_backward(
    const MaybeTensor& dy, const MaybeTensor& dh_n, const MaybeTensor& dc_n, const Tensor& x, const MaybeTensor& h0,
    const MaybeTensor& c0, const std::vector<Tensor>& weights, const MaybeTensor& lengths, const MaybeTensor& resets,
    const MaybeTensor& y, const MaybeTensor& gates, const MaybeTensor& cells, const MaybeTensor& hidden, int64_t cell,
    int64_t directions, bool need_dx, bool need_dw, bool tf32) {
  expect(!weights.empty(), "weights, got none");
  const Saved kept = saved_or_again(y, gates, cells, hidden, [&] {
    return layer_forward(x, h0, c0, weights, lengths, resets, cell, directions, true, tf32, true);
  });
  BackwardCall call(dy, dh_n, dc_n, x, h0, c0, weights, lengths, resets, kept, cell, directions, need_dx, need_dw, tf32,
                    accumulation_type(weights[0].scalar_type()));
  check_values(call);
  run_backward(call.b);
  return call.result();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusedrnn, CPU, m) {
  m.impl("layer_forward", TORCH_BOX(&layer_forward));
  m.impl("layer_backward", TORCH_BOX(&layer_backward));
  m.impl("layer_step", TORCH_BOX(&layer_step));
}

}  // namespace fusedrnn::torch_ops
