// Stands in for CUDA's header of this name: the type and its two conversions, round to nearest even. The compiler's own
// half type does the rounding.
#pragma once
#include <cstring>

struct __half {
  _Float16 value;
};
inline float __half2float(__half v) { return static_cast<float>(v.value); }
inline __half __float2half_rn(float f) { return {static_cast<_Float16>(f)}; }
