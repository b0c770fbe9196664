#include "fork.h"

#include <atomic>

#if defined(__unix__)
#include <dirent.h>
#include <pthread.h>
#endif

namespace fusedrnn::cpu {
namespace {

std::atomic<bool> lost{false};

#if defined(__unix__)
bool had_threads = false;  // written and read by the thread that forks, on either side

// Entries of /proc/self/task but for . and ..; several where the system does not say.
bool several_threads() {
  DIR* const tasks = opendir("/proc/self/task");
  if (!tasks) return true;
  int count = -2;
  while (readdir(tasks)) count++;
  closedir(tasks);
  return count > 1;
}

void before_fork() { had_threads = several_threads(); }
void in_child() {
  if (had_threads) lost.store(true, std::memory_order_relaxed);
}
[[maybe_unused]] const int registered = pthread_atfork(before_fork, nullptr, in_child);
#endif

}  // namespace

bool pool_lost() { return lost.load(std::memory_order_relaxed); }

}  // namespace fusedrnn::cpu
