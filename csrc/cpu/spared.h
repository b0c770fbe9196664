// What the other threads of a team are worth, over all calls of the process: the work they have spared their leaders,
// less the time that those waited for one without a core. Two threads that work together for w and then wait for v have
// done 2w in w + v: one thread alone would have been as far where v exceeds w, n threads where it exceeds (n - 1) w.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>

namespace fusedrnn::cpu {

class Spared {
 public:
  // `others` threads have worked beside the leader for so many nanoseconds, in so many phases.
  void add(int64_t ns, int64_t others, int64_t phases = 1) {
    const int64_t spared = others * ns, most = std::max(kMost, spared / phases);
    balance_.store(std::min(balance() + spared, most), std::memory_order_relaxed);
  }
  // The leader has waited for so long for others that had no core. Whether it had better go on alone for a while.
  bool waited(int64_t ns) {
    const int64_t left = balance() - int64_t(double(ns) / kBorne);
    balance_.store(std::max<int64_t>(left, 0), std::memory_order_relaxed);
    return left < 0 && ns > kLongWait;
  }

 private:
  // A shorter wait is uneven work or a hiccup.
  static constexpr int64_t kLongWait = 200'000;
  // Alone already where this share of what was spared is waited for: near the whole, one thread is the steadier choice.
  static constexpr double kBorne = 0.7;
  // However much was spared before: a bad time costs no more than this, or, where phases are longer, than what one of
  // them spares (all as long as each other: no clock is read in between).
  static constexpr int64_t kMost = 15'000'000;

  int64_t balance() const { return balance_.load(std::memory_order_relaxed); }
  // Leaders that write at the same moment may lose one of their entries.
  std::atomic<int64_t> balance_{0};
};

}  // namespace fusedrnn::cpu
