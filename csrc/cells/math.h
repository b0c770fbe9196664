// exp, sigmoid and tanh over any value type: float, double, and GCC vectors of either. The same
// lines serve the lanes of a CPU register and one CUDA thread.
//
// Worst error over all inputs (float: every bit pattern; double: sampled;
// tests/native/cpu_math_scan.h), in units in the last place of the exact result, subnormal results
// included:
//              float   double
//   exp         1.1     1.1
//   sigmoid     2.5     2.5
//   tanh        2.9     2.6    (float without AVX-512: 2.6)
// NaN gives NaN; exp(-inf) = 0, exp(inf) = inf, sigmoid(-inf) = 0, sigmoid(inf) = 1, tanh(+-inf) =
// +-1. CUDA device code uses the library's expf and tanhf, which are at least as close.
#pragma once
#include <cstdint>

#if defined(__AVX__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

#if defined(__CUDACC__)
#define FUSEDRNN_FN __host__ __device__ __forceinline__
#else
#define FUSEDRNN_FN inline __attribute__((always_inline))
#endif

namespace fusedrnn::cells {

// The element of a value type and the signed integers of the same shape.
template <class V>
struct Lane {
#if !defined(__CUDACC__)
  using Elem = __typeof__(V{}[0] + V{}[0]);
  template <class E, int kBytes = sizeof(E)>
  struct IntOf {
    typedef int32_t type __attribute__((vector_size(sizeof(V))));
  };
  template <class E>
  struct IntOf<E, 8> {
    typedef int64_t type __attribute__((vector_size(sizeof(V))));
  };
  using Int = typename IntOf<Elem>::type;
#endif
};
template <>
struct Lane<float> {
  using Elem = float;
  using Int = int32_t;
};
template <>
struct Lane<double> {
  using Elem = double;
  using Int = int64_t;
};

// x in every lane. x - 0 is folded to a plain broadcast; 0 + x would turn -0 into +0 and costs an
// addition.
template <class V>
FUSEDRNN_FN V splat(typename Lane<V>::Elem x) {
  return x - V{};
}

// The bits of a value, and back. A struct, since pair.h has its own.
template <class V>
struct Bits {
  using Int = typename Lane<V>::Int;
  FUSEDRNN_FN static Int of(V x) { return __builtin_bit_cast(Int, x); }
  FUSEDRNN_FN static V value(Int x) { return __builtin_bit_cast(V, x); }
};
template <class V>
FUSEDRNN_FN typename Lane<V>::Int to_bits(V x) {
  return Bits<V>::of(x);
}
template <class V>
FUSEDRNN_FN V from_bits(typename Lane<V>::Int x) {
  return Bits<V>::value(x);
}

template <class M, class V>
FUSEDRNN_FN V select(M mask, V x, V y) {
  return mask ? x : y;
}
// x held to a bound; NaN stays NaN.
template <class V>
FUSEDRNN_FN V at_least(V x, V bound) {
  return x < bound ? bound : x;
}
template <class V>
FUSEDRNN_FN V at_most(V x, V bound) {
  return x > bound ? bound : x;
}
// y where x < 0, z where x > 0, either where x is zero or NaN.
template <class V>
FUSEDRNN_FN V where_negative(V x, V y, V z) {
  return x < V{} ? y : z;
}
#if defined(__AVX__) && !defined(__CUDACC__)
// One instruction each, where GCC makes two (of AVX-512's in their masked forms, since it warns of the plain ones).
FUSEDRNN_FN __m256 at_least(__m256 x, __m256 bound) { return _mm256_max_ps(bound, x); }
FUSEDRNN_FN __m256 at_most(__m256 x, __m256 bound) { return _mm256_min_ps(bound, x); }
FUSEDRNN_FN __m256 where_negative(__m256 x, __m256 y, __m256 z) { return _mm256_blendv_ps(z, y, x); }
FUSEDRNN_FN __m256d at_least(__m256d x, __m256d bound) { return _mm256_max_pd(bound, x); }
FUSEDRNN_FN __m256d at_most(__m256d x, __m256d bound) { return _mm256_min_pd(bound, x); }
FUSEDRNN_FN __m256d where_negative(__m256d x, __m256d y, __m256d z) { return _mm256_blendv_pd(z, y, x); }
#endif
#if defined(__AVX512F__) && !defined(__CUDACC__)
FUSEDRNN_FN __m512 at_least(__m512 x, __m512 bound) { return _mm512_maskz_max_ps(0xffff, bound, x); }
FUSEDRNN_FN __m512 at_most(__m512 x, __m512 bound) { return _mm512_maskz_min_ps(0xffff, bound, x); }
FUSEDRNN_FN __m512d at_least(__m512d x, __m512d bound) { return _mm512_maskz_max_pd(0xff, bound, x); }
FUSEDRNN_FN __m512d at_most(__m512d x, __m512d bound) { return _mm512_maskz_min_pd(0xff, bound, x); }
#endif

// Constants of the reduction e^y = 2^n (1 + q), y = n ln2 + r, |r| <= ln2/2.
template <class E>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr int kMantissa = 23;
  static constexpr int32_t kBias = 127, kSign = INT32_MIN;
  static constexpr float kMagic = 12582912.f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  static constexpr float kLog2e = 1.44269504089f;
  static constexpr float kLn2Hi = 0.693359375f;  // exact in 9 bits, so n * kLn2Hi is exact
  static constexpr float kLn2Lo = -2.12194440e-4f;
  static constexpr float kLow = -104.5f, kHigh = 89.f;  // e^y is 0 below, infinite above
  static constexpr float kTanhOne = 20.f;               // tanh(y/2) rounds to 1 above
};
template <>
struct ExpConstants<double> {
  static constexpr int kMantissa = 52;
  static constexpr int64_t kBias = 1023, kSign = INT64_MIN;
  static constexpr double kMagic = 6755399441055744.;  // 1.5 * 2^52
  static constexpr double kLog2e = 1.4426950408889634074;
  static constexpr double kLn2Hi = 0x1.62e42fefap-1;  // 33 bits
  static constexpr double kLn2Lo = 0x1.cf79abc9e3b3ap-40;
  static constexpr double kLow = -746., kHigh = 710.;
  static constexpr double kTanhOne = 40.;
};

