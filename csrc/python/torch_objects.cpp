#include "torch_objects.h"

namespace fusedrnn::python {
namespace {

// What Python hands over once: torch's table, its two tensor types, and what makes new tensors.
struct Torch {
  const DlExchange* exchange = nullptr;
  PyObject *tensor = nullptr, *parameter = nullptr;
  PyObject* watchers = nullptr;  // a tuple of functions, each of which says whether someone watches
  PyObject *empty = nullptr, *empty_like = nullptr, *float32 = nullptr, *float64 = nullptr, *cpu = nullptr,
           *keywords = nullptr, *is_neg = nullptr;
};
Torch torch_;

constexpr int kMostDims = 4;

PyObject* torch_setup(PyObject*, PyObject* args) {
  PyObject* capsule;
  Torch t;
  if (!PyArg_ParseTuple(args, "OOOO!OOOOO", &capsule, &t.tensor, &t.parameter, &PyTuple_Type, &t.watchers, &t.empty,
                        &t.empty_like, &t.float32, &t.float64, &t.cpu))
    return nullptr;
  t.exchange = static_cast<const DlExchange*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  if (!t.exchange) return nullptr;
  if (t.exchange->major != 1 || !t.exchange->view) Py_RETURN_FALSE;
  if (!(t.keywords = Py_BuildValue("(ss)", "dtype", "device"))) return nullptr;
  if (!(t.is_neg = PyUnicode_InternFromString("is_neg"))) return nullptr;
  for (PyObject* held :
       {capsule, t.tensor, t.parameter, t.watchers, t.empty, t.empty_like, t.float32, t.float64, t.cpu})
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
     "torch_setup(exchange, Tensor, Parameter, watchers, empty, empty_like, float32, float64, cpu) -> whether "
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

PyObject* new_tensor(PyObject* like, const TensorView& like_view, int bits, std::initializer_list<int64_t> sizes,
                     TensorView& out) {
  auto right = [&](PyObject* t) { return view(t, out) && out.is(kDlFloat, bits) && out.shaped(sizes); };
  if (like && like_view.is(kDlFloat, bits) && like_view.shaped(sizes)) {
    PyObject* made = PyObject_CallOneArg(torch_.empty_like, like);
    if (!made || right(made)) return made;
    Py_DECREF(made);
  }
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

PyObject* new_nothing() {
  PyObject* zero = PyLong_FromLong(0);  // one of the integers that always exist
  PyObject* made = PyObject_CallOneArg(torch_.empty, zero);
  Py_DECREF(zero);
  return made;
}

}  // namespace fusedrnn::python
