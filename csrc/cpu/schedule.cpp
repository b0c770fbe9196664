#include "schedule.h"

#include <algorithm>
#include <cstring>

#include "meeting.h"

namespace fusedrnn::cpu {

namespace {

Split forced = {0, 0};

// A rough time of one step in nanoseconds, to compare ways of splitting the work. unit_blocks: as choose_split.
// meeting: what it costs the parts to meet once.
double step_time(const Dims& n, int gates, int64_t unit_blocks, int element_bytes, Split s, double meeting) {
  const double flops_per_ns = element_bytes == 8 ? 50 : 100;
  const double private_cache = 768 << 10, cache_bytes_per_ns = 30;
  const double shared_cache = 4 << 20, memory_bytes_per_ns = 10;  // a core's part of the shared cache
  // The slowest of the parts keeps the others waiting: measured, this much of their work.
  const double uneven = 0.015;
  const double unit = 2.0 * double(gates) * double(n.H) * double(n.P);  // flops of one row's step
  const double weights = double(gates) * double(n.H) * double(n.P) * element_bytes;
  const double rows = double((n.B + s.groups - 1) / s.groups);
  const double share = double((unit_blocks + s.parts - 1) / s.parts) / double(unit_blocks);
  // One row alone cannot use the multiply-adds of a tile.
  const double compute = std::max(rows, 1.6) * share * unit / flops_per_ns;
  const double stream = std::max(0.0, std::min(weights * share, shared_cache) - private_cache) / cache_bytes_per_ns +
                        std::max(0.0, weights * share - shared_cache) / memory_bytes_per_ns;
  const double input = rows * share * unit * double(n.I) / double(n.P) / flops_per_ns;
  return std::max(compute, stream) + 0.2 * std::min(compute, stream) + input +
         (s.parts > 1 ? meeting + uneven * compute : 0);
}

// Whether each group has rows enough that adding up its weight gradients is little beside making them.
bool worth_apart(const Dims& n, int gates, int element_bytes, Split s) {
  constexpr int64_t kMostBytes = int64_t(64) << 20, kFewestRows = 256;
  if (s.parts > 1) return false;
  return s.groups == 1 || (n.T * n.B / s.groups >= kFewestRows &&
                           gates * n.H * (n.I + n.P) * element_bytes * (s.groups - 1) <= kMostBytes);
}

}  // namespace

void force_split(Split split) { forced = split; }

Split choose_split(const Dims& n, int gates, int64_t unit_blocks, int element_bytes, int threads) {
  if (forced.groups > 0)
    return {int(std::max<int64_t>(1, std::min<int64_t>(forced.groups, n.B))),
            int(std::min<int64_t>(forced.parts, unit_blocks)), forced.apart};
  // Nothing that is measured may enter here: tiles, and so the last bits, depend on the split. See useful_threads.
  const double meeting = 300, start = 1000;
  Split best = {1, 1, true};
  if (threads <= 1 || n.B == 0) return best;
  double least = step_time(n, gates, unit_blocks, element_bytes, best, 0);
  if (double(n.T) * least < 8 * start) return best;
  for (int parts = 1; parts <= std::min<int64_t>(threads, unit_blocks); parts++) {
    const Split s = {int(std::min<int64_t>(threads / parts, n.B)), parts};
    const double time = step_time(n, gates, unit_blocks, element_bytes, s, meeting);
    if (time < least) {
      least = time;
      best = s;
    }
  }
  best.apart = worth_apart(n, gates, element_bytes, best);
  return best;
}

int useful_threads(const Dims& n, int gates, int64_t unit_blocks, int element_bytes, Split s) {
  if (s.parts == 1 || n.B == 0 || forced.groups > 0) return s.threads();
  // After the meeting the other cores' shares of the state are fetched from them line by line: measured, about three
  // times the meeting itself again, where the cores share a cache and where they do not.
  const double together = step_time(n, gates, unit_blocks, element_bytes, s, 4 * phase_cost());
  return together < step_time(n, gates, unit_blocks, element_bytes, {1, 1}, 0) ? s.threads() : 1;
}

Schedule::Schedule(Arena& arena, const ForwardArgs& a, int groups)
    : n_(a.n), groups_(groups), lengths_(a.lengths), resets_(a.resets), starts_(a.starts), compact_(a.valid > 0) {
  if (lengths_) {
    order_ = arena.take<int32_t>(n_.B + 1);
    count_ = arena.take<int32_t>(n_.T + 1);
    begin_ = arena.take<int64_t>(groups + 1);
  }
  if (compact_) {
    sorted_ = arena.take<int32_t>(n_.B);
    saved_starts_ = arena.take<int64_t>(n_.T + 1);
  }
  if (resets_) any_reset_ = arena.take<bool>(n_.T);
}

void Schedule::fill() {
  if (resets_)
    for (int64_t t = 0; t < n_.T; t++)
      any_reset_[t] = n_.B > 0 && std::memchr(resets_ + t * n_.B, 1, size_t(n_.B)) != nullptr;
  if (!lengths_) return;
  // Counting sort, longest first, equal lengths in the order of the batch. count_[t] becomes the number of rows longer
  // than t, which is also where the rows of length t begin.
  std::fill(count_, count_ + n_.T + 1, 0);
  for (int64_t b = 0; b < n_.B; b++)
    if (lengths_[b] > 0) count_[lengths_[b] - 1]++;
  for (int64_t t = n_.T - 1; t > 0; t--) count_[t - 1] += count_[t];
  begin_[0] = 0;
  for (int g = 0; g < groups_; g++) begin_[g + 1] = begin_[g] + (n_.B - g + groups_ - 1) / groups_;
  // Row number s of the sorted batch goes to group s % groups. Working from the back leaves equal lengths in order.
  count_[n_.T] = 0;
  int64_t ended = n_.B;
  for (int64_t b = n_.B - 1; b >= 0; b--) {
    // Position among the sorted rows: all longer ones, then those of the same length with a smaller index.
    const int64_t s = lengths_[b] == 0 ? --ended : --count_[lengths_[b] - 1];
    order_[begin_[s % groups_] + s / groups_] = int32_t(b);
  }
  // The counts were used up as cursors: count_[t] now is where the rows of length t+1 begin, that is, the number of
  // rows longer than t+1.
  for (int64_t t = n_.T - 1; t > 0; t--) count_[t] = count_[t - 1];
  count_[0] = int32_t(ended);
  if (!compact_) return;
  for (int64_t s = 0; s < n_.B; s++) sorted_[begin_[s % groups_] + s / groups_] = int32_t(s);
  saved_starts_[0] = 0;
  for (int64_t t = 0; t < n_.T; t++) saved_starts_[t + 1] = saved_starts_[t] + count_[t];
}

}  // namespace fusedrnn::cpu
