// One streaming step of a stack of layers without torch's dispatcher, which costs as much as the step.
#pragma once
#include <Python.h>

namespace fusedrnn::python {

// Adds stream_step to the module (fusedrnn/_direct.py). -1 with a Python error where that fails.
int add_stream_step(PyObject* module);

}  // namespace fusedrnn::python
