#include "direct_layer.h"

#include <algorithm>
#include <exception>

#include "../cells/all.h"
#include "../torch/run.h"
#include "torch_objects.h"

namespace fusedrnn::python {
namespace {

constexpr Py_ssize_t kMostWeights = 8;  // two directions of four; a layer that projects is left to the op

// The weights, owned: another thread may change the list that they came in while a kernel runs.
struct WeightList {
  PyObject* items[kMostWeights] = {};
  Py_ssize_t count = 0;

  bool take(PyObject* const* from, Py_ssize_t n) {
    if (n > kMostWeights) return false;
    for (; count < n; count++) items[count] = Py_NewRef(from[count]);
    return true;
  }
  WeightList() = default;
  WeightList(const WeightList&) = delete;
  WeightList& operator=(const WeightList&) = delete;
  ~WeightList() {
    while (count > 0) Py_DECREF(items[--count]);
  }
};

// The inputs of a layer. Each part is false where a tensor is not as plain as it must be, or does not fit the others.
struct Inputs {
  int64_t cell;
  PyObject *x, *h0, *c0, *lengths, *resets;
  WeightList weights;
  TensorView x_view, h0_view, c0_view, w_views[kMostWeights];
  ForwardArgs f{};
  int64_t sum_of_lengths = 0;

  // data: x, h0, c0, lengths, resets.
  Inputs(int64_t cell_, PyObject* const* data)
      : cell(cell_), x(data[0]), h0(data[1]), c0(data[2]), lengths(data[3]), resets(data[4]) {}

  const cells::CellInfo& info() const { return cells::kCells[cell]; }
  Py_ssize_t per_direction() const { return weights.count / f.n.D; }
  int bits() const { return f.dtype == DType::f64 ? 64 : 32; }

  // The sizes as the first weight and x have them, whatever the rest.
  bool read_sizes(int64_t directions) {
    if (cell < 0 || cell >= cells::kCellCount || directions < 1 || directions > 2) return false;
    if (weights.count != 2 * directions && weights.count != 4 * directions) return false;
    if (!view(weights.items[0], w_views[0]) || w_views[0].dims() != 2 || !view(x, x_view)) return false;
    const bool ids = x_view.is(kDlInt, 64);
    if (x_view.dims() != (ids ? 2 : 3) || !(w_views[0].is(kDlFloat, 32) || w_views[0].is(kDlFloat, 64))) return false;
    f.cell = static_cast<int>(cell);
    f.dtype = w_views[0].bits() == 64 ? DType::f64 : DType::f32;
    const int64_t hidden = w_views[0].size(0) / info().G;
    f.n = {x_view.size(0), x_view.size(1), w_views[0].size(1), hidden, hidden, directions};
    return true;
  }

  bool read_arrays() { return read_x() && read_states() && read_weights(); }

  bool read_x() {
    const Dims& n = f.n;
    if (!view(x, x_view)) return false;
    if (!x_view.is(kDlInt, 64)) {
      f.x = x_view.data();
      return plain_floats(x, bits(), x_view) && x_view.shaped({n.T, n.B, n.I});
    }
    if (!x_view.shaped({n.T, n.B})) return false;
    f.ids = static_cast<const int64_t*>(x_view.data());
    for (int64_t i = 0; i < n.T * n.B; i++)
      if (f.ids[i] < 0 || f.ids[i] >= n.I) return false;
    return true;
  }

  bool read_states() {
    const Dims& n = f.n;
    if (h0 != Py_None) {
      if (!view_floats(h0, bits(), h0_view) || !h0_view.shaped({n.D, n.B, n.H})) return false;
      f.h0 = h0_view.data();
    }
    if (c0 != Py_None) {
      if (!info().has_cell || !view_floats(c0, bits(), c0_view) || !c0_view.shaped({n.D, n.B, n.H})) return false;
      f.c0 = c0_view.data();
    }
    return true;
  }

  bool read_rows() {
    const Dims& n = f.n;
    TensorView v;
    if (lengths != Py_None) {
      if (!view(lengths, v) || !v.is(kDlInt, 64) || !v.shaped({n.B})) return false;
      f.lengths = static_cast<const int64_t*>(v.data());
      for (int64_t b = 0; b < n.B; b++) {
        if (f.lengths[b] < 0 || f.lengths[b] > n.T) return false;
        sum_of_lengths += f.lengths[b];
      }
    }
    if (resets != Py_None) {
      if (!view(resets, v) || !v.is(kDlBool, 8) || !v.shaped({n.T, n.B})) return false;
      f.resets = static_cast<const bool*>(v.data());
    }
    return true;
  }

