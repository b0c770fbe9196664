// exp, sigmoid and tanh over vectors of kBytes bytes against the C library in a wider type. Included by one file per
// instruction set, after its target pragma; the standard headers come before that. Every 10007th float is looked at,
// and every float there is with
//   FUSEDRNN_MATH_STRIDE=1 cpu_test math
// which prints what it finds, and takes half an hour on one core.
#include "../../csrc/cells/math.h"

namespace {

typedef float VF __attribute__((vector_size(kBytes)));
typedef double VD __attribute__((vector_size(kBytes)));

struct Worst {
  double ulp = 0, at = 0;
  bool special = true;  // NaN, infinities and zeros came out as they must
};

// Error of got in units of the last place of the exact result, where `digits` bits and exponents from `lowest` make the
// type; subnormal results are judged in their own unit.
inline double ulp_error(double got, long double want, int digits, int lowest) {
  int e;
  frexpl(want, &e);
  const long double unit = ldexpl(1.0L, e - digits > lowest ? e - digits : lowest);
  const long double d = (got - want) / unit;
  return double(d < 0 ? -d : d);
}

// Objects, not lambdas: a lambda without captures also becomes a plain function, for which the target pragma is off.
#define FUNCTION(Name, function)           \
  struct Name {                            \
    template <class V>                     \
    V operator()(V x) const {              \
      return fusedrnn::cells::function(x); \
    }                                      \
  };
FUNCTION(Exp, exp)
FUNCTION(Sigmoid, sigmoid)
FUNCTION(Tanh, tanh)

// What a stride would step over: zeros, infinities, NaNs, the ends of the subnormal and of the normal numbers.
constexpr uint32_t kSpecial[] = {0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001,
                                 0x7f800001, 0xffbfffff, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff,
                                 0x00800000, 0x80800000, 0x7f7fffff, 0xff7fffff};
constexpr uint64_t kSpecials = sizeof(kSpecial) / sizeof(kSpecial[0]);

template <class F, class R>
__attribute__((noinline)) Worst scan_float(F f, R reference, uint32_t stride) {
  constexpr int L = kBytes / 4;
  Worst w;
  VF x, y;
  int n = 0;
  for (uint64_t k = 0; k < kSpecials + (uint64_t(1) << 32) / stride; k++) {
    const uint32_t u = k < kSpecials ? kSpecial[k] : uint32_t((k - kSpecials) * stride);
    float v;
    memcpy(&v, &u, 4);
    x[n++] = v;
    if (n < L) continue;
    n = 0;
    y = f(x);
    for (int i = 0; i < L; i++) {
      if (x[i] != x[i]) {
        w.special = w.special && y[i] != y[i];
        continue;
      }
      const double want = reference(double(x[i]));
      if (!(want <= 3.4028235e38)) {  // infinite in float, or within half a unit of it
        w.special = w.special && y[i] >= 3.4e38f;
        continue;
      }
      const double e = ulp_error(y[i], want, 24, -149);
      if (!(e <= w.ulp)) w.ulp = e, w.at = x[i];
    }
  }
  return w;
}

template <class F, class R>
__attribute__((noinline)) Worst scan_double(F f, R reference) {
  constexpr int L = kBytes / 8;
  Worst w;
  uint64_t state = 1;
  for (int k = 0; k < 40000; k++) {
    VD x, y;
    for (int i = 0; i < L; i++) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const double u = double(state >> 11) * 0x1p-53 - 0.5;
      x[i] = k % 3 == 0 ? u * 1500 : k % 3 == 1 ? u * 8 : ldexp(u, -int(state % 60));
    }
    y = f(x);
    for (int i = 0; i < L; i++) {
      const long double want = reference((long double)x[i]);
      if (want > 1.79e308L) continue;
      const double e = ulp_error(y[i], want, 53, -1074);
      if (!(e <= w.ulp)) w.ulp = e, w.at = x[i];
    }
  }
  const VD infinite = VD{} + __builtin_inf();
  const double pairs[4][2] = {{f(infinite)[0], double(reference(__builtin_infl()))},
                              {f(-infinite)[0], double(reference(-__builtin_infl()))},
                              {f(VD{})[0], double(reference(0.0L))},
                              {f(VD{} + __builtin_nan(""))[0] != f(VD{} + __builtin_nan(""))[0] ? 0.0 : 1.0, 0.0}};
  for (const auto& p : pairs) w.special = w.special && p[0] == p[1];
  return w;
}

inline void judge(const char* what, const Worst& w, double most) {
  char text[160];
  if (getenv("FUSEDRNN_MATH_STRIDE")) printf("%s, %d bytes: worst %.3f at %.9g\n", what, kBytes, w.ulp, w.at);
  snprintf(text, sizeof text, "%s, %d bytes: %.2f units in the last place at %.9g, more than %.2f", what, kBytes, w.ulp,
           w.at, most);
  check::that(w.ulp <= most, text);
  snprintf(text, sizeof text, "%s, %d bytes: NaN, infinity or overflow went wrong", what, kBytes);
  check::that(w.special, text);
}

inline void scan_all() {
  const char* asked = getenv("FUSEDRNN_MATH_STRIDE");
  const uint32_t stride = asked && atoi(asked) > 0 ? uint32_t(atoi(asked)) : 10007;
  judge("exp f32", scan_float(Exp{}, [](double x) { return exp(x); }, stride), 1.1);
  judge("sigmoid f32", scan_float(Sigmoid{}, [](double x) { return 1 / (1 + exp(-x)); }, stride), 2.5);
  judge("tanh f32", scan_float(Tanh{}, [](double x) { return tanh(x); }, stride), kBytes == 64 ? 2.9 : 2.6);
  judge("exp f64", scan_double(Exp{}, [](long double x) { return expl(x); }), 1.1);
  judge("sigmoid f64", scan_double(Sigmoid{}, [](long double x) { return 1 / (1 + expl(-x)); }), 2.6);
  judge("tanh f64", scan_double(Tanh{}, [](long double x) { return tanhl(x); }), 2.7);
}

}  // namespace
