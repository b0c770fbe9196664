// One layer over a whole sequence, forward and backward, without torch's dispatcher, which costs as much as a small
// layer together with the boxing of arguments.
#pragma once
#include <Python.h>

namespace fusedrnn::python {

// Adds direct_forward and direct_backward to the module (fusedrnn/_direct.py). -1 with a Python error where that fails.
int add_direct_layer(PyObject* module);

}  // namespace fusedrnn::python
