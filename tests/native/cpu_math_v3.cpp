// The maths of csrc/cells/math.h, as x86-64-v3 compiles it.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu_check.h"
#include "cpu_tests.h"

#if defined(__x86_64__)
#pragma GCC target("arch=x86-64-v3")
constexpr int kBytes = 32;
#include "cpu_math_scan.h"

void test_math_v3() { scan_all(); }
#endif