  bool read_weights() {
    const int64_t per = per_direction(), rows = info().G * f.n.H;
    for (Py_ssize_t i = 0; i < weights.count; i++) {
      TensorView& w = w_views[i];
      if (!view_floats(weights.items[i], bits(), w)) return false;
      const Py_ssize_t k = i % per;
      if (k > 1 ? !w.shaped({rows}) : !w.shaped({rows, k ? f.n.H : f.n.I})) return false;
      Weights& to = f.w[i / per];
      (k == 0 ? to.ih : k == 1 ? to.hh : k == 2 ? to.b_ih : to.b_hh) = w.data();
    }
    return true;
  }
};

// Calls without Python's lock, as torch's ops are; false with a Python error.
template <class Run>
bool unlocked(Run run) {
  PyThreadState* thread = PyEval_SaveThread();
  std::exception_ptr failure;
  try {
    run();
  } catch (...) {
    failure = std::current_exception();
  }
  PyEval_RestoreThread(thread);
  if (!failure) return true;
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "fusedrnn: unknown failure");
  }
  return false;
}

// A tuple that is filled from the left; null, with a Python error, once anything of it could not be made.
struct Results {
  Owned tuple;
  Py_ssize_t next = 0;

  explicit Results(Py_ssize_t count) { tuple.p = PyTuple_New(count); }
  bool add(PyObject* made) {  // takes it over
    if (!made || !tuple.p) {
      Py_XDECREF(made);
      return false;
    }
    PyTuple_SET_ITEM(tuple.p, next++, made);
    return true;
  }
  // A new tensor where it is wanted, and where its elements are.
  bool add_tensor(bool wanted, int bits, std::initializer_list<int64_t> sizes, void*& data,
                  decltype(new_tensor)* make = new_tensor) {
    TensorView made;
    if (!wanted) return add(Py_NewRef(Py_None));
    if (!add(make(bits, sizes, made))) return false;
    data = made.data();
    return true;
  }
};

// The outputs of forward in the order of the op's; None for what backward has no use for.
bool make_outputs(Inputs& in, bool save, Results& out) {
  ForwardArgs& f = in.f;
  const Dims& n = f.n;
  const int64_t slots = in.info().S;
  const int bits = in.bits();
  const bool has_c = in.info().has_cell;
  if (save) f.valid = in.sum_of_lengths;  // compact, unless it is 0: an array of no elements has no address
  const auto add_saved = [&](bool wanted, int64_t last, void*& data) {
    return f.valid > 0 ? out.add_tensor(wanted, bits, {n.D, f.valid, last}, data, new_kept_tensor)
                       : out.add_tensor(wanted, bits, {n.D, n.T, n.B, last}, data, new_kept_tensor);
  };
  return out.add_tensor(true, bits, {n.T, n.B, n.D * n.H}, f.y) && out.add_tensor(true, bits, {n.D, n.B, n.H}, f.h_n) &&
         (has_c ? out.add_tensor(true, bits, {n.D, n.B, n.H}, f.c_n) : out.add(new_nothing())) &&
         add_saved(save && slots > 0, slots * n.H, f.gates) && add_saved(save && has_c, n.H, f.cells) &&
         out.add(Py_NewRef(Py_None));
}

PyObject* forward(int64_t cell, int64_t directions, bool save, PyObject* const* data, PyObject* weights) {
  const int alone = unwatched();
  if (alone < 0) return nullptr;
  Inputs in(cell, data);
  if (!alone || !PyList_CheckExact(weights)) Py_RETURN_NONE;
  if (!in.weights.take(PySequence_Fast_ITEMS(weights), PyList_GET_SIZE(weights))) Py_RETURN_NONE;
  if (!in.read_sizes(directions) || !in.read_rows()) Py_RETURN_NONE;
  if (!in.read_arrays()) Py_RETURN_NONE;
  Results out(6);
  if (!make_outputs(in, save, out)) return nullptr;
  if (!unlocked([&] { torch_ops::run_forward(in.f); })) return nullptr;
  return out.tuple.release();
}

// Where autograd.Function Layer keeps what (fusedrnn/_autograd.py).
enum Saved : Py_ssize_t { kY = 5, kGates, kCells, kHidden, kSaved };  // what `data` is, comes first
enum Argument : Py_ssize_t { kNeedX, kNeedH0, kNeedC0, kNeedWeights = 6 };

// What forward left and the gradients that come in.
bool read_saved(Inputs& in, BackwardArgs& b, PyObject* saved, PyObject* dy, PyObject* dh_n, PyObject* dc_n) {
  const Dims& n = in.f.n;
  const auto at = [&](PyObject* t, std::initializer_list<int64_t> sizes, void*& data) {
    TensorView v;
    if (!view_floats(t, in.bits(), v) || !v.shaped(sizes)) return false;
    data = v.data();
    return true;
  };
  const auto given = [&](PyObject* t, std::initializer_list<int64_t> sizes, const void*& data) {
    void* found = nullptr;
    if (t != Py_None && !at(t, sizes, found)) return false;
    data = found;
    return true;
  };
  const int64_t slots = in.info().S;
  if (!at(PyTuple_GET_ITEM(saved, kY), {n.T, n.B, n.D * n.H}, in.f.y)) return false;
  TensorView kept;
  if (view(PyTuple_GET_ITEM(saved, slots > 0 ? kGates : kCells), kept) && kept.dims() == 3)
    in.f.valid = in.sum_of_lengths;
  const auto at_saved = [&](Saved i, int64_t last, void*& data) {
    PyObject* const t = PyTuple_GET_ITEM(saved, i);
    return in.f.valid > 0 ? at(t, {n.D, in.f.valid, last}, data) : at(t, {n.D, n.T, n.B, last}, data);
  };
  if (slots > 0 && !at_saved(kGates, slots * n.H, in.f.gates)) return false;
  if (in.info().has_cell && !at_saved(kCells, n.H, in.f.cells)) return false;
  b.f = in.f;
  if (!given(dy, {n.T, n.B, n.D * n.H}, b.dy) || !given(dh_n, {n.D, n.B, n.H}, b.dhn)) return false;
  return !in.info().has_cell || given(dc_n, {n.D, n.B, n.H}, b.dcn);
}

