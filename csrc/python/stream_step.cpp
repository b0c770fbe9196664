#include "stream_step.h"

#include "../cells/all.h"
#include "../cpu/backend.h"
#include "torch_objects.h"

namespace fusedrnn::python {
namespace {

void run_here(int64_t n, void (*body)(void*, int64_t), void* ctx) {
  for (int64_t i = 0; i < n; i++) body(ctx, i);
}

// Weights times rows: a larger step is better off with the op, where it can have threads and gives up Python's lock.
constexpr int64_t kMostWork = 1 << 20;

// Names of attributes, made once.
struct Names {
  PyObject *bidirectional, *mode, *layers, *inputs, *hidden, *parameters, *weights;
};
Names names_;

// The arguments of a step. Each part is false where the step is not as plain as it must be.
struct Step {
  PyObject *x, *state;
  int64_t cell = 0, layers = 0, per_layer = 0;
  Owned held_parameters, held_names;  // a finalizer, which may run meanwhile, may give the module others
  PyObject *parameters = nullptr, *names = nullptr;
  int64_t batch = 0, inputs = 0, hidden = 0;
  DType dtype = DType::f32;
  TensorView x_view, h_view, c_view;
  bool ids = false;
  PyObject *h = nullptr, *c = nullptr;

  Step(PyObject* x_, PyObject* state_) : x(x_), state(state_) {}

  // The attributes of a module, and the numbers of the cells by its `mode`.
  bool read_module(PyObject* attributes, PyObject* numbers) {
    if (!PyDict_CheckExact(attributes) || !PyDict_CheckExact(numbers)) return false;
    if (item(attributes, names_.bidirectional) != Py_False) return false;
    PyObject* const mode = item(attributes, names_.mode);
    if (!mode || !whole(numbers, mode, cell) || cell >= cells::kCellCount) return false;
    parameters = item(attributes, names_.parameters);
    names = item(attributes, names_.weights);
    held_parameters.p = Py_XNewRef(parameters);
    held_names.p = Py_XNewRef(names);
    if (!parameters || !PyDict_CheckExact(parameters) || !names || !PyList_CheckExact(names)) return false;
    if (!whole(attributes, names_.layers, layers) || !layers || PyList_GET_SIZE(names) % layers) return false;
    per_layer = PyList_GET_SIZE(names) / layers;
    return (per_layer == 2 || per_layer == 4) && whole(attributes, names_.inputs, inputs) &&
           whole(attributes, names_.hidden, hidden);
  }

  // A whole number >= 0 of a dictionary's.
  static bool whole(PyObject* dict, PyObject* name, int64_t& out) {
    PyObject* const found = item(dict, name);
    if (!found || !PyLong_CheckExact(found)) return false;
    out = PyLong_AsLongLong(found);
    if (out == -1) PyErr_Clear();
    return out >= 0;
  }

  const cells::CellInfo& info() const { return cells::kCells[cell]; }
  int bits() const { return dtype == DType::f64 ? 64 : 32; }

  bool given(PyObject* object, TensorView& out) const { return view_floats(object, bits(), out); }

  bool weight(int64_t i, TensorView& out) const {
    if (i >= PyList_GET_SIZE(names)) return false;  // or it may change these
    PyObject* found = item(parameters, PyList_GET_ITEM(names, i));
    return found && given(found, out);
  }

  // Of all layers, as if each had as many inputs as the first. The sizes may be anything.
  double weights() const { return double(layers) * info().G * double(hidden) * (double(inputs) + double(hidden)); }

  bool read_input() {
    if (!view(x, x_view) || x_view.dims() < 1) return false;
    batch = x_view.size(0);
    if (batch > cpu::kMostStepRows || double(batch) * weights() > double(kMostWork)) return false;
    ids = x_view.is(kDlInt, 64);
    if (ids) return read_ids();
    dtype = x_view.bits() == 64 ? DType::f64 : DType::f32;
    return plain_floats(x, bits(), x_view) && x_view.shaped({batch, inputs});
  }

  bool read_ids() {
    TensorView first;
    PyObject* const weight = item(parameters, PyList_GET_ITEM(names, 0));
    if (!x_view.shaped({batch}) || !weight || !view(weight, first)) return false;
    dtype = first.bits() == 64 ? DType::f64 : DType::f32;
    const int64_t* id = static_cast<const int64_t*>(x_view.data());
    for (int64_t b = 0; b < batch; b++)
      if (id[b] < 0 || id[b] >= inputs) return false;
    return true;
  }

