#include "team.h"

#include <sched.h>

#include <algorithm>
#include <atomic>

#include "alone.h"
#include "idle.h"
#include "meeting.h"
#include "now.h"
#include "spared.h"
#include "thread_clock.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fusedrnn::cpu {
namespace {

constexpr int kSpins = 1000;      // some 10 us, then yield
constexpr int kStartSpins = 100;  // the leader holds the first phase for the others, some 2 us

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until ready() holds. Whether it came to yielding; yields() is called just before.
template <class F, class G>
bool wait_until(F&& ready, G&& yields) {
  for (int i = 0; i < kSpins; i++) {
    if (ready()) return false;
    pause();
  }
  yields();
  while (!ready()) sched_yield();
  return true;
}
template <class F>
void wait_until(F&& ready) {
  wait_until(ready, [] {});
}

Spared spared;
Alone alone{idle_ns, used_ns};

}  // namespace

struct TeamState {
  const int limit;
  void (*const work)(void*, Member&);
  void* const ctx;
  // The leader's: until when to go alone, how many others have had shares of the phases since when, when all was done,
  // how many phases those were.
  int64_t alone_end = 0, since = 0, ended_at = 0, phases = 0;
  int others = 0;

  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<bool> finished{false};
  // A word carries a phase and how many members that phase has; only the leader knows the latter.
  struct alignas(64) Slot {
    std::atomic<ThreadClock> clock{kNoClock};  // of this member's thread
    std::atomic<bool> at_piece{false};         // of those that are dealt out
    std::atomic<int64_t> done{0};              // the phase after the last one this member has ended
    std::atomic<int64_t> first{pack(-1, 1)};   // first phase with a share since it was last left out; -1: not yet known
    // The leader's: phase p in word p % 2, written before its share of phase p-1 is called done. Two, because a member
    // may come to read the word of phase p when the leader is through with its share of p already.
    std::atomic<int64_t> said[2] = {pack(0, 1), pack(1, 1)};
  };
  static constexpr int64_t pack(int64_t phase, int size) { return phase * (2 * kMaxTeam) + size; }
  static constexpr int64_t phase_of(int64_t word) { return (word - 1) >> 7; }
  static constexpr int size_of(int64_t word) { return int((word - 1) & 127) + 1; }
  static_assert(kMaxTeam == 64);
  Slot slots[kMaxTeam];

  // Pieces of work that are dealt out.
  struct Pieces {
    int64_t count = 0;
    void (*body)(void*, int, int64_t) = nullptr;
    void* ctx = nullptr;
    alignas(64) std::atomic<int64_t> next{0};
    alignas(64) std::atomic<int64_t> done{0};

    // How many this member has done. at_piece: set while it is at one.
    int64_t take(int rank, std::atomic<bool>& at_piece, int64_t count_, void (*body_)(void*, int, int64_t),
                 void* ctx_) {
      int64_t own = 0;
      while (next.load(std::memory_order_relaxed) < count_) {
        const int64_t i = next.fetch_add(1, std::memory_order_relaxed);
        if (i >= count_) break;
        at_piece.store(true, std::memory_order_relaxed);
        body_(ctx_, rank, i);
        at_piece.store(false, std::memory_order_relaxed);
        done.fetch_add(1, std::memory_order_release);
        own++;
      }
      return own;
    }
  };
  Pieces pieces[kMostShared];
  alignas(64) std::atomic<Pieces*> open{nullptr};  // those that a thread without a share in the phase may take, too

  TeamState(int limit_, void (*work_)(void*, Member&), void* ctx_) : limit(limit_), work(work_), ctx(ctx_) {}

  static void body(void* self, int64_t) { static_cast<TeamState*>(self)->join(); }

