// When the calls of a process stay on their own thread, because another one was waited for (spared.h), and until when.
//
// The time alone is some lengths of the wait: twice as many where waits follow each other, so that a bad moment costs
// little and a neighbour that stays is tried rarely. Where the system says how long the cores have been idle, it is
// asked now and then: when there is a free core for each of the others they are tried at once, and while there is none
// at all hardly ever, since each trial beside a busy neighbour costs a slice of its time.
//
// Cores that are free by the system's account need not be there: the host of a virtual machine may run several of them
// on one of its own for as long as it sees little work, and only spreads them when they have all been busy for some 0.2
// s. So a trial on free cores lasts longer than that, whatever is waited for, and is repeated seldom if it fails.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>

namespace fusedrnn::cpu {

class Alone {
 public:
  // idle, used: as idle_ns and used_ns (idle.h). All times in nanoseconds.
  constexpr Alone(int64_t (*idle)(), int64_t (*used)()) : idle_(idle), used_(used) {}

  // Whether anybody is alone at all: spares others the clock.
  bool on() const { return on_.load(std::memory_order_relaxed); }

  // Whether a call that begins at `time`, and could have so many others, stays alone.
  bool at(int64_t time, int others) {
    if (!on()) return false;
    look(time, others);
    if (free_.load(std::memory_order_relaxed) && time >= distrusted_until_.load(std::memory_order_relaxed)) {
      patient_until_.store(time + kPatience, std::memory_order_relaxed);
      return end(time);
    }
    const int busy = busy_.load(std::memory_order_relaxed);
    const bool over = time >= until_.load(std::memory_order_relaxed);
    return over && (busy == 0 || busy >= kMostLooks) ? end(time) : true;
  }

  // Whether waits do not count at `time`, since a trial on free cores is not over.
  bool patient(int64_t time) const { return time < patient_until_.load(std::memory_order_relaxed); }

  // A leader that waited from `begin` to `end` goes alone. Until when, for the rest of its own call.
  int64_t start(int64_t begin, int64_t end) {
    const int64_t wait = end - begin, since = begin - until_.load(std::memory_order_relaxed);
    const int before = factor_.load(std::memory_order_relaxed), most = most_.load(std::memory_order_relaxed);
    const int factor = std::min(since < most * wait ? 2 * before : kFirst, most);
    // Cores that were free and did not help will not help soon: a quota, or others than the system knows.
    const int64_t trial_end = patient_until_.load(std::memory_order_relaxed);
    if (std::min(since, begin - trial_end) >= kFirst * wait) {
      distrust_.store(0, std::memory_order_relaxed);
      distrusted_until_.store(0, std::memory_order_relaxed);
    } else if (free_.load(std::memory_order_relaxed) && begin >= distrusted_until_.load(std::memory_order_relaxed)) {
      const int64_t longer = std::clamp(2 * distrust_.load(std::memory_order_relaxed), kDistrust, kMostDistrust);
      distrust_.store(longer, std::memory_order_relaxed);
      distrusted_until_.store(end + longer, std::memory_order_relaxed);
    }
    factor_.store(factor, std::memory_order_relaxed);
    until_.store(end + factor * wait, std::memory_order_relaxed);
    busy_.store(0, std::memory_order_relaxed);
    free_.store(false, std::memory_order_relaxed);
    looked(end, idle_(), used_());
    on_.store(true, std::memory_order_relaxed);
    return end + factor * wait;
  }

  // The most lengths of the wait. For tests.
  void limit(int lengths) { most_.store(lengths, std::memory_order_relaxed); }

  static constexpr int kMost = 32;
  // How long a trial on free cores lasts, and how long none is made after one that failed, twice as long after each.
  static constexpr int64_t kPatience = 300'000'000, kDistrust = 3'000'000'000, kMostDistrust = 60'000'000'000;

 private:
  static constexpr int kFirst = 4;
  // So long at least from look to look: the system counts in ticks of 10 ms.
  static constexpr int64_t kLook = 30'000'000;
  // So much of a core may be taken, or be counted wrongly, and it is still free.
  static constexpr double kTaken = 0.4;
  // After so many looks that saw no core free the others are tried all the same: what kept the cores busy may have been
  // this process's own threads, between calls.
  static constexpr int kMostLooks = 32;

  bool end(int64_t time) {
    until_.store(time, std::memory_order_relaxed);
    on_.store(false, std::memory_order_relaxed);
    return false;
  }

  void looked(int64_t time, int64_t idle, int64_t used) {
    idle_at_.store(idle, std::memory_order_relaxed);
    used_at_.store(used, std::memory_order_relaxed);
    looked_at_.store(time, std::memory_order_relaxed);
  }

  void look(int64_t time, int others) {
    const int64_t passed = time - looked_at_.load(std::memory_order_relaxed);
    const int64_t before = idle_at_.load(std::memory_order_relaxed);
    if (before < 0 || passed < kLook) return;
    const int64_t idle = idle_(), used = used_();
    // Between calls the caller's own core may be idle, too.
    const int64_t slept = std::max<int64_t>(0, passed - (used - used_at_.load(std::memory_order_relaxed)));
    looked(time, idle, used);
    const double cores = double(idle - before - slept) / double(passed);
    free_.store(cores >= others - kTaken, std::memory_order_relaxed);
    if (idle >= 0 && cores < 1 - kTaken)
      busy_.fetch_add(1, std::memory_order_relaxed);
    else
      busy_.store(0, std::memory_order_relaxed);  // some are, or the system says no more: then the time counts
  }

  // Leaders that come at the same moment may overwrite each other's entries: then one goes alone a little longer or
  // shorter.
  int64_t (*const idle_)();
  int64_t (*const used_)();
  std::atomic<bool> on_{false};
  std::atomic<int64_t> until_{0};
  std::atomic<int> factor_{1}, most_{kMost};
  std::atomic<int64_t> looked_at_{0}, idle_at_{-1}, used_at_{0};
  std::atomic<int> busy_{0};       // looks, the last ones since the start, that saw no core free
  std::atomic<bool> free_{false};  // the last look saw a core for each of the others
  std::atomic<int64_t> patient_until_{0}, distrusted_until_{0}, distrust_{0};
};

}  // namespace fusedrnn::cpu
