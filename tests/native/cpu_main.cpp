// The CPU backend's tests: FUSEDRNN_ISA chooses the instruction set of the kernels. With the argument "math", those of
// exp, sigmoid and tanh alone.
#include <cstdio>
#include <cstring>

#include "../../csrc/cpu/backend.h"
#include "cpu_check.h"
#include "cpu_tests.h"

int main(int count, char** arguments) {
  std::printf("instruction set %s\n", fusedrnn::cpu::kernels().isa);
  test_math_baseline();
#if defined(__x86_64__)
  // Asked here, since the functions themselves may use the instructions from their first line on.
  if (__builtin_cpu_supports("x86-64-v3")) test_math_v3();
  if (__builtin_cpu_supports("x86-64-v4")) test_math_v4();
#endif
  if (count > 1 && std::strcmp(arguments[1], "math") == 0) return check::summary();
  test_conversions();
  test_blocks();
  test_pools();
  team_under_sleepers();
  team_weighs_waits();
  leader_goes_alone();
  leader_waits_for_pieces();
  team_stays_alone();
  system_says_how_idle_it_is();
  team_hopes_again();
  team_measures_what_meeting_costs();
  test_generate();
  test_cross_entropy();
  test_layers();
  return check::summary();
}
