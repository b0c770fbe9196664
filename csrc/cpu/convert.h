// Half-width storage types. Conversions to float are exact; from float they round to nearest even, keep infinities and
// turn every NaN into a quiet NaN. Integer arithmetic on vectors, so no hardware support is needed; where the compiler
// has the instruction for f16 it is used.
#pragma once
#include "../layer.h"
#include "simd.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

using VecF = Vec<float>;
using VecI = cells::Lane<VecF>::Int;
typedef uint16_t VecHalf __attribute__((vector_size(kVectorBytes / 2)));
typedef uint16_t VecHalfLoose __attribute__((vector_size(kVectorBytes / 2), may_alias, aligned(2)));
typedef uint32_t VecU __attribute__((vector_size(kVectorBytes)));

FUSEDRNN_INLINE VecU bits_of(VecF x) { return (VecU)x; }

FUSEDRNN_INLINE VecU bf16_bits(VecF x) {
  const VecU u = bits_of(x);
  const VecU rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const VecU quiet = (u >> 16) | 0x40u;
  return (u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded;
}
FUSEDRNN_INLINE VecF bf16_value(VecU h) { return (VecF)(h << 16); }

#if defined(__AVX512F__)
// The masked forms: the plain ones make GCC 12 warn of its own undefined pass-through operand.
FUSEDRNN_INLINE VecU f16_bits(VecF x) {
  const __m256i h = _mm512_maskz_cvtps_ph(0xffff, x, _MM_FROUND_TO_NEAREST_INT);
  return __builtin_convertvector((VecHalf)h, VecU);
}
FUSEDRNN_INLINE VecF f16_value(VecU h) {
  return _mm512_maskz_cvtph_ps(0xffff, (__m256i) __builtin_convertvector(h, VecHalf));
}
#else
FUSEDRNN_INLINE VecU f16_bits(VecF x) {
  const VecU u = bits_of(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  // Normal results: rebias the exponent by 112 and round away 13 bits. 0x7c00 comes out where the value overflows.
  const VecU normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
  // Subnormal results: adding 0.5 aligns the last place with 2^-24 and lets the addition round.
  const VecF half = splat<VecF>(0.5f);
  const VecU small = bits_of((VecF)a + half) - bits_of(half);
  VecU r = a < 0x38800000u ? small : normal;
  r = a >= 0x47800000u ? VecU{} + 0x7c00u : r;
  const VecU quiet = 0x7e00u | ((a >> 13) & 0x3ffu);
  r = a > 0x7f800000u ? quiet : r;
  return r | sign;
}
FUSEDRNN_INLINE VecF f16_value(VecU h) {
  const VecU sign = (h & 0x8000u) << 16, a = h & 0x7fffu;
  const VecU normal = (a << 13) + 0x38000000u, special = (a << 13) + 0x70000000u;
  // Subnormal: a * 2^-24, exact in float.
  const VecF small = __builtin_convertvector((VecI)a, VecF) * 0x1p-24f;
  VecU r = a < 0x400u ? bits_of(small) : normal;
  r = a >= 0x7c00u ? special : r;
  return (VecF)(r | sign);
}
#endif

// x as it reads back after being stored as `storage`.
FUSEDRNN_INLINE VecF round_to(DType storage, VecF x) {
  if (storage == DType::bf16) return bf16_value(bf16_bits(x));
  if (storage == DType::f16) return f16_value(f16_bits(x));
  return x;
}
FUSEDRNN_INLINE Vec<double> round_to(DType, Vec<double> x) { return x; }
template <class V>
FUSEDRNN_INLINE cells::Pair<V> round_to(DType storage, cells::Pair<V> x) {
  return {round_to(storage, x.a), round_to(storage, x.b)};
}

// `count` half-width numbers, 0 < count <= kLanes<float>; the other lanes read as 0.
FUSEDRNN_INLINE VecHalf load_half(const uint16_t* p, int64_t count) {
  if (count == kLanes<float>) return *reinterpret_cast<const VecHalfLoose*>(p);
  uint16_t b[kLanes<float>] = {};
  __builtin_memcpy(b, p, count * sizeof(uint16_t));
  return *reinterpret_cast<const VecHalfLoose*>(b);
}
FUSEDRNN_INLINE void store_half(uint16_t* p, VecHalf v, int64_t count) {
  if (count == kLanes<float>) {
    *reinterpret_cast<VecHalfLoose*>(p) = v;
    return;
  }
  uint16_t b[kLanes<float>];
  *reinterpret_cast<VecHalfLoose*>(b) = v;
  __builtin_memcpy(p, b, count * sizeof(uint16_t));
}

FUSEDRNN_INLINE void put_bf16(uint16_t* p, VecF x, int64_t count) {
  store_half(p, __builtin_convertvector(bf16_bits(x), VecHalf), count);
}
FUSEDRNN_INLINE void put_bf16(uint16_t* p, cells::Pair<VecF> x, int64_t) {
  put_bf16(p, x.a, kLanes<float>);
  put_bf16(p + kLanes<float>, x.b, kLanes<float>);
}

FUSEDRNN_INLINE VecU widen(VecHalf h) { return __builtin_convertvector(h, VecU); }
FUSEDRNN_INLINE VecHalf narrow(VecU u) { return __builtin_convertvector(u, VecHalf); }

}  // namespace

// n elements of `from` (bf16 or f16) to float and back; no overlap.
void to_float(DType from, const void* src, float* dst, int64_t n);
void from_float(DType to, const float* src, void* dst, int64_t n);
// dst += src: dst of a half type, the sum rounded once.
void add_from_float(DType to, const float* src, void* dst, int64_t n);

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