  void join() {
    Member m;
    m.team_ = this;
    m.rank_ = arrived.fetch_add(1, std::memory_order_acq_rel);
    if (m.rank_ >= limit) return;
    if (m.rank_ > 0) {
      slots[m.rank_].clock.store(own_clock(), std::memory_order_relaxed);
      if (admitted(m, 0)) work(ctx, m);
      return;
    }
    for (int i = 0; i < kStartSpins && arrived.load(std::memory_order_relaxed) < limit; i++) pause();
    m.size_ = present();
    beside(now(), m.size_ - 1);
    admit(1, m.size_, 0);
    work(ctx, m);
    ended_at = now();
    beside(ended_at, 0);
    finished.store(true, std::memory_order_release);
  }

  // A member without a share waits to be told the phase, not before p, from which it has one. False: there is none.
  bool admitted(Member& m, int64_t p) {
    const Slot& slot = slots[m.rank_];
    wait_until([&] {
      if (Pieces* all = open.load(std::memory_order_acquire))
        all->take(m.rank_, slots[m.rank_].at_piece, all->count, all->body, all->ctx);
      return phase_of(slot.first.load(std::memory_order_acquire)) >= p || finished.load(std::memory_order_acquire);
    });
    const int64_t first = slot.first.load(std::memory_order_acquire);
    m.first_ = phase_of(first) >= p ? phase_of(first) : INT64_MAX;
    m.size_ = size_of(first);
    return m.first_ != INT64_MAX;
  }

  // Leader: who can take part now.
  int present() {
    if (alone_end != 0 && now() < alone_end) return 1;
    alone_end = 0;
    return std::min(arrived.load(std::memory_order_relaxed), limit);
  }
  // Leader: tells members from .. size-1 that they have a share from phase p on, together with the others.
  void admit(int from, int size, int64_t p) {
    for (int r = from; r < size; r++) slots[r].first.store(pack(p, size), std::memory_order_release);
  }

  // Leader: waits until ready() holds, for those of the members first .. end-1 that late(r) names. Counts the wait, and
  // the time of it for which one of them had no core: one that has a core and is late (its pages are new, its share is
  // larger) would be missed, and one without a core is a loss. Both 0 if it did not come to yielding.
  struct Wait {
    int64_t waited = 0, lost = 0;
  };
  template <class F, class G>
  Wait wait_for(F&& ready, int first, int end, G&& late) {
    int64_t begin = 0, ran[kMaxTeam];
    auto clock = [&](int r) { return ran_ns(slots[r].clock.load(std::memory_order_relaxed)); };
    auto yields = [&] {
      begin = now();
      for (int r = first; r < end; r++) ran[r] = late(r) ? clock(r) : INT64_MIN;
    };
    if (!wait_until(ready, yields)) return {};
    Wait w{now() - begin, 0};
    for (int r = first; r < end; r++) {
      if (ran[r] == INT64_MIN) continue;
      const int64_t after = clock(r);
      w.lost = std::max(w.lost, ran[r] < 0 || after < 0 ? w.waited : w.waited - (after - ran[r]));
    }
    return w;
  }

  void leave(Member& m) { m.rank_ == 0 ? leave_leader(m) : leave_member(m); }

  void leave_leader(Member& m) {
    const int64_t next_phase = m.phase_;
    const int size = m.size_;
    m.size_ = present();
    if (size > 1) {
      phases++;
      slots[0].said[next_phase & 1].store(pack(next_phase, m.size_), std::memory_order_relaxed);
      slots[0].done.store(next_phase, std::memory_order_release);
      Wait all;
      for (int r = 1; r < size; r++) {
        const auto ended = [&] { return slots[r].done.load(std::memory_order_acquire) >= next_phase; };
        const Wait w = wait_for(ended, r, r + 1, [](int) { return true; });
        all.waited += w.waited;
        all.lost += w.lost;
      }
      if (all.waited > 0) judge(all);
    }
    if (m.size_ - 1 != others) beside(now(), m.size_ - 1);
    // Only now may newcomers start: they would otherwise run beside shares of the phase that just ended.
    admit(size, m.size_, next_phase);
  }

