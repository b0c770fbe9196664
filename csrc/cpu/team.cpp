#include "team.h"

#include <sched.h>

#include <algorithm>
#include <atomic>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fusedrnn::cpu {
namespace {

constexpr int kSpins = 1000;     // some 10 us, then yield
constexpr int kStartSpins = 100;  // how long the leader holds the first phase for the others, some 2 us

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until ready() holds. True if it had to yield.
template <class F>
bool wait_until(F&& ready) {
  for (int i = 0; i < kSpins; i++) {
    if (ready()) return false;
    pause();
  }
  while (!ready()) sched_yield();
  return true;
}

// Tight calls still to be run alone, and how many the next disturbance will cost.
std::atomic<int> calls_alone{0};
std::atomic<int> next_penalty{4};
constexpr int kMaxPenalty = 256;

}  // namespace

struct TeamState {
  int limit;
  bool tight;
  void (*work)(void*, Member&);
  void* ctx;
  bool disturbed = false;  // leader only

  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<bool> finished{false};
  // Members of phase p, written by the leader before it ends phase p-1 and read by all after it: slot p % 2.
  alignas(64) std::atomic<int> members[2] = {1, 1};
  struct alignas(64) Slot {
    std::atomic<int64_t> done{0};    // phases ended
    std::atomic<int64_t> first{-1};  // first phase with a share, -1: not yet known
  };
  Slot slots[kMaxTeam];

  static void body(void* self, int64_t) { static_cast<TeamState*>(self)->join(); }

  void join() {
    Member m;
    m.team_ = this;
    m.rank_ = arrived.fetch_add(1, std::memory_order_acq_rel);
    if (m.rank_ >= limit) return;
    if (m.rank_ == 0) {
      for (int i = 0; i < kStartSpins && arrived.load(std::memory_order_relaxed) < limit; i++) pause();
      admit(1, 0);
      work(ctx, m);
      finished.store(true, std::memory_order_release);
      return;
    }
    Slot& slot = slots[m.rank_];
    wait_until([&] {
      return slot.first.load(std::memory_order_acquire) >= 0 || finished.load(std::memory_order_acquire);
    });
    m.first_ = slot.first.load(std::memory_order_acquire);
    if (m.first_ >= 0) work(ctx, m);
  }

  // Leader: counts in all who have arrived, from phase p on.
  void admit(int size, int64_t p) {
    const int now = present();
    members[p & 1].store(now, std::memory_order_relaxed);
    release(size, now, p);
  }
  int present() const {
    return disturbed && tight ? 1 : std::min(arrived.load(std::memory_order_relaxed), limit);
  }
  void release(int from, int to, int64_t p) {
    for (int r = from; r < to; r++)
      if (slots[r].first.load(std::memory_order_relaxed) < 0) slots[r].first.store(p, std::memory_order_release);
  }

  void leave(Member& m) {
    const int64_t ended = m.phase_;
    const bool leader = m.rank_ == 0;
    const int next = leader ? present() : 0;
    if (leader) members[ended & 1].store(next, std::memory_order_relaxed);
    if (m.size_ > 1) {
      slots[m.rank_].done.store(ended, std::memory_order_release);
      bool yielded = false;
      for (int r = 0; r < m.size_; r++)
        yielded |= wait_until([&] { return slots[r].done.load(std::memory_order_acquire) >= ended; });
      if (leader && yielded) disturbed = true;
    }
    if (leader) release(m.size_, next, ended);
  }

  bool enter(Member& m) {
    const int64_t p = m.phase_++;
    if (p < m.first_ || m.dismissed_) return false;
    m.size_ = members[p & 1].load(std::memory_order_relaxed);
    m.dismissed_ = m.rank_ >= m.size_;
    return !m.dismissed_;
  }
};

bool Member::enter() { return !team_ || team_->enter(*this); }
void Member::leave() {
  if (team_) team_->leave(*this);
}

void run_team(const Threads& threads, int limit, bool tight, void (*work)(void*, Member&), void* ctx) {
  limit = std::min({limit, threads.count, kMaxTeam});
  if (limit > 1 && tight && calls_alone.load(std::memory_order_relaxed) > 0) {
    calls_alone.fetch_sub(1, std::memory_order_relaxed);
    limit = 1;
  }
  if (limit <= 1) {
    Member alone;
    work(ctx, alone);
    return;
  }
  TeamState team;
  team.limit = limit;
  team.tight = tight;
  team.work = work;
  team.ctx = ctx;
  threads.run(limit, TeamState::body, &team);
  if (!tight) return;
  if (team.disturbed) {
    const int penalty = next_penalty.load(std::memory_order_relaxed);
    calls_alone.store(penalty, std::memory_order_relaxed);
    next_penalty.store(std::min(2 * penalty, kMaxPenalty), std::memory_order_relaxed);
  } else {
    next_penalty.store(4, std::memory_order_relaxed);
  }
}

}  // namespace fusedrnn::cpu
