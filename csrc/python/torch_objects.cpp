#include "torch_objects.h"

#include <algorithm>
#include <cstdlib>

namespace fusedrnn::python {
namespace {

// What Python hands over once: torch's table, its two tensor types, and what makes new tensors.
struct Torch {
  const DlExchange* exchange = nullptr;
  PyObject *tensor = nullptr, *parameter = nullptr;
  PyObject* watchers = nullptr;  // a tuple of functions, each of which says whether someone watches
  PyObject *empty = nullptr, *float32 = nullptr, *float64 = nullptr, *cpu = nullptr, *keywords = nullptr,
           *is_neg = nullptr;
};
Torch torch_;

constexpr int kMostDims = 4;

PyObject* torch_setup(PyObject*, PyObject* args) {
  PyObject* capsule;
  Torch t;
  if (!PyArg_ParseTuple(args, "OOOO!OOOO", &capsule, &t.tensor, &t.parameter, &PyTuple_Type, &t.watchers, &t.empty,
                        &t.float32, &t.float64, &t.cpu))
    return nullptr;
  t.exchange = static_cast<const DlExchange*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  if (!t.exchange) return nullptr;
  if (t.exchange->major != 1 || !t.exchange->view || !t.exchange->to_object) Py_RETURN_FALSE;
  if (!(t.keywords = Py_BuildValue("(ss)", "dtype", "device"))) return nullptr;
  if (!(t.is_neg = PyUnicode_InternFromString("is_neg"))) return nullptr;
  for (PyObject* held : {capsule, t.tensor, t.parameter, t.watchers, t.empty, t.float32, t.float64, t.cpu})
    Py_INCREF(held);
  torch_ = t;  // for as long as the process lives
  Py_RETURN_TRUE;
}

// Whether the sign of a tensor is not in its memory, as that of a conjugate's imaginary part. Parameters are not asked.
bool negative(PyObject* object) {
  if (reinterpret_cast<PyObject*>(Py_TYPE(object)) != torch_.tensor) return false;
  PyObject* answer = PyObject_CallMethodNoArgs(object, torch_.is_neg);
  if (!answer) PyErr_Clear();
  const bool no = answer == Py_False;
  Py_XDECREF(answer);
  return !no;
}

PyMethodDef methods[] = {
    {"torch_setup", torch_setup, METH_VARARGS,
     "torch_setup(exchange, Tensor, Parameter, watchers, empty, float32, float64, cpu) -> whether "
     "stream_step and the direct calls can work."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int add_torch_setup(PyObject* module) { return PyModule_AddFunctions(module, methods); }

int unwatched() {
  if (!torch_.exchange) return 0;
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

bool view_floats(PyObject* object, int bits, TensorView& out) {
  return view(object, out) && out.is(kDlFloat, bits) && !negative(object);
}

PyObject* new_tensor(int bits, std::initializer_list<int64_t> sizes, TensorView& out) {
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

PyObject* new_small_tensor(int bits, std::initializer_list<int64_t> sizes, TensorView& out) {
  // Head and elements in one block, the elements from a line of the cache on. Aligned by hand: the C library looks for
  // blocks of an alignment the long way.
  struct Head {
    DlManaged managed;
    int64_t shape[kMostDims], strides[kMostDims];
  };
  int64_t count = 1;
  for (int64_t n : sizes) count *= n;
  const std::size_t bytes = static_cast<std::size_t>(count) * static_cast<std::size_t>(bits / 8);
  constexpr std::size_t kLine = 64;
  auto* const head = static_cast<Head*>(std::malloc(sizeof(Head) + kLine - 1 + bytes));
  if (!head) return PyErr_NoMemory();
  const int dims = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), head->shape);
  for (int64_t i = dims - 1, step = 1; i >= 0; step *= head->shape[i--]) head->strides[i] = step;
  DlTensor t{};
  t.data = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(head + 1) + kLine - 1) / kLine * kLine);
  t.device_type = kDlCpu;
  t.ndim = dims;
  t.code = kDlFloat;
  t.bits = static_cast<uint8_t>(bits);
  t.lanes = 1;
  t.shape = head->shape;
  t.strides = head->strides;
  // Without a lock of Python's: torch drops memory on any thread.
  head->managed = {torch_.exchange->major, torch_.exchange->minor, nullptr, [](DlManaged* m) { std::free(m); }, 0, t};
  void* made = nullptr;
  if (torch_.exchange->to_object(&head->managed, &made) != 0) return nullptr;
  out.show(t);
  return static_cast<PyObject*>(made);
}

PyObject* new_nothing() {
  PyObject* zero = PyLong_FromLong(0);  // one of the integers that always exist
  PyObject* made = PyObject_CallOneArg(torch_.empty, zero);
  Py_DECREF(zero);
  return made;
}

}  // namespace fusedrnn::python
