// Torch's Python objects without torch's headers: tensors as views, new tensors, and whether anybody watches.
#pragma once
#include <cstddef>

#include "tensor_view.h"

namespace fusedrnn::python {

// Adds torch_setup, which hands over what the rest of this file needs (fusedrnn/_direct.py).
int add_torch_setup(PyObject* module);

// A reference that is given up on leaving.
struct Owned {
  PyObject* p = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { Py_XDECREF(p); }
  PyObject* release() {
    PyObject* q = p;
    p = nullptr;
    return q;
  }
};

// Whether autocast, a tracer, a mode, a transform, a forward derivative or the profiler is at work: 1 if none is, -1
// with a Python error.
int unwatched();

// What a dictionary has there, borrowed; null, without a Python error, where it has nothing.
PyObject* item(PyObject* dict, PyObject* key);

// A plain tensor with dense memory on the CPU. Not a subclass, which may mean anything by its data.
bool view(PyObject* object, TensorView& out);

// Whether what was viewed are floats of so many bits that can be read as they stand; and both at once.
bool plain_floats(PyObject* object, int bits, const TensorView& viewed);
bool view_floats(PyObject* object, int bits, TensorView& out);

// A new tensor of floats of these sizes, contents undefined. Null with a Python error. Up to kMostOfOurs bytes its
// memory is ours and not torch's, which takes half the time or less, and which a caller can tell from nothing but its
// refusal to resize it: larger ones are worth freeing early, and some programs do.
constexpr std::size_t kMostOfOurs = std::size_t(16) << 10;
PyObject* new_tensor(int bits, std::initializer_list<int64_t> sizes, TensorView& out);

// For what backward needs, which its maker does not show to users: large arrays lie in memory that is kept from call to
// call (csrc/cpu/blocks.h), as those of the op do, and cannot be resized.
PyObject* new_kept_tensor(int bits, std::initializer_list<int64_t> sizes, TensorView& out);

// A new tensor of shape [0], which stands for nothing.
PyObject* new_nothing();

}  // namespace fusedrnn::python
