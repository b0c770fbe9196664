// The maths of csrc/cells/math.h, in the vectors every machine has.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu_check.h"
#include "cpu_tests.h"

constexpr int kBytes = 16;
#include "cpu_math_scan.h"

void test_math_baseline() { scan_all(); }
