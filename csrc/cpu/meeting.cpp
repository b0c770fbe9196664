#include "meeting.h"

#include <algorithm>
#include <atomic>

#include "now.h"

namespace fusedrnn::cpu {
namespace {

std::atomic<int> measured_ns{0};
std::atomic<unsigned> asked{0};
std::atomic<bool> wanted{false};
constexpr int kRow = 8, kMostPhases = 6 * kRow;
constexpr unsigned kAskEvery = 512, kHopes = 16;  // of so many questions the first few are answered with hope
constexpr int kHopefulNs = 75;                    // what choose_split reckons with

}  // namespace

double phase_cost() {
  const bool hope = asked.fetch_add(1, std::memory_order_relaxed) % kAskEvery < kHopes;
  if (hope) wanted.store(true, std::memory_order_relaxed);
  const int ns = measured_ns.load(std::memory_order_relaxed);
  return hope || ns == 0 ? kHopefulNs : ns;
}

void assume_phase_cost(int ns) { measured_ns.store(ns, std::memory_order_relaxed); }

bool meeting_cost_wanted() {
  return wanted.load(std::memory_order_relaxed) && wanted.exchange(false, std::memory_order_relaxed);
}

void MeetFirst::run(void* self, Member& m) {
  const MeetFirst& w = *static_cast<MeetFirst*>(self);
  int64_t begin = 0, least = INT64_MAX;
  int largest = 1, rows = 0, in_row = 0;  // the leader's: rows of phases with all that have come in
  for (int i = 0; i < kMostPhases; i++) {
    if (m.rank() == 0 && in_row == 0) begin = now();
    if (!m.enter()) continue;
    const int size = m.size();
    m.leave();
    if (m.rank() != 0) continue;
    if (size > largest) {
      largest = size;
      least = INT64_MAX;
      rows = in_row = 0;
      continue;
    }
    in_row = size > 1 && size == largest ? in_row + 1 : 0;
    if (in_row < kRow) continue;
    least = std::min(least, (now() - begin) / kRow);
    rows++;
    in_row = 0;
  }
  // The first row may have waited for the others to come in.
  if (rows > 1) assume_phase_cost(int(std::min<int64_t>(least, 100'000)));
  w.work(w.ctx, m);
}

}  // namespace fusedrnn::cpu
