// The machine's measured peak of fused multiply-adds in float32: what every other rate is a
// fraction of.
#pragma once
#include <string>
#include <vector>

namespace fusedrnn {

struct FmaPeak {
  std::string isa;              // instruction set that was measured
  std::vector<double> gflops;   // per thread: median over its slices of about one millisecond, 1e9 FLOP/s
  std::vector<double> fastest;  // per thread: its fastest slice, 1e9 FLOP/s
  std::vector<double> mean;     // per thread: over all the time, 1e9 FLOP/s
};

// Runs `threads` threads at once, each `seconds` long, on dependent chains of a = a * b + c that
// live in registers. isa: "x86-64-v4", "x86-64-v3", "x86-64-v2" or "baseline", or empty for the
// best this machine runs. The median forgives a neighbour who takes less than half of a core, in turns; the mean does
// not.
// Throws std::invalid_argument for threads < 1, seconds not in (0, 60], an unknown isa and one that
// this machine lacks.
FmaPeak fma_peak(int threads, double seconds, const std::string& isa);

}  // namespace fusedrnn
