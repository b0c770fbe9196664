// One thread writes the next number into its line and waits until the other one has written it into its own.
#include "line_exchange.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

namespace fusedrnn {
namespace {

using Clock = std::chrono::steady_clock;

struct alignas(128) Line {
  std::atomic<long> number{0};
};

constexpr int kStretch = 100;

// Writes 1, 2, 3 .. into `mine`, each when `theirs` holds the one before; nanoseconds of a round trip.
double round_trip(Line& mine, const Line& theirs, double seconds) {
  std::vector<double> taken;
  long number = 0;
  const auto start = Clock::now();
  for (auto now = start; std::chrono::duration<double>(now - start).count() < seconds;) {
    for (int i = 0; i < kStretch; i++) {
      mine.number.store(++number, std::memory_order_release);
      while (theirs.number.load(std::memory_order_acquire) != number) continue;
    }
    const auto after = Clock::now();
    taken.push_back(std::chrono::duration<double, std::nano>(after - now).count() / kStretch);
    now = after;
  }
  const auto quarter = taken.begin() + std::ptrdiff_t(taken.size() / 4);
  std::nth_element(taken.begin(), quarter, taken.end());
  return *quarter;
}

void answer(Line& mine, const Line& theirs, const std::atomic<bool>& over) {
  long number = 0;
  while (!over.load(std::memory_order_relaxed)) {
    const long next = theirs.number.load(std::memory_order_acquire);
    if (next != number) mine.number.store(number = next, std::memory_order_release);
  }
}

struct End {
  std::atomic<bool>& over;
  ~End() { over = true; }
};

}  // namespace

std::vector<double> line_exchange(int threads, double seconds) {
  if (threads < 2) throw std::invalid_argument("line_exchange: expected threads >= 2, got " + std::to_string(threads));
  if (!(seconds > 0 && seconds <= 60))
    throw std::invalid_argument("line_exchange: expected seconds in (0, 60], got " + std::to_string(seconds));
  std::vector<double> out;
  for (int i = 1; i < threads; i++) {
    Line here, there;
    std::atomic<bool> over{false};
    const std::jthread other([&] { answer(there, here, over); });
    const End end{over};
    out.push_back(round_trip(here, there, seconds));
  }
  return out;
}

}  // namespace fusedrnn
