#include "idle.h"

#include <ctime>

#if defined(__linux__)
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#endif

namespace fusedrnn::cpu {

#if defined(__linux__)
namespace {

// The beginning of a file, as a string. False if it cannot be read.
bool read_start(const char* path, char* text, size_t size) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  size_t length = 0;
  while (length + 1 < size) {
    const ssize_t n = read(file, text + length, size - 1 - length);
    if (n <= 0) break;
    length += size_t(n);
  }
  close(file);
  text[length] = 0;
  return length > 0;
}

}  // namespace

int64_t idle_ticks(const char* stat, const cpu_set_t& usable) {
  int64_t ticks = 0;
  int missing = CPU_COUNT(&usable);
  // Lines of "cpu<number> user nice system idle iowait ..", after one for all cores together.
  for (const char* line = stat; missing > 0 && std::strncmp(line, "cpu", 3) == 0;) {
    const char* const end = std::strchr(line, '\n');
    if (!end) break;
    char* p = nullptr;
    const long core = std::strtol(line + 3, &p, 10);
    if (line[3] != ' ' && core >= 0 && core < CPU_SETSIZE && CPU_ISSET(core, &usable)) {
      int64_t field[5];
      for (int64_t& f : field) f = std::strtoll(p, &p, 10);
      ticks += field[1] + field[3] + field[4];
      missing--;
    }
    line = end + 1;
  }
  return missing == 0 ? ticks : -1;
}

int64_t idle_ns() {
  char text[32 << 10];
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof(usable), &usable) != 0 || CPU_COUNT(&usable) < 2 ||
      !read_start("/proc/stat", text, sizeof(text)))
    return -1;
  const int64_t ticks = idle_ticks(text, usable);
  const long per_second = sysconf(_SC_CLK_TCK);
  return ticks >= 0 && per_second > 0 ? ticks * (1'000'000'000 / per_second) : -1;
}
#else
int64_t idle_ns() { return -1; }
#endif

int64_t used_ns() { return int64_t(double(std::clock()) * (1e9 / CLOCKS_PER_SEC)); }

}  // namespace fusedrnn::cpu
