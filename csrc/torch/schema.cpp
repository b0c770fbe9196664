// The schemas of all ops. Implementations: cpu_layer.cpp, generate.cpp, cross_entropy.cpp, and cuda_*.cpp in the
// CUDA library.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(fusedrnn, m) {
  m.def(
      "layer_forward(Tensor x, Tensor? h0, Tensor? c0, Tensor[] weights, Tensor? lengths, Tensor? "
      "resets, "
      "int cell, int directions, bool save, bool tf32, bool compact=False) -> "
      "(Tensor y, Tensor h_n, Tensor c_n, Tensor gates, Tensor cells, Tensor hidden)");
  m.def(
      "layer_backward(Tensor? dy, Tensor? dh_n, Tensor? dc_n, Tensor x, Tensor? h0, Tensor? c0, "
      "Tensor[] weights, "
      "Tensor? lengths, Tensor? resets, Tensor? y, Tensor? gates, Tensor? cells, Tensor? hidden, "
      "int cell, int directions, bool need_dx, bool need_dw, bool tf32) -> "
      "(Tensor dx, Tensor dh0, Tensor dc0, Tensor[] dweights)");
  m.def(
      "layer_step(Tensor x, Tensor? h, Tensor? c, Tensor[] weights, int cell, int layers) -> "
      "(Tensor y, Tensor h, Tensor? c)");
  m.def(
      "generate(Tensor(a!) h, Tensor(b!)? c, Tensor(c!) history, Tensor(d!) lengths, Tensor[] weights, "
      "Tensor? embedding, Tensor head, Tensor? head_bias, Tensor uniform, Tensor? banned, int cell, "
      "float penalty, int ngram, float temperature, int top_k, float top_p) -> Tensor logprobs");
  m.def(
      "linear_cross_entropy(Tensor x, Tensor w, Tensor? bias, Tensor labels, int ignored, bool mean, "
      "bool need_dx, bool need_dw, bool need_db) -> (Tensor loss, Tensor dx, Tensor dw, Tensor db)");
}
