// The block family is not built yet: the plan says so, and the step or cluster family runs what it would.
#include "plan.h"

namespace fusedrnn::cuda {

bool plan_block(const Problem&, const Device&, bool, Plan& plan) {
  plan.why = "not built";
  return false;
}

}  // namespace fusedrnn::cuda
