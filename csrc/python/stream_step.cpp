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

// The arguments of a step. Each part is false where the step is not as plain as it must be.
struct Step {
  int64_t cell, layers;
  PyObject *parameters, *names, *x, *state;
  int64_t batch = 0, inputs = 0, hidden = 0;
  DType dtype = DType::f32;
  TensorView x_view, h_view, c_view;
  bool ids = false;
  PyObject *h = nullptr, *c = nullptr;

  Step(int64_t cell_, int64_t layers_, PyObject* parameters_, PyObject* names_, PyObject* x_, PyObject* state_)
      : cell(cell_), layers(layers_), parameters(parameters_), names(names_), x(x_), state(state_) {}

  const cells::CellInfo& info() const { return cells::kCells[cell]; }
  int64_t per_layer() const { return PyList_GET_SIZE(names) / layers; }
  int bits() const { return dtype == DType::f64 ? 64 : 32; }

  bool given(PyObject* object, TensorView& out) const { return view_floats(object, bits(), out); }

  bool weight(int64_t i, TensorView& out) const {
    PyObject* found = PyDict_GetItem(parameters, PyList_GET_ITEM(names, i));
    return found && given(found, out);
  }

  bool read_sizes() {
    if (cell < 0 || cell >= cells::kCellCount || layers < 1 || !PyDict_CheckExact(parameters)) return false;
    if (!PyList_CheckExact(names) || (per_layer() != 2 && per_layer() != 4)) return false;
    if (PyList_GET_SIZE(names) != layers * per_layer()) return false;
    PyObject* first = PyDict_GetItem(parameters, PyList_GET_ITEM(names, 0));
    TensorView w;
    if (!first || !view(first, w) || w.dims() != 2 || !(w.is(kDlFloat, 32) || w.is(kDlFloat, 64))) return false;
    dtype = w.bits() == 64 ? DType::f64 : DType::f32;
    hidden = w.size(0) / info().G;
    inputs = w.size(1);
    return true;
  }
  // Of all layers, as if each had as many inputs as the first.
  int64_t weights() const { return layers * info().G * hidden * (inputs + hidden); }

  bool read_input() {
    if (!view(x, x_view) || x_view.dims() < 1) return false;
    batch = x_view.size(0);
    if (batch > cpu::kMostStepRows || batch * weights() > kMostWork) return false;
    ids = x_view.is(kDlInt, 64);
    if (!ids) return given(x, x_view) && x_view.shaped({batch, inputs});
    if (!x_view.shaped({batch})) return false;
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
    const int64_t per = per_layer(), rows = info().G * hidden;
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

PyObject* take_step(Step& s) {
  const int alone = unwatched();
  if (alone < 0) return nullptr;
  if (!alone || !s.read_sizes() || !s.read_input() || !s.read_state()) Py_RETURN_NONE;
  TensorView y_view, h_view, c_view;
  Owned y, h, c;
  const bool has_c = s.info().has_cell;
  if (!(y.p = new_small_tensor(s.bits(), {s.batch, s.hidden}, y_view))) return nullptr;
  if (!(h.p = new_small_tensor(s.bits(), {s.layers, s.batch, s.hidden}, h_view))) return nullptr;
  if (has_c && !(c.p = new_small_tensor(s.bits(), {s.layers, s.batch, s.hidden}, c_view))) return nullptr;
  // The weights are looked at last: from here to the end of the step no Python runs that could change them.
  if (!s.run(y_view, h_view, has_c ? &c_view : nullptr)) Py_RETURN_NONE;
  return pair(y.release(), has_c ? pair(h.release(), c.release()) : h.release());
}

PyObject* stream_step(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 6) {
    PyErr_Format(PyExc_TypeError, "expected 6 arguments, got %zd", count);
    return nullptr;
  }
  Step s(PyLong_AsLongLong(args[0]), PyLong_AsLongLong(args[1]), args[2], args[3], args[4], args[5]);
  if (PyErr_Occurred()) return nullptr;
  try {
    return take_step(s);
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
    return nullptr;
  }
}

PyMethodDef methods[] = {
    {"stream_step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(stream_step)), METH_FASTCALL,
     "stream_step(cell, layers, parameters, names, x, state) -> (y, state), or None where the op must do it."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int add_stream_step(PyObject* module) { return PyModule_AddFunctions(module, methods); }

}  // namespace fusedrnn::python
