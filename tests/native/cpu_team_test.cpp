// The team (csrc/cpu/team.h) under members that fall asleep at random: every share of every phase is done exactly once,
// and no phase begins before the one before it is over.
#include "../../csrc/cpu/team.h"

#include <atomic>
#include <chrono>
#include <memory>
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

void team_goes_alone_where_it_pays() {
  using fusedrnn::cpu::alone_pays;
  constexpr int64_t ms = 1'000'000;
  check::that(alone_pays(4 * ms, 4 * ms, 2), "two that wait as long as they work: one does as much");
  check::that(!alone_pays(4 * ms, 12 * ms, 2), "two that wait a third as long as they work do more than one");
  check::that(!alone_pays(4 * ms, 4 * ms, 4), "four that wait as long as they work do twice as much as one");
  check::that(alone_pays(12 * ms, 4 * ms, 4), "four that wait three times as long as they work: one does as much");
  check::that(alone_pays(4 * ms, 0, 2), "others who are waited for and did nothing");
  check::that(!alone_pays(ms / 10, 0, 2), "a hiccup");
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
  fusedrnn::cpu::limit_time_alone(64);
  check::that(together > 0, "no phase had more than one member: the test has tested nothing");
}

void team_hopes_again() {
  // Who asks what meeting costs and then stays alone must not hear the same high figure for ever, nor hope every time.
  fusedrnn::cpu::assume_phase_cost(5'000);
  int hopes = 0;
  for (int i = 0; i < 5'120; i++) hopes += fusedrnn::cpu::phase_cost() < 100;
  fusedrnn::cpu::assume_phase_cost(0);  // as if nothing had been measured
  check::that(hopes == 160, "10 times 16 hopeful answers expected, got " + std::to_string(hopes));
}
