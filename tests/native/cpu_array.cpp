#include "cpu_array.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using fusedrnn::DType;
using oracle::Values;

namespace {

// Rounds to `bits` of mantissa behind the leading one, exponents not below `lowest`: to nearest, ties to even.
double round_bits(double x, int bits, int lowest, double largest) {
  if (x == 0 || !std::isfinite(x)) return x;
  int e;
  std::frexp(x, &e);
  const double unit = std::ldexp(1.0, std::max(e - 1, lowest) - bits);
  const double r = std::nearbyint(x / unit) * unit;
  return std::abs(r) > largest ? std::copysign(INFINITY, x) : r;
}

uint16_t half_bits(DType t, double x) {
  if (t == DType::bf16) {
    const float f = float(x);
    uint32_t u;
    std::memcpy(&u, &f, 4);
    return uint16_t(u >> 16);
  }
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  x = std::abs(x);
  if (std::isinf(x)) return sign | 0x7c00;
  if (x < std::ldexp(1.0, -14)) return sign | uint16_t(std::ldexp(x, 24));
  int e;
  const double m = std::frexp(x, &e);
  return sign | uint16_t(((e + 14) << 10) + int(std::ldexp(m, 11)) - 1024);
}
double half_value(DType t, uint16_t h) {
  if (t == DType::bf16) {
    const uint32_t u = uint32_t(h) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  }
  const int e = h >> 10 & 31, m = h & 1023;
  const double v = e == 31 ? (m ? NAN : INFINITY) : e ? std::ldexp(1024 + m, e - 25) : std::ldexp(m, -24);
  return h & 0x8000 ? -v : v;
}

}  // namespace

size_t bytes_of(DType t) { return t == DType::f64 ? 8 : t == DType::f32 ? 4 : 2; }

double round_to(DType t, double x) {
  if (t == DType::f64) return x;
  if (t == DType::f32) return float(x);
  if (t == DType::bf16) return round_bits(float(x), 7, -126, 3.3895313892515355e38);
  return round_bits(x, 10, -14, 65504);
}

Array::Array(DType type, size_t count) : dtype(type), raw(count * bytes_of(type), 0xa5) {}
Array::Array(DType type, const Values& values) : Array(type, values.size()) {
  for (size_t i = 0; i < values.size(); i++) {
    const double x = round_to(type, values[i]);
    const float f = float(x);
    const uint16_t h = bytes_of(type) == 2 ? half_bits(type, x) : 0;
    const void* p = type == DType::f64   ? static_cast<const void*>(&x)
                    : type == DType::f32 ? static_cast<const void*>(&f)
                                         : &h;
    std::memcpy(&raw[i * bytes_of(type)], p, bytes_of(type));
  }
}
Values Array::values() const {
  Values v(raw.size() / bytes_of(dtype));
  for (size_t i = 0; i < v.size(); i++) {
    const unsigned char* p = &raw[i * bytes_of(dtype)];
    float f;
    uint16_t h;
    if (dtype == DType::f64)
      std::memcpy(&v[i], p, 8);
    else if (dtype == DType::f32)
      std::memcpy(&f, p, 4), v[i] = f;
    else
      std::memcpy(&h, p, 2), v[i] = half_value(dtype, h);
  }
  return v;
}
