// How long the cores that a thread may use have had nothing to do.
#pragma once
#include <cstdint>

#if defined(__linux__)
#include <sched.h>
#endif

namespace fusedrnn::cpu {

// Nanoseconds since the system started, all those cores together, to some 10 ms a core; what processes of low priority
// (nice) had counts as idle, since they give way. -1 where the system does not say (/proc/stat, Linux), and for a
// thread that is tied to one core, which knows nothing of the others'.
int64_t idle_ns();

// Nanoseconds that the threads of this process have had a core, all together.
int64_t used_ns();

#if defined(__linux__)
// idle_ns in ticks, from the text of /proc/stat. -1 unless it names every core of `usable`.
int64_t idle_ticks(const char* stat, const cpu_set_t& usable);
#endif

}  // namespace fusedrnn::cpu