// (e^r - 1 - r) / r^2 on |r| <= ln2/2, by interpolation at Chebyshev points.
template <class V>
FUSEDRNN_FN V exp_polynomial(V r, float) {
  V p = splat<V>(1.989103065e-4f);
  p = p * r + 1.393368586e-3f;
  p = p * r + 8.33331089e-3f;
  p = p * r + 4.16664646e-2f;
  p = p * r + 0.1666666668f;
  return p * r + 0.5000000013f;
}
template <class V>
FUSEDRNN_FN V exp_polynomial(V r, double) {
  V p = splat<V>(2.0914717341716376e-9);
  p = p * r + 2.5105259538448493e-8;
  p = p * r + 2.755727357010214e-7;
  p = p * r + 2.7557255297969644e-6;
  p = p * r + 2.4801587325605323e-5;
  p = p * r + 1.9841269874901259e-4;
  p = p * r + 1.3888888888883732e-3;
  p = p * r + 8.3333333333261121e-3;
  p = p * r + 4.166666666666667e-2;
  p = p * r + 0.16666666666666671;
  return p * r + 0.5;
}

// e^y = 2^n (1 + q). The low bits of t are n + kBiases * kBias, the exponent field of a power of two once they are
// shifted there. t is undefined for NaN, q is NaN then. |y| must be below 2^(mantissa bits).
template <class E, int kBiases>
constexpr E exp_magic = ExpConstants<E>::kMagic + kBiases * ExpConstants<E>::kBias;
template <int kBiases, class V>
FUSEDRNN_FN void exp_parts(V y, V& q, V& t) {
  using E = typename Lane<V>::Elem;
  using C = ExpConstants<E>;
  t = y * C::kLog2e + exp_magic<E, kBiases>;
  const V f = t - exp_magic<E, kBiases>;
  V r = y - f * C::kLn2Hi;
  r = r - f * C::kLn2Lo;
  q = exp_polynomial(r, E{}) * (r * r) + r;
}

