// What the ops do with torch tensors one at a time: checks whose messages name what came, types, new tensors.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>

#include "../layer.h"

namespace fusedrnn::torch_ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

// Unlike STD_TORCH_CHECK, without the name and line of a file that the reader of the message does
// not have.
template <class... Args>
void expect(bool holds, const Args&... message) {
  if (holds) return;
  std::ostringstream text;
  text << "fusedrnn: expected ";
  (text << ... << message);
  throw std::runtime_error(text.str());
}

inline const char* type_name(ScalarType t) {
  switch (t) {
    case ScalarType::Double:
      return "float64";
    case ScalarType::Float:
      return "float32";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Half:
      return "float16";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Bool:
      return "bool";
    default:
      return "another dtype";
  }
}

inline DType dtype_of(const Tensor& t, const char* name) {
  switch (t.scalar_type()) {
    case ScalarType::Double:
      return DType::f64;
    case ScalarType::Float:
      return DType::f32;
    case ScalarType::BFloat16:
      return DType::bf16;
    case ScalarType::Half:
      return DType::f16;
    default:
      expect(false, name, " of dtype float64, float32, bfloat16 or float16, got ", type_name(t.scalar_type()));
      return DType::f32;
  }
}

// A new dense tensor on the device of `like`. torch::stable::new_empty looks the operator up by its
// name in every call, which a streaming step would notice.
inline Tensor make_empty(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef size, ScalarType type) {
  constexpr size_t kMost = 4;
  const size_t dims = size.size();
  if (dims > kMost) throw std::runtime_error("fusedrnn: make_empty knows no more dimensions than 4");
  int64_t strides[kMost], stride = 1;
  for (size_t i = dims; i-- > 0; stride *= size[i] > 1 ? size[i] : 1) strides[i] = stride;
  int32_t device = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  const int32_t dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(dims), size.data(), strides, dtype, device,
                                                  like.get_device_index(), &made));
  return Tensor(made);
}

inline ScalarType accumulation_type(ScalarType t) {
  return t == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Prints a tensor's shape; formatted only when a message is needed.
struct Shape {
  const Tensor& t;
};
inline std::ostream& operator<<(std::ostream& out, const Shape& s) {
  out << "[";
  for (int64_t i = 0; i < s.t.dim(); i++) out << (i ? ", " : "") << s.t.size(i);
  return out << "]";
}

// The sizes of an array of at most four dimensions.
struct Extent {
  int64_t size[4] = {};
  int64_t dims = 0;

  Extent(std::initializer_list<int64_t> sizes) {
    for (int64_t n : sizes) size[dims++] = n;
  }
  const int64_t* begin() const { return size; }
  const int64_t* end() const { return size + dims; }
  operator torch::headeronly::IntHeaderOnlyArrayRef() const { return {size, static_cast<size_t>(dims)}; }
};

inline void check_shape(const Tensor& t, const Extent& want, const char* name) {
  bool same = t.dim() == want.dims;
  for (int64_t i = 0; same && i < want.dims; i++) same = t.size(i) == want.size[i];
  if (same) return;
  std::string s = "[";
  for (int64_t n : want) s += (s.size() > 1 ? ", " : "") + std::to_string(n);
  expect(false, name, " of shape ", s, "], got ", Shape{t});
}

}  // namespace fusedrnn::torch_ops
