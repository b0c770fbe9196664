// Large tensors on the CPU in memory that is kept from call to call (csrc/cpu/blocks.h).
#pragma once
#include "tensors.h"

namespace fusedrnn::torch_ops {

// As make_empty, for a tensor that its maker does not show to users: its storage cannot be resized.
Tensor make_large(const Tensor& like, const Extent& size, ScalarType type);

}  // namespace fusedrnn::torch_ops
