// A layer on torch's threads, for the ops and for callers that do not pass torch's dispatcher. Torch-free.
#pragma once
#include "../layer.h"

namespace fusedrnn::torch_ops {

// The arguments must be right already. Throws std::bad_alloc, and std::runtime_error for a wrong FUSEDRNN_ISA, before
// any output is touched.
__attribute__((visibility("default"))) void run_forward(const ForwardArgs& f);
__attribute__((visibility("default"))) void run_backward(const BackwardArgs& b);

}  // namespace fusedrnn::torch_ops
