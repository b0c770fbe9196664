// A test program's checks: they count, say what failed and go on.
#pragma once
#include <cstdio>
#include <string>

namespace check {

inline int passed = 0, failed = 0;

inline bool that(bool ok, const std::string& what) {
  ok ? passed++ : failed++;
  if (!ok && failed <= 50) std::printf("FAILED: %s\n", what.c_str());
  return ok;
}

// The closing line, and the exit status of main.
inline int summary() {
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}

}  // namespace check
