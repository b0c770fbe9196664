// Python tensors as pointers, sizes and strides, by way of the table of C functions that a tensor type publishes as
// __dlpack_c_exchange_api__ (DLPack 1.3; older versions of torch have none). That table is a stable ABI of its own:
// nothing here binds to a version of torch. https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once
#include <Python.h>

#include <cstdint>
#include <initializer_list>

namespace fusedrnn::python {

// The parts of DLPack's C header that are needed here, laid out as it lays them out.
struct DlTensor {
  void* data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;  // strides in elements, or null for a dense tensor
  uint64_t byte_offset;
};
struct DlManaged {
  uint32_t major, minor;
  void* context;
  void (*drop)(DlManaged* self);
  uint64_t flags;
  DlTensor tensor;
};
struct DlExchange {
  uint32_t major, minor;
  void* previous;
  void *allocate, *from_object;
  int (*to_object)(DlManaged* tensor, void** object);  // 0 and a new reference, which drops the tensor when it goes
  int (*view)(void* object, DlTensor* out);            // 0, or not 0 with a Python error set. Nothing is owned by `out`
  void* current_stream;
};
constexpr int32_t kDlCpu = 1;
constexpr uint8_t kDlInt = 0, kDlFloat = 2, kDlBool = 6;

// What a tensor's memory looks like, valid as long as the tensor lives and is not resized.
class TensorView {
 public:
  // False, without a Python error, for what has no dense memory on the CPU. `exchange` is of object's own type.
  bool read(const DlExchange& exchange, PyObject* object) {
    if (exchange.view(object, &t_) != 0) {
      PyErr_Clear();
      return false;
    }
    return t_.device_type == kDlCpu && t_.lanes == 1 && t_.data && dense();
  }
  // Of a tensor of one's own making.
  void show(const DlTensor& t) { t_ = t; }
  bool is(uint8_t code, int bits) const { return t_.code == code && t_.bits == bits; }
  bool shaped(std::initializer_list<int64_t> sizes) const {
    if (t_.ndim != static_cast<int32_t>(sizes.size())) return false;
    const int64_t* have = t_.shape;
    for (int64_t n : sizes)
      if (*have++ != n) return false;
    return true;
  }
  int dims() const { return t_.ndim; }
  int bits() const { return t_.bits; }
  int64_t size(int i) const { return t_.shape[i]; }
  void* data() const { return static_cast<char*>(t_.data) + t_.byte_offset; }

 private:
  bool dense() const {
    if (!t_.strides) return true;
    int64_t next = 1;
    for (int i = t_.ndim - 1; i >= 0; next *= t_.shape[i--])
      if (t_.shape[i] != 1 && t_.strides[i] != next) return false;
    return true;
  }

  DlTensor t_{};
};

}  // namespace fusedrnn::python