// The power of two whose exponent field is the low bits of e, which must fit that field; the bits of kMagic above are
// shifted out.
template <class V>
FUSEDRNN_FN V power_of_two(typename Lane<V>::Int e) {
  return from_bits<V>(e << ExpConstants<typename Lane<V>::Elem>::kMantissa);
}

// 2^n (1 + q), t with two biases: rounded once where the result is subnormal and infinite where it is too large. Two
// factors carry the scale, since 2^n alone may be out of range; AVX-512 has an instruction (floats: TableExp).
template <class V>
FUSEDRNN_FN V scale_up(V q, V t) {
  const typename Lane<V>::Int e = to_bits(t), half = e >> 1;
  const V s = power_of_two<V>(half);
  return (s * q + s) * power_of_two<V>(e - half);
}
#if defined(__AVX512F__) && !defined(__CUDACC__)
FUSEDRNN_FN __m512d scale_up(__m512d q, __m512d t) {
  return _mm512_maskz_scalef_pd(0xff, q + splat<__m512d>(1), t - exp_magic<double, 2>);
}
#endif

// e^y for y clamped by the caller to at least kLow and at most kHigh.
template <class V>
FUSEDRNN_FN V exp_clamped(V y) {
  V q, t;
  exp_parts<2>(y, q, t);
  return scale_up(q, t);
}

// e^y - 1 for tanh, which wants relative precision near 0; y clamped by the caller to 0 .. 2 kTanhOne.
template <class V>
FUSEDRNN_FN V expm1_clamped(V y) {
  V q, t;
  exp_parts<1>(y, q, t);
  const V s = power_of_two<V>(to_bits(t));
  return s * q + (s - splat<V>(1));
}

#if defined(__AVX512F__) && !defined(__CUDACC__)
// Floats of AVX-512: e^y = 2^n T (1 + q), y = (n + j/16) ln2 + r. The 16 numbers T = 2^(j/16) fit one register, and so
// do the parts of them that their rounding left out; |r| <= ln2/32 leaves the polynomial two or three coefficients.
alignas(64) constexpr float kSixteenthPower[16] = {
    1.f,         1.04427373f, 1.09050775f, 1.13878858f, 1.18920708f, 1.24185777f, 1.29683959f, 1.35425556f,
    1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f, 1.68179286f, 1.75625217f, 1.8340081f,  1.91520655f};
alignas(64) constexpr float kSixteenthRest[16] = {0.f,
                                                  4.62854715e-08f,
                                                  -1.19921575e-08f,
                                                  4.72978243e-08f,
                                                  3.19341815e-08f,
                                                  3.62105723e-08f,
                                                  -3.09907193e-08f,
                                                  -7.47521334e-09f,
                                                  1.71142709e-08f,
                                                  -3.04768335e-08f,
                                                  5.23333421e-09f,
                                                  6.10759177e-09f,
                                                  -1.47196051e-08f,
                                                  -5.25879518e-09f,
                                                  -6.12825968e-09f,
                                                  5.14060927e-09f};

// f = n + j/16; the low four bits of t are j.
struct TableExp {
  static constexpr float kMagic = 786432.f;  // 1.5 * 2^19: adding it rounds to the nearest sixteenth
  static constexpr float kLn2 = 0.693147182f, kLn2Rest = -1.904654299e-9f;
  __m512 t, f, r;

