#include "team.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fusedrnn::cpu {
namespace {

constexpr int kSpins = 1000;                  // some 10 us, then yield
constexpr int kStartSpins = 100;              // the leader holds the first phase for the others, some 2 us
constexpr int64_t kLongWait = 200'000;        // ns; a shorter wait is uneven work or a hiccup
constexpr double kLongShare = 0.2;            // and so is a wait below this share of the time since the last one
std::atomic<int> most_alone{16};              // the longest time alone, in lengths of the wait

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
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

// Until when calls stay on their own thread, because another one was waited for.
std::atomic<int64_t> alone_until{0};
// How many times as long as the last wait that was: doubles while waits follow each other, so that a hiccup costs little
// and a neighbour that stays is tried rarely.
std::atomic<int> alone_factor{1};

}  // namespace

struct TeamState {
  const int limit;
  void (*const work)(void*, Member&);
  void* const ctx;
  // The leader's: when the last wait was over, for how long from then on to go alone, when all work was done.
  int64_t last_wait_end = now(), alone_for = 0, ended_at = 0;

  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<bool> finished{false};
  // How many members phase p has, in slot p % 2, written by the leader before it ends phase p-1. It carries its phase,
  // because a member that phase p leaves out may come to read the slot when it speaks of a later phase already.
  alignas(64) std::atomic<int64_t> members[2] = {pack(0, 1), pack(1, 1)};
  static constexpr int64_t pack(int64_t phase, int size) { return phase * (2 * kMaxTeam) + size; }
  struct alignas(64) Slot {
    std::atomic<int64_t> done{0};    // phases ended
    std::atomic<int64_t> first{-1};  // first phase with a share since it was last left out; -1: not yet known
  };
  Slot slots[kMaxTeam];

  TeamState(int limit_, void (*work_)(void*, Member&), void* ctx_) : limit(limit_), work(work_), ctx(ctx_) {}

  static void body(void* self, int64_t) { static_cast<TeamState*>(self)->join(); }

  void join() {
    Member m;
    m.team_ = this;
    m.rank_ = arrived.fetch_add(1, std::memory_order_acq_rel);
    if (m.rank_ >= limit) return;
    if (m.rank_ > 0) {
      if (admitted(m, 0)) work(ctx, m);
      return;
    }
    for (int i = 0; i < kStartSpins && arrived.load(std::memory_order_relaxed) < limit; i++) pause();
    const int size = present();
    members[0].store(pack(0, size), std::memory_order_relaxed);
    admit(1, size, 0);
    work(ctx, m);
    ended_at = now();
    finished.store(true, std::memory_order_release);
  }

  // A member without a share waits to be told the phase, not before p, from which it has one. False: there is none.
  bool admitted(Member& m, int64_t p) {
    const Slot& slot = slots[m.rank_];
    wait_until([&] {
      return slot.first.load(std::memory_order_acquire) >= p || finished.load(std::memory_order_acquire);
    });
    m.first_ = slot.first.load(std::memory_order_acquire);
    if (m.first_ >= p) return true;
    m.first_ = INT64_MAX;
    return false;
  }

  // Leader: who can take part now.
  int present() {
    if (alone_for > 0 && now() < last_wait_end + alone_for) return 1;
    alone_for = 0;
    return std::min(arrived.load(std::memory_order_relaxed), limit);
  }
  // Leader: tells members from .. to-1 that they have a share from phase p on.
  void admit(int from, int to, int64_t p) {
    for (int r = from; r < to; r++) slots[r].first.store(p, std::memory_order_release);
  }

  void leave(Member& m) {
    const int64_t next_phase = m.phase_;
    const bool leader = m.rank_ == 0;
    const int next = leader ? present() : 0;
    if (leader) members[next_phase & 1].store(pack(next_phase, next), std::memory_order_relaxed);
    if (m.size_ > 1) {
      slots[m.rank_].done.store(next_phase, std::memory_order_release);
      bool yielded = false;
      const int64_t begin = now_if(leader, m, next_phase);
      for (int r = 0; r < m.size_; r++)
        yielded |= wait_until([&] { return slots[r].done.load(std::memory_order_acquire) >= next_phase; });
      if (leader && yielded) judge(begin);
    }
    // Only now may newcomers start: they would otherwise run beside shares of the phase that just ended.
    if (leader) admit(m.size_, next, next_phase);
  }
  // The time, if the leader is about to wait.
  int64_t now_if(bool leader, const Member& m, int64_t phase) {
    if (!leader) return 0;
    for (int r = 1; r < m.size_; r++)
      if (slots[r].done.load(std::memory_order_relaxed) < phase) return now();
    return 0;
  }
  // Leader, after a wait that began at `begin`: whether to go alone for a while.
  void judge(int64_t begin) {
    const int64_t end = now(), wait = end - begin;
    if (wait > kLongWait && double(wait) > kLongShare * double(begin - last_wait_end)) {
      const int64_t since = begin - alone_until.load(std::memory_order_relaxed);
      const int before = alone_factor.load(std::memory_order_relaxed);
      const int most = most_alone.load(std::memory_order_relaxed);
      const int factor = since < most * wait ? std::min(2 * before, most) : 1;
      alone_factor.store(factor, std::memory_order_relaxed);
      alone_for = factor * wait;
      alone_until.store(end + alone_for, std::memory_order_relaxed);
    }
    last_wait_end = end;
  }

  bool enter(Member& m) {
    const int64_t p = m.phase_++;
    if (p < m.first_) return false;
    const int64_t said = members[p & 1].load(std::memory_order_relaxed);
    m.size_ = int(said - pack(p, 0));
    // The slot of a phase with this member in it cannot be written again before the member has left that phase.
    if (said / (2 * kMaxTeam) == p && m.rank_ < m.size_) return true;
    admitted(m, p + 1);  // left out
    return false;
  }
};

bool Member::enter() { return !team_ || team_->enter(*this); }
void Member::leave() {
  if (team_) team_->leave(*this);
}

void limit_time_alone(int lengths) { most_alone.store(lengths, std::memory_order_relaxed); }

void run_team(const Threads& threads, int limit, void (*work)(void*, Member&), void* ctx) {
  limit = std::min({limit, threads.count, kMaxTeam});
  if (limit > 1) {
    const int64_t until = alone_until.load(std::memory_order_relaxed);
    if (until != 0 && now() < until) limit = 1;
  }
  if (limit <= 1) {
    Member alone;
    work(ctx, alone);
    return;
  }
  TeamState team(limit, work, ctx);
  threads.run(limit, TeamState::body, &team);
  // The other bodies may have kept the call waiting after the work was done.
  const int64_t begin = team.ended_at;
  if (begin != 0) team.judge(begin);
}

}  // namespace fusedrnn::cpu
