// The op of the cross entropy of a linear head (csrc/cpu/cross_entropy.h), on CPU tensors.
#include "../cpu/cross_entropy.h"

#include <torch/csrc/stable/library.h>

#include "../cpu/scratch.h"
#include "pool.h"
#include "tensors.h"

namespace fusedrnn::torch_ops {
namespace {

const void* take(const Tensor& t, ScalarType type, const char* name) {
  expect(t.scalar_type() == type, name, " of dtype ", type_name(type), ", got ", type_name(t.scalar_type()));
  expect(t.is_cpu() && t.is_contiguous(), name, " contiguous, on the CPU");
  return t.const_data_ptr();
}
const void* take(const Tensor& t, const Extent& shape, ScalarType type, const char* name) {
  check_shape(t, shape, name);
  return take(t, type, name);
}

// How many rows count. Labels index memory, so they are looked at before the kernel runs.
int64_t count_rows(const cpu::CrossEntropyArgs& a) {
  int64_t count = 0;
  for (int64_t i = 0; i < a.N; i++) {
    if (a.labels[i] == a.ignored) continue;
    expect(a.labels[i] >= 0 && a.labels[i] < a.V, "classes in [0, ", a.V, "), got ", a.labels[i], " at row ", i);
    count++;
  }
  return count;
}

Tensor output(const Tensor& like, bool wanted, torch::headeronly::IntHeaderOnlyArrayRef shape, void*& data) {
  const int64_t none[1] = {0};
  Tensor made =
      make_empty(like, wanted ? shape : torch::headeronly::IntHeaderOnlyArrayRef(none, 1), like.scalar_type());
  if (wanted) data = made.mutable_data_ptr();
  return made;
}

void fill_scalar(Tensor& t, double value) {
  if (t.scalar_type() == ScalarType::Double)
    *static_cast<double*>(t.mutable_data_ptr()) = value;
  else
    *static_cast<float*>(t.mutable_data_ptr()) = static_cast<float>(value);
}

// x [..., H], w [V, H], bias [V], labels [...] -> the loss, the mean over the rows that count or their sum, and its
// gradients.
std::tuple<Tensor, Tensor, Tensor, Tensor> linear_cross_entropy(const Tensor& x, const Tensor& w,
                                                                const MaybeTensor& bias, const Tensor& labels,
                                                                int64_t ignored, bool mean, bool need_dx, bool need_dw,
                                                                bool need_db) {
  expect(x.dim() >= 1 && x.dim() <= 4 && w.dim() == 2,
         "an input [..., H] of 1 to 4 dimensions and a linear_weight [V, H], got ", Shape{x}, " and ", Shape{w});
  const ScalarType type = x.scalar_type();
  expect(type == ScalarType::Float || type == ScalarType::Double, "an input of dtype float32 or float64, got ",
         type_name(type));
  cpu::CrossEntropyArgs a{};
  a.dtype = dtype_of(x, "input");
  a.H = x.size(x.dim() - 1), a.V = w.size(0);
  expect(a.H > 0 && a.V > 0, "at least one feature and one class, got an input ", Shape{x}, " and a linear_weight ",
         Shape{w});
  a.N = x.numel() / a.H;
  a.x = take(x, type, "input");
  a.w = take(w, {a.V, a.H}, type, "linear_weight");
  if (bias) a.bias = take(*bias, {a.V}, type, "linear_bias");
  expect(labels.numel() == a.N, a.N, " classes, one for each row of the input, got ", Shape{labels});
  a.labels = static_cast<const int64_t*>(take(labels, ScalarType::Long, "target"));
  a.ignored = ignored;
  const double count = static_cast<double>(count_rows(a));
  a.scale = mean && count > 0 ? 1 / count : 1;
  Tensor loss = make_empty(x, Extent{}, type);
  Tensor dx = output(x, need_dx, x.sizes(), a.dx);
  Tensor dw = output(x, need_dw, w.sizes(), a.dw);
  const int64_t classes[1] = {a.V};
  Tensor db = output(x, need_db && bias, {classes, 1}, a.db);
  const size_t element = type == ScalarType::Double ? 8 : 4;
  cpu::expect_writes(a.dx, static_cast<size_t>(a.N * a.H) * element);
  cpu::expect_writes(a.dw, static_cast<size_t>(a.V * a.H) * element);
  const double sum = cpu::kernels().cross_entropy(a, torch_threads());
  fill_scalar(loss, mean ? sum / count : sum);
  return {loss, dx, dw, db};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusedrnn, CPU, m) { m.impl("linear_cross_entropy", TORCH_BOX(&linear_cross_entropy)); }

}  // namespace fusedrnn::torch_ops