  // f kLn2 has more bits than a float: only a fused multiply-add leaves r exact. f kLn2Rest, 3e-9 of y, is not yet in
  // it.
  FUSEDRNN_FN explicit TableExp(__m512 y)
      : t(y * ExpConstants<float>::kLog2e + kMagic),
        f(t - kMagic),
        r(_mm512_maskz_fnmadd_ps(0xffff, f, splat<__m512>(kLn2), y)) {}
  FUSEDRNN_FN __m512 entry(const float* table) const {
    return _mm512_maskz_permutexvar_ps(0xffff, __m512i(t), _mm512_load_ps(table));
  }
  // x 2^n
  FUSEDRNN_FN __m512 scaled(__m512 x) const { return _mm512_maskz_scalef_ps(0xffff, x, f); }
};
FUSEDRNN_FN __m512 exp_clamped(__m512 y) {
  const TableExp e(y);
  const __m512 p = e.r * 0.166668624f + 0.500009775f, power = e.entry(kSixteenthPower);
  const __m512 q = e.r + (p * (e.r * e.r) + (e.entry(kSixteenthRest) - e.f * e.kLn2Rest));
  return e.scaled(power * q + power);
}
// Without f kLn2Rest: tanh does not notice it, neither near 0, where it is small beside y, nor far from it.
FUSEDRNN_FN __m512 expm1_clamped(__m512 y) {
  const TableExp e(y);
  const __m512 p = (e.r * 0.0416671559f + 0.166669592f) * e.r + 0.5f, s = e.scaled(e.entry(kSixteenthPower));
  const __m512 q = e.r + (p * (e.r * e.r) + e.entry(kSixteenthRest));
  return s * q + (s - splat<__m512>(1));
}
#endif

#if defined(__CUDACC__)
// What device code runs instead of the polynomials.
__device__ __forceinline__ float device_exp(float x) { return ::expf(x); }
__device__ __forceinline__ double device_exp(double x) { return ::exp(x); }
__device__ __forceinline__ float device_tanh(float x) { return ::tanhf(x); }
__device__ __forceinline__ double device_tanh(double x) { return ::tanh(x); }
#endif

template <class V>
FUSEDRNN_FN V exp(V x) {
#if defined(__CUDA_ARCH__)
  return device_exp(x);
#else
  using C = ExpConstants<typename Lane<V>::Elem>;
  return exp_clamped(at_most(at_least(x, splat<V>(C::kLow)), splat<V>(C::kHigh)));
#endif
}

template <class V>
FUSEDRNN_FN V abs(V x) {
  using C = ExpConstants<typename Lane<V>::Elem>;
  return from_bits<V>(to_bits(x) & ~C::kSign);
}

// e / (1 + e) or 1 / (1 + e) with e = exp(-|x|), which cannot overflow.
template <class V>
FUSEDRNN_FN V sigmoid(V x) {
#if defined(__CUDA_ARCH__)
  const V e = device_exp(x < V{} ? x : -x);
#else
  using C = ExpConstants<typename Lane<V>::Elem>;
  const V e = exp_clamped(at_least(from_bits<V>(to_bits(x) | C::kSign), splat<V>(C::kLow)));
#endif
  const V one = splat<V>(1);
  return where_negative(x, e, one) / (e + one);
}

// m / (m + 2) with m = exp(2|x|) - 1, which keeps its relative precision near 0.
template <class V>
FUSEDRNN_FN V tanh(V x) {
#if defined(__CUDA_ARCH__)
  return device_tanh(x);
#else
  using C = ExpConstants<typename Lane<V>::Elem>;
  const V m = expm1_clamped(at_most(abs(x) * splat<V>(2), splat<V>(C::kTanhOne * 2)));
  const V r = m / (m + splat<V>(2));
  return from_bits<V>(to_bits(r) | (to_bits(x) & C::kSign));
#endif
}

// max(x, 0) that lets NaN through, as torch.relu does.
template <class V>
FUSEDRNN_FN V relu(V x) {
  return select(x < V{}, V{}, x);
}

}  // namespace fusedrnn::cells
