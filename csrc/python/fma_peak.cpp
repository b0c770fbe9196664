// Independent chains of multiply-adds, enough of them to hide the latency of the pipes, and no
// memory access in between.
#include "fma_peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>

namespace fusedrnn {
namespace {

using Clock = std::chrono::steady_clock;

// One slice of work: `rounds` times every chain. Returns a value that depends on all of them.
using Slice = float (*)(long rounds, float b, float c);

template <int Lanes>
struct Vector {
  typedef float type __attribute__((vector_size(Lanes * sizeof(float))));
};

// The loop for one vector width. `inline` into a function with the right target, where the vectors
// become registers.
template <int Lanes, int Chains>
[[gnu::always_inline]] inline float chains(long rounds, float b, float c) {
  using V = typename Vector<Lanes>::type;
  const V vb = b - V{}, vc = c - V{};
  V acc[Chains];
  for (int k = 0; k < Chains; k++) acc[k] = vc * float(k + 1);
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 32
    for (int k = 0; k < Chains; k++) acc[k] = acc[k] * vb + vc;
  }
  V sum = acc[0];
  for (int k = 1; k < Chains; k++) sum += acc[k];
  float total = 0;
  for (int i = 0; i < Lanes; i++) total += sum[i];
  return total;
}

struct Variant {
  const char* isa;
  double flops_per_round;
  Slice slice;
  bool (*runs_here)();
};

#if defined(__x86_64__)
// Twelve chains cover latency 4 on two pipes and leave room for b and c among sixteen registers.
constexpr int kChains = 12;

[[gnu::target("avx512f,prefer-vector-width=512")]] float slice_v4(long n, float b, float c) {
  return chains<16, kChains>(n, b, c);
}
[[gnu::target("avx2,fma")]] float slice_v3(long n, float b, float c) { return chains<8, kChains>(n, b, c); }
float slice_v2(long n, float b, float c) { return chains<4, kChains>(n, b, c); }

const Variant variants[] = {
    {"x86-64-v4", 2.0 * 16 * kChains, slice_v4, [] { return bool(__builtin_cpu_supports("avx512f")); }},
    {"x86-64-v3", 2.0 * 8 * kChains, slice_v3,
     [] { return bool(__builtin_cpu_supports("avx2")) && bool(__builtin_cpu_supports("fma")); }},
    {"x86-64-v2", 2.0 * 4 * kChains, slice_v2, [] { return true; }},
};
#else
// Twenty chains cover latency 4 on the four pipes of wide Arm cores, which have thirty-two
// registers.
constexpr int kChains = 20;
float slice_baseline(long n, float b, float c) { return chains<4, kChains>(n, b, c); }
const Variant variants[] = {
    {"baseline", 2.0 * 4 * kChains, slice_baseline, [] { return true; }},
};
#endif

const Variant& choose(const std::string& isa) {
  std::string available;
  for (const Variant& v : variants) {
    if (!v.runs_here()) continue;
    if (isa.empty() || isa == v.isa) return v;
    available += std::string(available.empty() ? "" : ", ") + v.isa;
  }
  throw std::invalid_argument("fma_peak: expected isa to be one of " + available + ", got '" + isa + "'");
}

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Slices until the time is up; their rates in FLOP/s.
std::vector<double> rates(const Variant& v, double seconds, volatile float* sink) {
  constexpr double kSlice = 1e-3;
  constexpr float kB = 0.75f,
                  kC = 0.5f;  // the chains settle at c / (1 - b) = 2: no overflow, no denormals
  std::vector<double> out;
  out.reserve(size_t(seconds / kSlice) + 16);
  long rounds = 1000;
  for (double t = 0; t < kSlice / 2; rounds *= 2) {  // also wakes the clock of the core
    const auto start = Clock::now();
    *sink = v.slice(rounds, kB, kC);
    t = since(start);
  }
  const auto start = Clock::now();
  do {
    const auto before = Clock::now();
    *sink = v.slice(rounds, kB, kC);
    out.push_back(v.flops_per_round * double(rounds) / since(before));
  } while (since(start) < seconds);
  return out;
}

}  // namespace

FmaPeak fma_peak(int threads, double seconds, const std::string& isa) {
  if (threads < 1) throw std::invalid_argument("fma_peak: expected threads >= 1, got " + std::to_string(threads));
  if (!(seconds > 0 && seconds <= 60))
    throw std::invalid_argument("fma_peak: expected seconds in (0, 60], got " + std::to_string(seconds));
  const Variant& v = choose(isa);
  const std::vector<double> none(threads);
  FmaPeak peak{v.isa, none, none, none};
  std::atomic<int> ready{0};
  auto work = [&](int me) {
    volatile float sink = 0;
    ready++;
    while (ready.load() < threads) std::this_thread::yield();  // all measure at the same time
    std::vector<double> r = rates(v, seconds, &sink);
    // Slices are as long as each other in work, so their mean rate is the harmonic one.
    peak.mean[me] = 1e-9 * double(r.size()) /
                    std::accumulate(r.begin(), r.end(), 0.0, [](double s, double x) { return s + 1 / x; });
    std::sort(r.begin(), r.end());
    peak.gflops[me] = r[r.size() / 2] * 1e-9;
    peak.fastest[me] = r.back() * 1e-9;
  };
  std::vector<std::thread> others;
  others.reserve(threads - 1);
  try {
    for (int i = 1; i < threads; i++) others.emplace_back(work, i);
  } catch (...) {  // fewer threads than asked could be made: let those that wait go, then say so
    ready += threads;
    for (auto& t : others) t.join();
    throw;
  }
  work(0);
  for (auto& t : others) t.join();
  return peak;
}

}  // namespace fusedrnn
