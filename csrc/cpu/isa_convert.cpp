// Arrays of half-width numbers to float and back (convert.h).
#include "convert.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

constexpr int L = kLanes<float>;

// f(whole vector of up to L elements at i, count)
template <class F>
FUSEDRNN_INLINE void by_vectors(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + L <= n; i += L) f(i, L);
  if (i < n) f(i, int(n - i));
}

FUSEDRNN_INLINE VecF load_float(const float* p, int count) { return count == L ? load(p) : load_part(p, count); }

template <bool kBf16>
FUSEDRNN_INLINE VecF value(VecHalf h) {
  return kBf16 ? bf16_value(widen(h)) : f16_value(widen(h));
}
template <bool kBf16>
FUSEDRNN_INLINE VecHalf bits(VecF x) {
  return narrow(kBf16 ? bf16_bits(x) : f16_bits(x));
}

template <bool kBf16>
void widen_array(const uint16_t* s, float* d, int64_t n) {
  by_vectors(n, [&](int64_t i, int count) __attribute__((always_inline)) {
    const VecF v = value<kBf16>(load_half(s + i, count));
    if (count == L)
      store(d + i, v);
    else
      store_part(d + i, v, count);
  });
}
template <bool kBf16, bool kAdd>
void narrow_array(const float* s, uint16_t* d, int64_t n) {
  by_vectors(n, [&](int64_t i, int count) __attribute__((always_inline)) {
    VecF v = load_float(s + i, count);
    if (kAdd) v += value<kBf16>(load_half(d + i, count));
    store_half(d + i, bits<kBf16>(v), count);
  });
}

}  // namespace

void to_float(DType from, const void* src, float* dst, int64_t n) {
  const auto* s = static_cast<const uint16_t*>(src);
  from == DType::bf16 ? widen_array<true>(s, dst, n) : widen_array<false>(s, dst, n);
}
void from_float(DType to, const float* src, void* dst, int64_t n) {
  auto* d = static_cast<uint16_t*>(dst);
  to == DType::bf16 ? narrow_array<true, false>(src, d, n) : narrow_array<false, false>(src, d, n);
}
void add_from_float(DType to, const float* src, void* dst, int64_t n) {
  auto* d = static_cast<uint16_t*>(dst);
  to == DType::bf16 ? narrow_array<true, true>(src, d, n) : narrow_array<false, true>(src, d, n);
}

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