// One for each argument of Layer, None where it is not needed. All gradients of weights are made, or none.
bool make_gradients(const Inputs& in, BackwardArgs& b, PyObject* needs, Results& out) {
  const Dims& n = in.f.n;
  const int bits = in.bits();
  const auto need = [&](Py_ssize_t i) { return PyTuple_GET_ITEM(needs, i) == Py_True; };
  if (!out.add_tensor(need(kNeedX) && in.x_view.is(kDlFloat, bits), bits, {n.T, n.B, n.I}, b.dx)) return false;
  if (!out.add_tensor(need(kNeedH0), bits, {n.D, n.B, n.H}, b.dh0)) return false;
  if (!out.add_tensor(need(kNeedC0) && in.info().has_cell, bits, {n.D, n.B, n.H}, b.dc0)) return false;
  while (out.next < kNeedWeights) out.add(Py_NewRef(Py_None));
  bool any = false;
  for (Py_ssize_t i = 0; i < in.weights.count; i++) any = any || need(kNeedWeights + i);
  const Py_ssize_t per = in.per_direction();
  const int64_t rows = in.info().G * n.H;
  for (Py_ssize_t i = 0; i < in.weights.count; i++) {
    WeightGrads& g = b.dw[i / per];
    const Py_ssize_t k = i % per;
    const bool made = k == 0   ? out.add_tensor(any, bits, {rows, n.I}, g.ih)
                      : k == 1 ? out.add_tensor(any, bits, {rows, n.H}, g.hh)
                      : k == 2 ? out.add_tensor(any, bits, {rows}, g.b_ih)
                               : out.add_tensor(any, bits, {rows}, g.b_hh);
    if (!made) return false;
  }
  return true;
}

PyObject* backward(int64_t cell, int64_t directions, PyObject* needs, PyObject* saved, PyObject* dy, PyObject* dh_n,
                   PyObject* dc_n) {
  const int alone = unwatched();
  if (alone < 0) return nullptr;
  if (!alone || !PyTuple_CheckExact(needs) || !PyTuple_CheckExact(saved)) Py_RETURN_NONE;
  const Py_ssize_t weights = PyTuple_GET_SIZE(saved) - kSaved;
  if (weights < 0 || PyTuple_GET_SIZE(needs) != kNeedWeights + weights) Py_RETURN_NONE;
  Inputs in(cell, &PyTuple_GET_ITEM(saved, 0));
  if (!in.weights.take(&PyTuple_GET_ITEM(saved, kSaved), weights) || !in.read_sizes(directions)) Py_RETURN_NONE;
  BackwardArgs b{};
  if (!in.read_rows() || !in.read_arrays() || !read_saved(in, b, saved, dy, dh_n, dc_n)) Py_RETURN_NONE;
  Results out(kNeedWeights + weights);
  if (!make_gradients(in, b, needs, out)) return nullptr;
  if (!unlocked([&] { torch_ops::run_backward(b); })) return nullptr;
  return out.tuple.release();
}

bool counted(Py_ssize_t count, Py_ssize_t wanted) {
  if (count != wanted) PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", wanted, count);
  return count == wanted;
}

PyObject* direct_forward(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (!counted(count, 9)) return nullptr;
  const int64_t cell = PyLong_AsLongLong(args[0]), directions = PyLong_AsLongLong(args[1]);
  if (PyErr_Occurred()) return nullptr;
  return forward(cell, directions, args[2] == Py_True, args + 3, args[8]);
}

PyObject* direct_backward(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (!counted(count, 7)) return nullptr;
  const int64_t cell = PyLong_AsLongLong(args[0]), directions = PyLong_AsLongLong(args[1]);
  if (PyErr_Occurred()) return nullptr;
  return backward(cell, directions, args[2], args[3], args[4], args[5], args[6]);
}

PyCFunction fast(PyObject* (*f)(PyObject*, PyObject* const*, Py_ssize_t)) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

PyMethodDef methods[] = {
    {"direct_forward", fast(direct_forward), METH_FASTCALL,
     "direct_forward(cell, directions, save, x, h0, c0, lengths, resets, weights) -> the outputs of the op "
     "layer_forward, or None where it must do it."},
    {"direct_backward", fast(direct_backward), METH_FASTCALL,
     "direct_backward(cell, directions, needs, saved, dy, dh_n, dc_n) -> the gradients that Layer.backward returns, or "
     "None where the op must do it."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int add_direct_layer(PyObject* module) { return PyModule_AddFunctions(module, methods); }

}  // namespace fusedrnn::python
