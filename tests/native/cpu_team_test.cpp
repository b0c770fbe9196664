// The team (csrc/cpu/team.h) under members that fall asleep at random: every share of every phase is done exactly once,
// and no phase begins before the one before it is over. And when a leader goes on alone; cpu_alone_test.cpp has what it
// reckons with.
#include "../../csrc/cpu/alone.h"
#include "../../csrc/cpu/team.h"
#include "../../csrc/cpu/thread_clock.h"

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "cpu_check.h"
#include "cpu_threads.h"

namespace {

using fusedrnn::cpu::Member;

constexpr int kPhases = 1000;
constexpr int kWhole = 12;  // divisible by every team size up to 4

struct Work {
  std::atomic<int> done[kPhases + 2] = {};  // done[p + 1]: twelfths of phase p that are done
  std::atomic<int> early{0};               // shares that began before the phase before was over, or after their own was
  std::atomic<int> alone{0}, together{0};  // shares of phases with one member, with several
  unsigned seed;

  static void run(void* self, Member& m) { static_cast<Work*>(self)->phases(m); }

  void phases(Member& m) {
    for (int p = 0; p < kPhases; p++) {
      // Between phases, where a member may be left out and be counted in again while it sleeps.
      if (m.rank() > 0 && sleepy(p - 1, m.rank())) sleep(900);
      if (!m.enter()) continue;
      (m.size() > 1 ? together : alone)++;
      if (done[p].load() != kWhole) early++;
      if (done[p + 1].load() >= kWhole || done[p + 2].load() != 0) early++;
      sleep(m.rank() > 0 && sleepy(p, m.rank()) ? 400 : 20);  // in a share, where the others wait
      done[p + 1] += kWhole / m.size();
      m.leave();
    }
  }

  static void sleep(int microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }
  bool sleepy(int p, int rank) const {
    unsigned x = seed * 2654435761u + unsigned(p) * 40503u + unsigned(rank) * 9973u;
    x = (x ^ x >> 15) * 2246822519u;
    return (x ^ x >> 13) % 50 == 0;
  }
};

}  // namespace

namespace {

// Phases that are as long as each other; at the end of the last one the other member is waited for.
struct Waiting {
  int phases, length_ms, wait_ms;
  bool at_work = false;      // the other member has a core while it is waited for
  bool disturbed = false;    // it has lost it all the same
  bool together = false;     // whether the leader was not alone from the start, as after another test
  int after = 0, alone = 0;  // phases that follow, and those of them that the leader goes through alone

  static void run(void* self, Member& m) { static_cast<Waiting*>(self)->go(m); }
  static void sleep(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }
  // Has a core for so long; if that took longer, somebody else had it.
  void work(int ms) {
    const auto begin = std::chrono::steady_clock::now();
    const int64_t ran = fusedrnn::cpu::ran_ns(fusedrnn::cpu::own_clock()), end = ran + ms * int64_t(1'000'000);
    while (fusedrnn::cpu::ran_ns(fusedrnn::cpu::own_clock()) < end) continue;
    disturbed = std::chrono::steady_clock::now() - begin > std::chrono::milliseconds(ms + 5);
  }
  void go(Member& m) {
    for (int p = 0; p < phases + 6; p++) {
      if (!m.enter()) continue;
      if (m.rank() == 0 && p == phases - 1) together = m.size() > 1;
      if (m.rank() == 0 && p > phases) after++, alone += m.size() == 1;
      if (p < phases) {
        if (m.rank() == 0) sleep(length_ms);
        if (m.rank() > 0 && p == phases - 1) at_work ? work(length_ms + wait_ms) : sleep(length_ms + wait_ms);
      }
      m.leave();
    }
  }
};

}  // namespace

namespace {

// Two pieces that are dealt out: the leader is through with its own at once and waits for the other member's.
struct Dealt {
  Waiting hold;              // how the other member spends its piece
  bool together = false;     // whether each had one
  int after = 0, alone = 0;  // as in Waiting

  static void run(void* self, Member& m) { static_cast<Dealt*>(self)->go(m); }
  void go(Member& m) {
    m.share_out(2, [this](int rank, int64_t) {
      if (rank == 0) return Waiting::sleep(2);
      together = true;
      hold.work(hold.wait_ms);
    });
    for (int p = 0; p < 6; p++) {
      if (!m.enter()) continue;
      if (m.rank() == 0 && p > 0) after++, alone += m.size() == 1;
      m.leave();
    }
  }
};

}  // namespace

void leader_waits_for_pieces() {
  Dealt d;
  for (int trial = 0; trial < 60; trial++) {
    d = {{0, 0, 60, true}};
    fusedrnn::cpu::run_team({2, pools::at_once}, 2, Dealt::run, &d);
    if (d.together && !d.hold.disturbed) break;
    Waiting::sleep(50);
  }
  check::that(d.hold.disturbed || (d.together && d.alone == 0),
              "a piece at work is waited for: alone in " + std::to_string(d.alone) + " of " + std::to_string(d.after));
}

void leader_goes_alone() {
  fusedrnn::cpu::limit_time_alone(4);
  for (auto [phases, length, wait, at_work, alone] :
       {std::array{2, 200, 60, 0, 0}, {3, 100, 30, 0, 0}, {200, 1, 60, 1, 0}, {200, 1, 60, 0, 1}}) {
    Waiting w;
    for (int trial = 0; trial < 60; trial++) {  // beside a busy neighbour it takes more than a second
      w = {phases, length, wait, at_work != 0};
      fusedrnn::cpu::run_team({2, pools::at_once}, 2, Waiting::run, &w);
      if (w.together && !w.disturbed) break;
      Waiting::sleep(50);
    }
    check::that(w.disturbed || (w.together && (alone ? w.alone == w.after : w.alone == 0)),
                "after a wait of " + std::to_string(wait) + " ms at the end of " + std::to_string(phases) +
                    " phases of " + std::to_string(length) + " ms" + (at_work ? ", at work" : "") + ": alone in " +
                    std::to_string(w.alone) + " of " + std::to_string(w.after));
  }
  fusedrnn::cpu::limit_time_alone(fusedrnn::cpu::Alone::kMost);
}

void team_under_sleepers() {
  int together = 0;
  fusedrnn::cpu::limit_time_alone(1);  // left out and counted in again as often as can be
  for (unsigned seed = 0; seed < 6; seed++)
    for (int size : {2, 3, 4}) {
      auto work = std::make_unique<Work>();
      work->seed = seed;
      work->done[0] = kWhole;
      fusedrnn::cpu::run_team({size, pools::at_once}, size, Work::run, work.get());
      int incomplete = 0;
      for (int p = 0; p < kPhases; p++) incomplete += work->done[p + 1].load() != kWhole;
      together += work->together.load();
      Work::sleep(3'000);  // until the next call may have several threads again
      const std::string which = "team of " + std::to_string(size) + ", seed " + std::to_string(seed) + ": ";
      check::that(incomplete == 0, which + std::to_string(incomplete) + " phases not done exactly once");
      check::that(work->early == 0, which + std::to_string(work->early) + " shares out of turn");
    }
  fusedrnn::cpu::limit_time_alone(fusedrnn::cpu::Alone::kMost);
  check::that(together > 0, "no phase had more than one member: the test has tested nothing");
}
