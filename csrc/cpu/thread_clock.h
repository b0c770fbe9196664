// How long a thread has had a core, asked by another one.
#pragma once
#include <cstdint>

#if defined(__linux__)
#include <pthread.h>
#include <time.h>
#endif

namespace fusedrnn::cpu {

using ThreadClock = int;
constexpr ThreadClock kNoClock = 0;  // of a thread that is not known, or where the system has no such clocks

inline ThreadClock own_clock() {
#if defined(__linux__)
  clockid_t id;
  return pthread_getcpuclockid(pthread_self(), &id) == 0 ? id : kNoClock;
#else
  return kNoClock;
#endif
}

// Nanoseconds; -1 where the clock is not known, or its thread has ended.
inline int64_t ran_ns(ThreadClock clock) {
#if defined(__linux__)
  timespec t;
  if (clock != kNoClock && clock_gettime(clock, &t) == 0) return int64_t(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
#else
  (void)clock;
#endif
  return -1;
}

}  // namespace fusedrnn::cpu
