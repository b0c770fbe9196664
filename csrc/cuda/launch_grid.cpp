// Launches of the grid family. plan_grid.cpp never chooses it yet, so a call here is refused.
#include "family.h"

namespace fusedrnn::cuda {

Launch grid_forward(const Plan&, const Recurrence&, const Runtime&) { return Launch::refused; }
Launch grid_backward(const Plan&, const RecurrenceGrad&, const Runtime&) { return Launch::refused; }

}  // namespace fusedrnn::cuda
