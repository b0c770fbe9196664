// The plan of a CUDA call (csrc/cuda/plan.h) as a dictionary. Needs no device.
#pragma once
#include <pybind11/pybind11.h>

namespace fusedrnn {

// Adds `cuda_device(arch)` and `cuda_plan(...)` to the module.
void bind_cuda_plan(pybind11::module_& m);

}  // namespace fusedrnn
