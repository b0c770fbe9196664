// The CPU backend's tests: FUSEDRNN_ISA chooses the instruction set of the kernels.
#include <cstdio>

#include "../../csrc/cpu/backend.h"
#include "cpu_check.h"
#include "cpu_tests.h"

int main() {
  std::printf("instruction set %s\n", fusedrnn::cpu::kernels().isa);
  test_math_baseline();
  test_math_v3();
  test_math_v4();
  test_conversions();
  test_pools();
  team_under_sleepers();
  test_layers();
  return check::summary();
}
