// Stand-ins for the families that a test program leaves out, so that it compiles in seconds: never planned, never
// launched.
#include "../../csrc/cuda/family.h"

namespace fusedrnn::cuda {

#define FUSEDRNN_ABSENT(NAME)                                                                       \
  bool plan_##NAME(const Problem&, const Device&, bool, Plan& plan) {                               \
    plan.why = "left out";                                                                          \
    return false;                                                                                   \
  }                                                                                                 \
  Launch NAME##_forward(const Plan&, const Recurrence&, const Runtime&) { return Launch::refused; } \
  Launch NAME##_backward(const Plan&, const RecurrenceGrad&, const Runtime&) { return Launch::refused; }

FUSEDRNN_ABSENT(cluster)
#if !defined(FUSEDRNN_WITH_FMA)
FUSEDRNN_ABSENT(block)
FUSEDRNN_ABSENT(fma)
FUSEDRNN_ABSENT(grid)
#endif

}  // namespace fusedrnn::cuda
