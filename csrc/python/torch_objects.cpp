#include "torch_objects.h"

#include <algorithm>
#include <cstdlib>

#include "../cpu/blocks.h"

namespace fusedrnn::python {
namespace {

// What Python hands over once: torch's table, its two tensor types, and what makes new tensors.
struct Torch {
  const DlExchange* exchange = nullptr;
  PyObject *tensor = nullptr, *parameter = nullptr;
  PyObject* watchers = nullptr;    // a tuple of functions, each of which says whether someone watches
  PyObject* forward_ad = nullptr;  // the namespace of its module, and the name of its level in there
  PyObject *empty = nullptr, *float32 = nullptr, *float64 = nullptr, *cpu = nullptr, *keywords = nullptr,
           *level = nullptr, *is_neg = nullptr;
};
Torch torch_;

constexpr int kMostDims = 4;

PyObject* torch_setup(PyObject*, PyObject* args) {
  PyObject* capsule;
  Torch t;
  if (!PyArg_ParseTuple(args, "OOOO!O!OOOO", &capsule, &t.tensor, &t.parameter, &PyTuple_Type, &t.watchers,
                        &PyDict_Type, &t.forward_ad, &t.empty, &t.float32, &t.float64, &t.cpu))
    return nullptr;
  t.exchange = static_cast<const DlExchange*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  if (!t.exchange) return nullptr;
  if (t.exchange->major != 1 || !t.exchange->view || !t.exchange->to_object) Py_RETURN_FALSE;
  if (!(t.keywords = Py_BuildValue("(ss)", "dtype", "device"))) return nullptr;
  if (!(t.level = PyUnicode_InternFromString("_current_level"))) return nullptr;
  if (!(t.is_neg = PyObject_GetAttrString(t.tensor, "is_neg"))) return nullptr;
  for (PyObject* held :
       {capsule, t.tensor, t.parameter, t.watchers, t.forward_ad, t.empty, t.float32, t.float64, t.cpu})
    Py_INCREF(held);
  torch_ = t;  // for as long as the process lives
  Py_RETURN_TRUE;
}

// Whether the sign of a tensor is not in its memory, as that of a conjugate's imaginary part. Parameters are not asked.
bool negative(PyObject* object) {
  if (reinterpret_cast<PyObject*>(Py_TYPE(object)) != torch_.tensor) return false;
  PyObject* answer = PyObject_CallOneArg(torch_.is_neg, object);
  if (!answer) PyErr_Clear();
  const bool no = answer == Py_False;
  Py_XDECREF(answer);
  return !no;
}

// A tensor over memory of ours: what torch is told of it. Without a lock of Python's: torch drops memory on any thread.
struct Head {
  DlManaged managed;
  int64_t shape[kMostDims], strides[kMostDims];
};

void free_head(DlManaged* m) { std::free(m); }  // the first member of a Head, at its address

// The context of such a tensor is the size of its block.
void give_back(DlManaged* m) {
  cpu::give_block({m->tensor.data, reinterpret_cast<std::size_t>(m->context)});
  free_head(m);
}

std::size_t bytes_of(int bits, std::initializer_list<int64_t> sizes) {
  std::size_t bytes = static_cast<std::size_t>(bits / 8);
  for (int64_t n : sizes) bytes *= static_cast<std::size_t>(n);
  return bytes;
}

// Takes over the head, and the data with it. Where torch refuses them they are lost: it may have dropped them.
PyObject* tensor_of(Head* head, void* data, int bits, std::initializer_list<int64_t> sizes, void* context,
                    void (*drop)(DlManaged*), TensorView& out) {
  const int dims = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), head->shape);
  for (int64_t i = dims - 1, step = 1; i >= 0; step *= head->shape[i--]) head->strides[i] = step;
  DlTensor t{};
  t.data = data;
  t.device_type = kDlCpu;
  t.ndim = dims;
  t.code = kDlFloat;
  t.bits = static_cast<uint8_t>(bits);
  t.lanes = 1;
  t.shape = head->shape;
  t.strides = head->strides;
  head->managed = {torch_.exchange->major, torch_.exchange->minor, context, drop, 0, t};
  void* made = nullptr;
  if (torch_.exchange->to_object(&head->managed, &made) != 0) return nullptr;
  out.show(t);
  return static_cast<PyObject*>(made);
}

