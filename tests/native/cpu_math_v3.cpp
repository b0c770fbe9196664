// The maths of csrc/cells/math.h, as x86-64-v3 compiles it.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu_check.h"
#include "cpu_tests.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma GCC target("arch=x86-64-v3")
// The pragma changes what is compiled, but not, before GCC 14, what the preprocessor knows of it.
#if !defined(__AVX__)
#define __AVX__ 1
#endif
constexpr int kBytes = 32;
#include "cpu_math_scan.h"

void test_math_v3() { scan_all(); }
#endif
