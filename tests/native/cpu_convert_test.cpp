// Half-width numbers to float and back, over every bit pattern that matters.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "../../csrc/cpu/backend.h"
#include "cpu_case.h"
#include "cpu_check.h"
#include "cpu_tests.h"

using fusedrnn::DType;

#define DECLARE(space)                                                   \
  namespace fusedrnn::cpu::space {                                       \
  void to_float(DType from, const void* src, float* dst, int64_t n);     \
  void from_float(DType to, const float* src, void* dst, int64_t n);     \
  void add_from_float(DType to, const float* src, void* dst, int64_t n); \
  }
#if defined(__x86_64__)
DECLARE(isa_v2)
DECLARE(isa_v3)
DECLARE(isa_v4)
#else
DECLARE(isa_baseline)
#endif

namespace {

struct Conversions {
  void (*widen)(DType, const void*, float*, int64_t);
  void (*narrow)(DType, const float*, void*, int64_t);
  void (*add)(DType, const float*, void*, int64_t);
};

Conversions chosen() {
#define USE(space)                                                                                         \
  {                                                                                                        \
    fusedrnn::cpu::space::to_float, fusedrnn::cpu::space::from_float, fusedrnn::cpu::space::add_from_float \
  }
#if defined(__x86_64__)
  const std::string isa = fusedrnn::cpu::kernels().isa;
  if (isa == "x86-64-v2") return USE(isa_v2);
  if (isa == "x86-64-v3") return USE(isa_v3);
  return USE(isa_v4);
#else
  return USE(isa_baseline);
#endif
}

bool same(float a, double b) { return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b); }

void every_half(const Conversions& c, DType t, const std::string& name) {
  Array all(t, size_t(65536));
  for (unsigned i = 0; i < 65536; i++) {
    const uint16_t h = uint16_t(i);
    std::memcpy(&all.raw[2 * i], &h, 2);
  }
  const oracle::Values want = all.values();
  std::vector<float> got(65536), half(65536, 0.f);
  c.widen(t, all.data(), got.data(), 65536);
  int wrong = 0, changed = 0;
  for (unsigned i = 0; i < 65536; i++) wrong += !same(got[i], want[i]);
  check::that(wrong == 0, name + " to float: " + std::to_string(wrong) + " of 65536 wrong");
  Array back(t, size_t(65536));
  c.narrow(t, got.data(), back.data(), 65536);
  Array sum = all;
  c.add(t, half.data(), sum.data(), 65536);
  for (unsigned i = 0; i < 65536; i++) {
    if (std::isnan(want[i])) {
      changed += !std::isnan(back.values()[0]) && i == 0;
      continue;
    }
    changed += std::memcmp(&back.raw[2 * i], &all.raw[2 * i], 2) != 0;
    changed += want[i] != 0 && std::memcmp(&sum.raw[2 * i], &all.raw[2 * i], 2) != 0;
  }
  check::that(changed == 0, name + " there and back: " + std::to_string(changed) + " changed");
}

// Floats between, on and beside the halves, of every magnitude.
void rounding(const Conversions& c, DType t, const std::string& name) {
  std::vector<float> x;
  for (uint64_t u = 0; u < (uint64_t(1) << 32); u += 65521) {
    const uint32_t near[] = {uint32_t(u),
                             uint32_t(u) & 0xffffe000u,
                             (uint32_t(u) & 0xffffe000u) | 0x1000u,
                             (uint32_t(u) & 0xffff0000u) | 0x8000u,
                             (uint32_t(u) & 0xffff0000u) | 0x7fffu,
                             (uint32_t(u) & 0xffff0000u) | 0x8001u};
    for (const uint32_t v : near) {
      float f;
      std::memcpy(&f, &v, 4);
      x.push_back(f);
    }
  }
  Array got(t, x.size());
  c.narrow(t, x.data(), got.data(), int64_t(x.size()));
  const oracle::Values v = got.values();
  int wrong = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const double want = round_to(t, x[i]);
    wrong += !(std::isnan(want) ? std::isnan(v[i]) : v[i] == want && std::signbit(v[i]) == std::signbit(want));
  }
  check::that(wrong == 0,
              "float to " + name + ": " + std::to_string(wrong) + " of " + std::to_string(x.size()) + " wrong");
}

}  // namespace

void test_conversions() {
  const Conversions c = chosen();
  every_half(c, DType::bf16, "bf16");
  every_half(c, DType::f16, "f16");
  rounding(c, DType::bf16, "bf16");
  rounding(c, DType::f16, "f16");
}