PyMethodDef methods[] = {
    {"torch_setup", torch_setup, METH_VARARGS,
     "torch_setup(exchange, Tensor, Parameter, watchers, forward_ad, empty, float32, float64, cpu) -> whether "
     "stream_step and the direct calls can work."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int add_torch_setup(PyObject* module) { return PyModule_AddFunctions(module, methods); }

PyObject* item(PyObject* dict, PyObject* key) {
  PyObject* found = PyDict_GetItemWithError(dict, key);
  if (!found) PyErr_Clear();
  return found;
}

int unwatched() {
  if (!torch_.exchange) return 0;
  PyObject* level = item(torch_.forward_ad, torch_.level);
  const long at = level ? PyLong_AsLong(level) : 0;
  if (at == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    return 0;
  }
  if (at >= 0) return 0;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(torch_.watchers); i++) {
    PyObject* answer = PyObject_CallNoArgs(PyTuple_GET_ITEM(torch_.watchers, i));
    const int yes = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    if (yes) return yes < 0 ? -1 : 0;
  }
  return 1;
}

bool view(PyObject* object, TensorView& out) {
  PyObject* type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  return (type == torch_.tensor || type == torch_.parameter) && out.read(*torch_.exchange, object);
}

bool plain_floats(PyObject* object, int bits, const TensorView& viewed) {
  return viewed.is(kDlFloat, bits) && !negative(object);
}

bool view_floats(PyObject* object, int bits, TensorView& out) {
  return view(object, out) && plain_floats(object, bits, out);
}

namespace {

// As torch's defaults have it, and if they are others, with dtype and device said.
PyObject* tensor_of_torch(int bits, std::initializer_list<int64_t> sizes, TensorView& out) {
  auto right = [&](PyObject* t) { return view(t, out) && out.is(kDlFloat, bits) && out.shaped(sizes); };
  PyObject* arguments[kMostDims + 3] = {};
  PyObject** next = arguments + 1;
  for (int64_t n : sizes) *next++ = PyLong_FromLongLong(n);
  next[0] = bits == 64 ? torch_.float64 : torch_.float32;
  next[1] = torch_.cpu;
  const size_t count = sizes.size() | PY_VECTORCALL_ARGUMENTS_OFFSET;
  PyObject* made = PyObject_Vectorcall(torch_.empty, arguments + 1, count, nullptr);
  if (made && !right(made)) {
    Py_DECREF(made);
    made = PyObject_Vectorcall(torch_.empty, arguments + 1, count, torch_.keywords);
  }
  while (next-- > arguments + 1) Py_XDECREF(*next);
  if (made && !right(made)) {
    PyErr_SetString(PyExc_RuntimeError, "fusedrnn: expected torch.empty to give a dense tensor on the CPU");
    Py_CLEAR(made);
  }
  return made;
}

// Head and elements in one block, the elements from a line of the cache on. Aligned by hand: the C library looks for
// blocks of an alignment the long way.
PyObject* small_tensor(int bits, std::initializer_list<int64_t> sizes, TensorView& out) {
  constexpr std::size_t kLine = 64;
  auto* const head = static_cast<Head*>(std::malloc(sizeof(Head) + kLine - 1 + bytes_of(bits, sizes)));
  if (!head) return PyErr_NoMemory();
  const auto first = (reinterpret_cast<std::uintptr_t>(head + 1) + kLine - 1) / kLine * kLine;
  return tensor_of(head, reinterpret_cast<void*>(first), bits, sizes, nullptr, free_head, out);
}

}  // namespace

PyObject* new_tensor(int bits, std::initializer_list<int64_t> sizes, TensorView& out) {
  const bool small = bytes_of(bits, sizes) <= kMostOfOurs;
  return small ? small_tensor(bits, sizes, out) : tensor_of_torch(bits, sizes, out);
}

PyObject* new_kept_tensor(int bits, std::initializer_list<int64_t> sizes, TensorView& out) {
  const std::size_t bytes = bytes_of(bits, sizes);
  if (bytes < cpu::kLeastBlock) return new_tensor(bits, sizes, out);
  auto* const head = static_cast<Head*>(std::malloc(sizeof(Head)));
  const cpu::Block block = head ? cpu::take_block(bytes) : cpu::Block{nullptr, 0};
  if (!block.data) {
    std::free(head);
    return new_tensor(bits, sizes, out);  // and its error
  }
  return tensor_of(head, block.data, bits, sizes, reinterpret_cast<void*>(block.size), give_back, out);
}

PyObject* new_nothing() {
  PyObject* zero = PyLong_FromLong(0);  // one of the integers that always exist
  PyObject* made = PyObject_CallOneArg(torch_.empty, zero);
  Py_DECREF(zero);
  return made;
}

}  // namespace fusedrnn::python
