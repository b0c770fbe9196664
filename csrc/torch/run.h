// A layer on torch's threads, for the ops and for callers that do not pass torch's dispatcher. Torch-free.
#pragma once
#include "../layer.h"

namespace fusedrnn::torch_ops {

// The arguments must be right already. Throws std::bad_alloc, and std::runtime_error for a wrong FUSEDRNN_ISA, before
// any output is touched.
__attribute__((visibility("default"))) void run_forward(const ForwardArgs& f);
__attribute__((visibility("default"))) void run_backward(const BackwardArgs& b);
// One streaming step without packed weights; false, and nothing is done, where there is no such way (Kernels::step).
__attribute__((visibility("default"))) bool run_step(const ForwardArgs& f);

}  // namespace fusedrnn::torch_ops
