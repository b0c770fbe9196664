// The maths of csrc/cells/math.h, as x86-64-v4 compiles it.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu_check.h"
#include "cpu_tests.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
// The pragma changes what is compiled, but not, before GCC 14, what the preprocessor knows of it.
#if !defined(__AVX__)
#define __AVX__ 1
#endif
#if !defined(__AVX512F__)
#define __AVX512F__ 1
#endif
constexpr int kBytes = 64;
#include "cpu_math_scan.h"

static_assert(sizeof(fusedrnn::cells::TableExp) > 0);  // the form of AVX-512 is what is tested

void test_math_v4() { scan_all(); }
#endif
