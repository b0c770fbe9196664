// The choice of the instruction set.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "backend.h"

#if defined(__x86_64__)
#define FUSEDRNN_ISAS(X)                                      \
  X("x86-64-v2", isa_v2, __builtin_cpu_supports("x86-64-v2")) \
  X("x86-64-v3", isa_v3, __builtin_cpu_supports("x86-64-v3")) \
  X("x86-64-v4", isa_v4, __builtin_cpu_supports("x86-64-v4"))
#else
#define FUSEDRNN_ISAS(X) X("baseline", isa_baseline, true)
#endif

namespace fusedrnn::cpu {

#define FUSEDRNN_DECLARE(name, space, supported)                                      \
  namespace space {                                                                   \
  void forward(const ForwardArgs&, const Threads&);                                   \
  size_t forward_bytes(const ForwardArgs&, const Threads&);                           \
  void forward_again(const ForwardArgs&, const Threads&, char*, bool);                \
  void backward(const BackwardArgs&, const Threads&);                                 \
  bool step(const ForwardArgs&, const Threads&);                                      \
  bool generate_rows(const GenerateArgs&, const Threads&);                            \
  void head(const Head&, const double*, int64_t, int64_t, int64_t, double*, int64_t); \
  int64_t draw(const Draw&, double*);                                                 \
  double cross_entropy(const CrossEntropyArgs&, const Threads&);                      \
  }
FUSEDRNN_ISAS(FUSEDRNN_DECLARE)

namespace {

#define FUSEDRNN_ENTRY(name, space, supported) \
  {name,                                       \
   space::forward,                             \
   space::backward,                            \
   space::step,                                \
   space::forward_bytes,                       \
   space::forward_again,                       \
   space::generate_rows,                       \
   space::head,                                \
   space::draw,                                \
   space::cross_entropy},
constexpr Kernels kSets[] = {FUSEDRNN_ISAS(FUSEDRNN_ENTRY)};
constexpr int kSetCount = sizeof(kSets) / sizeof(kSets[0]);

bool supported(int i) {
#define FUSEDRNN_SUPPORTED(name, space, condition) (condition) != 0,
  const bool table[] = {FUSEDRNN_ISAS(FUSEDRNN_SUPPORTED)};
  return table[i];
}

struct Available {
  const char* names[kSetCount + 1] = {};
  const Kernels* best = nullptr;
  Available() {
    int n = 0;
    for (int i = 0; i < kSetCount; i++)
      if (supported(i)) {
        names[n++] = kSets[i].isa;
        best = &kSets[i];
      }
  }
};
const Available& available() {
  static const Available a;
  return a;
}

const Kernels& choose() {
  const Available& a = available();
  const char* forced = std::getenv("FUSEDRNN_ISA");
  if (forced && *forced) {
    std::string list;
    for (int i = 0; a.names[i]; i++) {
      for (const Kernels& k : kSets)
        if (std::strcmp(a.names[i], forced) == 0 && k.isa == a.names[i]) return k;
      list += (i ? ", " : "") + std::string(a.names[i]);
    }
    throw std::runtime_error("FUSEDRNN_ISA is \"" + std::string(forced) +
                             "\"; available on this machine: " + (list.empty() ? "none" : list));
  }
  if (!a.best) throw std::runtime_error("this processor runs none of the instruction sets fusedrnn was built for");
  return *a.best;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

const char* const* available_isas() { return available().names; }

}  // namespace fusedrnn::cpu
