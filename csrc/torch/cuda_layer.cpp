// The ops on CUDA tensors: enqueue on the caller's stream and return. Values of lengths and token ids are not looked
// at, which would wait for the device: lengths are clamped to [0, T], and a token id out of range makes its row NaN.
#include <torch/csrc/stable/library.h>

#include "cuda_torch.h"
#include "layer_call.h"

namespace fusedrnn::torch_ops {
namespace {

ForwardResult layer_forward(const Tensor& x, const MaybeTensor& h0, const MaybeTensor& c0,
                            const std::vector<Tensor>& weights, const MaybeTensor& lengths, const MaybeTensor& resets,
                            int64_t cell, int64_t directions, bool save, bool tf32, bool compact) {
  expect(!compact, "no compact layout, which only the CPU knows");
  Session session(x, tf32);
  LayerCall call(x, h0, c0, weights, lengths, resets, cell, directions, tf32);
  ForwardResult out = allocate_forward(call, x, save, call.dtype, make_empty);
  cuda::layer_forward(call.f, session.runtime());
  return out;
}

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> layer_backward(
    const MaybeTensor& dy, const MaybeTensor& dh_n, const MaybeTensor& dc_n, const Tensor& x, const MaybeTensor& h0,
    const MaybeTensor& c0, const std::vector<Tensor>& weights, const MaybeTensor& lengths, const MaybeTensor& resets,
    const MaybeTensor& y, const MaybeTensor& gates, const MaybeTensor& cells, const MaybeTensor& hidden, int64_t cell,
    int64_t directions, bool need_dx, bool need_dw, bool tf32) {
  expect(!weights.empty(), "weights, got none");
  const Saved kept = saved_or_again(y, gates, cells, hidden, [&] {
    return layer_forward(x, h0, c0, weights, lengths, resets, cell, directions, true, tf32, false);
  });
  Session session(x, tf32);
  BackwardCall call(dy, dh_n, dc_n, x, h0, c0, weights, lengths, resets, kept, cell, directions, need_dx, need_dw, tf32,
                    weights[0].scalar_type());
  cuda::layer_backward(call.b, session.runtime());
  return call.result();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusedrnn, CUDA, m) {
  m.impl("layer_forward", TORCH_BOX(&layer_forward));
  m.impl("layer_backward", TORCH_BOX(&layer_backward));
}

}  // namespace fusedrnn::torch_ops