  bool read_state() {
    if (state == Py_None) return true;
    h = state;
    if (info().has_cell) {
      if (!PyTuple_CheckExact(state) || PyTuple_GET_SIZE(state) != 2) return false;
      h = PyTuple_GET_ITEM(state, 0);
      c = PyTuple_GET_ITEM(state, 1);
      if (!given(c, c_view) || !c_view.shaped({layers, batch, hidden})) return false;
    }
    return given(h, h_view) && h_view.shaped({layers, batch, hidden});
  }

  bool read_weights(int64_t layer, Weights& out) const {
    const int64_t per = per_layer, rows = info().G * hidden;
    TensorView w[4];
    for (int64_t i = 0; i < per; i++)
      if (!weight(layer * per + i, w[i])) return false;
    if (!w[0].shaped({rows, layer ? hidden : inputs}) || !w[1].shaped({rows, hidden})) return false;
    if (per == 4 && (!w[2].shaped({rows}) || !w[3].shaped({rows}))) return false;
    out = {w[0].data(), w[1].data(), per == 4 ? w[2].data() : nullptr, per == 4 ? w[3].data() : nullptr, nullptr};
    return true;
  }

  // The layers one after the other: the state of one is the input of the next.
  bool run(const TensorView& y, const TensorView& h_out, const TensorView* c_out) const {
    const int64_t bytes = batch * hidden * bits() / 8;
    auto row = [&](const TensorView& t, int64_t i) { return static_cast<char*>(t.data()) + i * bytes; };
    for (int64_t i = 0; i < layers; i++) {
      ForwardArgs f{};
      f.cell = static_cast<int>(cell);
      f.dtype = dtype;
      f.n = {1, batch, i ? hidden : inputs, hidden, hidden, 1};
      if (!read_weights(i, f.w[0])) return false;
      if (i == 0 && ids)
        f.ids = static_cast<const int64_t*>(x_view.data());
      else
        f.x = i ? row(h_out, i - 1) : x_view.data();
      if (h) f.h0 = row(h_view, i);
      if (c) f.c0 = row(c_view, i);
      f.h_n = row(h_out, i);
      if (c_out) f.c_n = row(*c_out, i);
      if (i == layers - 1) f.y = y.data();
      if (!cpu::kernels().step(f, {1, run_here})) return false;
    }
    return true;
  }
};

PyObject* pair(PyObject* a, PyObject* b) {  // takes both over
  PyObject* t = a && b ? PyTuple_New(2) : nullptr;
  if (!t) {
    Py_XDECREF(a);
    Py_XDECREF(b);
    return nullptr;
  }
  PyTuple_SET_ITEM(t, 0, a);
  PyTuple_SET_ITEM(t, 1, b);
  return t;
}

PyObject* take_step(PyObject* attributes, PyObject* numbers, PyObject* x, PyObject* state) {
  const int alone = unwatched();
  if (alone < 0) return nullptr;
  Step s(x, state);
  if (!alone || !s.read_module(attributes, numbers) || !s.read_input() || !s.read_state()) Py_RETURN_NONE;
  TensorView y_view, h_view, c_view;
  Owned y, h, c;
  const bool has_c = s.info().has_cell;
  if (!(y.p = new_tensor(s.bits(), {s.batch, s.hidden}, y_view))) return nullptr;
  if (!(h.p = new_tensor(s.bits(), {s.layers, s.batch, s.hidden}, h_view))) return nullptr;
  if (has_c && !(c.p = new_tensor(s.bits(), {s.layers, s.batch, s.hidden}, c_view))) return nullptr;
  // The weights are looked at last: from here to the end of the step no Python runs that could change them.
  if (!s.run(y_view, h_view, has_c ? &c_view : nullptr)) Py_RETURN_NONE;
  return pair(y.release(), has_c ? pair(h.release(), c.release()) : h.release());
}

PyObject* stream_step(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 4) {
    PyErr_Format(PyExc_TypeError, "expected 4 arguments, got %zd", count);
    return nullptr;
  }
  try {
    return take_step(args[0], args[1], args[2], args[3]);
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
    return nullptr;
  }
}

PyMethodDef methods[] = {
    {"stream_step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(stream_step)), METH_FASTCALL,
     "stream_step(attributes, numbers, x, state) -> (y, state), or None where the op must do it."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int add_stream_step(PyObject* module) {
  const auto made = [](PyObject*& name, const char* text) {
    return (name = PyUnicode_InternFromString(text)) != nullptr;
  };
  const bool all = made(names_.bidirectional, "bidirectional") && made(names_.mode, "mode") &&
                   made(names_.layers, "num_layers") && made(names_.inputs, "input_size") &&
                   made(names_.hidden, "hidden_size") && made(names_.parameters, "_parameters") &&
                   made(names_.weights, "_flat_weights_names");
  return all ? PyModule_AddFunctions(module, methods) : -1;
}

}  // namespace fusedrnn::python
