// Launches of the block family. plan_block.cpp never chooses it yet, so a call here is refused.
#include "family.h"

namespace fusedrnn::cuda {

Launch block_forward(const Plan&, const Recurrence&, const Runtime&) { return Launch::refused; }
Launch block_backward(const Plan&, const RecurrenceGrad&, const Runtime&) { return Launch::refused; }

}  // namespace fusedrnn::cuda
