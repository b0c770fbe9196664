// The Python class fusedrnn._C.Encoder.
#pragma once
#include <pybind11/pybind11.h>

namespace fusedrnn::text {

void bind_encoder(pybind11::module_& m);

}  // namespace fusedrnn::text
