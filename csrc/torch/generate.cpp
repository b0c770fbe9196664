// The op of generation (csrc/cpu/generate.h), on CPU tensors.
#include "../cpu/generate.h"

#include <torch/csrc/stable/library.h>

#include <cmath>

#include "layer_call.h"
#include "pool.h"

namespace fusedrnn::torch_ops {
namespace {

// The whole of a tensor that is written to.
void* take_writable(Tensor& t, std::initializer_list<int64_t> shape, ScalarType type, const char* name) {
  expect(t.scalar_type() == type, name, " of dtype ", type_name(type), ", got ", type_name(t.scalar_type()));
  expect(t.is_cpu() && t.is_contiguous(), name, " contiguous, on the CPU");
  check_shape(t, shape, name);
  return t.mutable_data_ptr();
}

void check_sampling(const cpu::Sampling& s) {
  expect(std::isfinite(s.penalty) && s.penalty > 0, "a penalty above 0, got ", s.penalty);
  expect(s.ngram >= 0, "ngram of at least 0, got ", s.ngram);
  expect(std::isfinite(s.temperature) && s.temperature >= 0, "a temperature of at least 0, got ", s.temperature);
  expect(s.top_k >= 0, "top_k of at least 0, got ", s.top_k);
  expect(s.top_p > 0 && s.top_p <= 1, "top_p above 0 and at most 1, got ", s.top_p);
}

// Tokens of the histories are indices into the working memory.
void check_history(const cpu::GenerateArgs& a, int64_t B) {
  for (int64_t b = 0; b < B; b++) {
    const int64_t length = a.lengths[b];
    expect(length >= 0 && length <= a.capacity - a.steps, "room for ", a.steps, " more tokens in a history of ",
           a.capacity, ", got ", length, " in row ", b);
    for (int64_t i = 0; i < length; i++) {
      const int64_t token = a.history[b * a.capacity + i];
      expect(token >= 0 && token < a.V, "tokens in [0, ", a.V, ") in the history, got ", token);
    }
  }
}

// The layers' weights as a layer op takes them, each layer checked against the one below.
std::vector<LayerCall> layer_calls(const Tensor& ids, const Tensor& h, const MaybeTensor& c,
                                   const std::vector<Tensor>& weights, const MaybeTensor& embedding, int64_t cell) {
  const int64_t layers = h.dim() == 3 ? h.size(0) : 0, count = static_cast<int64_t>(weights.size());
  expect(layers >= 1 && count > 0 && count % layers == 0, "the same number of weights for each of at least one layer, ",
         "got ", count, " for h of shape ", Shape{h});
  const int64_t per = count / layers, B = h.size(1);
  std::vector<LayerCall> calls;
  calls.reserve(layers);
  for (int64_t i = 0; i < layers; i++) {
    const std::vector<Tensor> own(weights.begin() + i * per, weights.begin() + (i + 1) * per);
    const int64_t wide[2] = {B, i ? h.size(2) : embedding ? embedding->size(1) : 0};
    const bool vectors = i > 0 || embedding;
    const Tensor x = vectors ? make_empty(h, {wide, 2}, h.scalar_type()) : ids;
    calls.emplace_back(x, h, c, own, MaybeTensor(), MaybeTensor(), cell, 1, false, Place{layers, i});
    expect(!calls.back().projects, "layers without a projection");
  }
  return calls;
}

// See csrc/cpu/generate.h; h, c, history and lengths go on from what they hold.
Tensor generate(Tensor h, MaybeTensor c, Tensor history, Tensor lengths, const std::vector<Tensor>& weights,
                const MaybeTensor& embedding, const Tensor& head, const MaybeTensor& head_bias, const Tensor& uniform,
                const MaybeTensor& banned, int64_t cell, double penalty, int64_t ngram, double temperature,
                int64_t top_k, double top_p) {
  expect(h.dim() == 3 && history.dim() == 2 && uniform.dim() == 2 && head.dim() == 2,
         "h [layers, B, H], history [B, capacity], uniform [steps, B] and head [V, H], got ", Shape{h}, ", ",
         Shape{history}, ", ", Shape{uniform}, " and ", Shape{head});
  expect(!embedding || embedding->dim() == 2, "an embedding of shape [V, E]");
  const int64_t B = h.size(1), H = h.size(2), V = head.size(0), steps = uniform.size(0), layers = h.size(0);
  const ScalarType type = h.scalar_type();
  expect(type == ScalarType::Float || type == ScalarType::Double, "h of dtype float32 or float64, got ",
         type_name(type));
  const int64_t row[1] = {B};
  const Tensor ids = make_empty(h, {row, 1}, ScalarType::Long);
  std::vector<LayerCall> calls = layer_calls(ids, h, c, weights, embedding, cell);
  LayerCall& first = calls[0];
  expect(first.dtype == type, "weights of the dtype of h");
  expect(!first.has_c == !c, "c for a cell with a cell state, and only there");

  std::vector<ForwardArgs> args;
  for (const LayerCall& call : calls) args.push_back(call.f);
  cpu::GenerateArgs a{};
  a.layers = args.data();
  a.count = layers;
  a.V = V;
  a.steps = steps;
  if (embedding) a.embedding = first.take(*embedding, {V, first.f.n.I}, "embedding", h);
  expect(embedding || first.f.n.I == V, "w_ih of ", V, " columns, one for each token, got ", first.f.n.I);
  a.head = first.take(head, {V, H}, "head", h);
  if (head_bias) a.head_bias = first.take(*head_bias, {V}, "head_bias", h);
  a.uniform = static_cast<const double*>(first.take(uniform, {steps, B}, "uniform", h, ScalarType::Double));
  if (banned) a.banned = static_cast<const bool*>(first.take(*banned, {V}, "banned", h, ScalarType::Bool));
  a.capacity = history.size(1);
  a.h = take_writable(h, {layers, B, H}, type, "h");
  if (c) a.c = take_writable(*c, {layers, B, H}, type, "c");
  a.history = static_cast<int64_t*>(take_writable(history, {B, a.capacity}, ScalarType::Long, "history"));
  a.lengths = static_cast<int64_t*>(take_writable(lengths, {B}, ScalarType::Long, "lengths"));
  a.sampling = {penalty, ngram, temperature, top_k, top_p};
  check_sampling(a.sampling);
  check_history(a, B);
  const int64_t size[2] = {steps, B};
  Tensor logprobs = make_empty(h, {size, 2}, ScalarType::Double);
  a.logprobs = static_cast<double*>(logprobs.mutable_data_ptr());
  if (B > 0) cpu::generate(a, torch_threads());
  return logprobs;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusedrnn, CPU, m) { m.impl("generate", TORCH_BOX(&generate)); }

}  // namespace fusedrnn::torch_ops
