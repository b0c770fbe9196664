// How far from each other the cores lie that threads run on: the time in which a cache line goes to another core and
// back.
#pragma once
#include <vector>

namespace fusedrnn {

// Nanoseconds of a round trip between the first of `threads` threads and each of the others, in turn, `seconds` for
// each pair: the lower quartile of stretches of 100 round trips. Only what the threads' cores are tells, not what they
// share: the host of a virtual machine may run them on cores that lie in different parts of a processor.
// Throws std::invalid_argument for threads < 2 and seconds not in (0, 60].
std::vector<double> line_exchange(int threads, double seconds);

}  // namespace fusedrnn