  void leave_member(Member& m) {
    const int64_t next_phase = m.phase_;
    slots[m.rank_].done.store(next_phase, std::memory_order_release);
    for (int r = 0; r < m.size_; r++)
      wait_until([&] { return slots[r].done.load(std::memory_order_acquire) >= next_phase; });
    // A word of a later phase means that this member was left out: with it, the leader could not have come so far.
    const int64_t word = slots[0].said[next_phase & 1].load(std::memory_order_relaxed);
    m.size_ = phase_of(word) == next_phase ? size_of(word) : 1;
  }

  // Leader: from `time` on n others have shares; what those before have spared is counted.
  void beside(int64_t time, int n) {
    if (others > 0) spared.add(time - since, others, std::max<int64_t>(phases, 1));
    phases = 0;
    since = time;
    others = n;
  }
  // Leader, after a wait: whether to go alone for a while. Time in which it waited was spared by nobody.
  void judge(Wait w) {
    const int64_t end = now();
    beside(end - w.waited, others);
    since = end;
    if (spared.waited(w.lost) && !alone.patient(end)) alone_end = alone.start(end - w.lost, end);
  }

  void share_out(Member& m, int64_t count, void (*body)(void*, int, int64_t), void* ctx) {
    Pieces& p = pieces[m.shared_++];
    if (!enter(m)) return;
    const bool leads = m.rank_ == 0;
    if (leads && alone_end == 0) {
      p.count = count;
      p.body = body;
      p.ctx = ctx;
      open.store(&p, std::memory_order_release);
    }
    const int64_t begin = now();
    if (leads) beside(begin, 0);  // who takes pieces is not known beforehand
    const int64_t taken = p.take(m.rank_, slots[m.rank_].at_piece, count, body, ctx);
    if (leads) open.store(nullptr, std::memory_order_relaxed);
    const int64_t own = now() - begin;  // some 0 where the others took all pieces
    auto done_all = [&] { return p.done.load(std::memory_order_acquire) >= count; };
    if (!leads) wait_until(done_all);
    if (leads) {
      const int there = std::min(arrived.load(std::memory_order_relaxed), limit);
      const Wait w =
          wait_for(done_all, 1, there, [&](int r) { return slots[r].at_piece.load(std::memory_order_relaxed); });
      // The pieces are as long as each other. Where others took them all, nothing is known.
      if (taken > 0) spared.add(own / taken, count - taken);
      if (taken > 0 && w.waited > 0) judge(w);
      beside(now(), m.size_ - 1);
    }
    leave(m);
  }

  bool enter(Member& m) {
    const int64_t p = m.phase_++;
    if (p < m.first_) return false;
    if (m.rank_ < m.size_) return true;
    admitted(m, p + 1);  // left out
    return false;
  }
};

bool Member::enter() { return !team_ || team_->enter(*this); }
void Member::leave() {
  if (team_) team_->leave(*this);
}
void Member::share_out(int64_t count, void (*body)(void*, int, int64_t), void* ctx) {
  if (team_) return team_->share_out(*this, count, body, ctx);
  for (int64_t i = 0; i < count; i++) body(ctx, 0, i);
}

void limit_time_alone(int lengths) { alone.limit(lengths); }

void run_team(const Threads& threads, int limit, void (*work)(void*, Member&), void* ctx) {
  limit = std::min({limit, threads.count, kMaxTeam});
  if (limit <= 1 || (alone.on() && alone.at(now(), limit - 1))) {
    Member only;
    work(ctx, only);
    return;
  }
  MeetFirst measuring = {work, ctx};
  const bool measures = meeting_cost_wanted();
  TeamState team(limit, measures ? MeetFirst::run : work, measures ? static_cast<void*>(&measuring) : ctx);
  threads.run(limit, TeamState::body, &team);
  // The other bodies may have kept the call waiting after the work was done.
  if (team.ended_at == 0) return;
  const int64_t late = now() - team.ended_at;
  team.judge({late, late});
}

}  // namespace fusedrnn::cpu
