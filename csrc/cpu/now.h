// The time by a clock that never goes back, in nanoseconds.
#pragma once
#include <chrono>
#include <cstdint>

namespace fusedrnn::cpu {

inline int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace fusedrnn::cpu
