// Vectors of the instruction set a file is compiled for, as GCC vector types. Included by the files that are built once
// per instruction set (files isa_*.cpp; isa_namespace.h); everything here is in an unnamed namespace,
// so that no symbol of one build can stand in for another's.
#pragma once
#include <cstdint>
#include <cstring>

#include "../cells/pair.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "isa_namespace.h"

#define FUSEDRNN_INLINE inline __attribute__((always_inline))
#define FUSEDRNN_UNROLL _Pragma("GCC unroll 16")

// Keeps a vector in a register. GCC would otherwise read it again, as a memory operand of every multiply-add that uses
// it.
#if defined(__AVX512F__)
#define FUSEDRNN_PIN(x) asm("" : "+v"(x))
#elif defined(__x86_64__)
#define FUSEDRNN_PIN(x) asm("" : "+x"(x))
#elif defined(__aarch64__)
#define FUSEDRNN_PIN(x) asm("" : "+w"(x))
#else
#define FUSEDRNN_PIN(x)
#endif

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kRegisters = 32;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef float loose __attribute__((vector_size(kVectorBytes), may_alias, aligned(4)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef double loose __attribute__((vector_size(kVectorBytes), may_alias, aligned(8)));
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <class T>
FUSEDRNN_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T>::loose*>(p);
}
template <class T>
FUSEDRNN_INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename VectorOf<T>::loose*>(p) = v;
}

// The first n lanes, 0 < n < kLanes; nothing beyond p[n-1] is touched, the other lanes read as 0.
FUSEDRNN_INLINE Vec<float> load_part(const float* p, int64_t n) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
#elif defined(__AVX2__) && !defined(__SANITIZE_ADDRESS__)  // which does not see what a mask loads
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), lanes));
#else
  Vec<float> v{};
  for (int64_t i = 0; i < n; i++) v[i] = p[i];
  return v;
#endif
}
FUSEDRNN_INLINE Vec<double> load_part(const double* p, int64_t n) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p);
#elif defined(__AVX2__) && !defined(__SANITIZE_ADDRESS__)
  const __m256i lanes = _mm256_setr_epi64x(0, 1, 2, 3);
  return _mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), lanes));
#else
  Vec<double> v{};
  for (int64_t i = 0; i < n; i++) v[i] = p[i];
  return v;
#endif
}
FUSEDRNN_INLINE void store_part(float* p, Vec<float> v, int64_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), v);
#else
  for (int64_t i = 0; i < n; i++) p[i] = v[i];
#endif
}
FUSEDRNN_INLINE void store_part(double* p, Vec<double> v, int64_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), v);
#else
  for (int64_t i = 0; i < n; i++) p[i] = v[i];
#endif
}

// Access to a block of units: a whole vector, its first n lanes, or two blocks at once, the second one `apart` elements
// behind the first.
struct Whole {
  template <class T>
  using Value = Vec<T>;
  template <class T>
  FUSEDRNN_INLINE Vec<T> get(const T* p, int64_t = 0) const {
    return load(p);
  }
  // Of memory that holds whole vectors also where the block has fewer units.
  template <class T>
  FUSEDRNN_INLINE Vec<T> padded(const T* p, int64_t = 0) const {
    return load(p);
  }
  template <class T>
  FUSEDRNN_INLINE void put(T* p, Vec<T> v, int64_t = 0) const {
    store(p, v);
  }
};
struct Part {
  int64_t n;
  template <class T>
  using Value = Vec<T>;
  template <class T>
  FUSEDRNN_INLINE Vec<T> get(const T* p, int64_t = 0) const {
    return load_part(p, n);
  }
  template <class T>
  FUSEDRNN_INLINE Vec<T> padded(const T* p, int64_t = 0) const {
    return load(p);
  }
  template <class T>
  FUSEDRNN_INLINE void put(T* p, Vec<T> v, int64_t = 0) const {
    store_part(p, v, n);
  }
};
struct Twice {
  template <class T>
  using Value = cells::Pair<Vec<T>>;
  template <class T>
  FUSEDRNN_INLINE Value<T> get(const T* p, int64_t apart = kLanes<T>) const {
    return {load(p), load(p + apart)};
  }
  template <class T>
  FUSEDRNN_INLINE Value<T> padded(const T* p, int64_t apart) const {
    return get(p, apart);
  }
  template <class T>
  FUSEDRNN_INLINE void put(T* p, Value<T> v, int64_t apart = kLanes<T>) const {
    store(p, v.a);
    store(p + apart, v.b);
  }
};

using cells::splat;

FUSEDRNN_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
FUSEDRNN_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
FUSEDRNN_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
