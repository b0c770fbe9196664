// The team (csrc/cpu/team.h) under members that fall asleep at random: every share of every phase is done exactly once,
// and no phase begins before the one before it is over. And the ledger by which a leader goes on alone (spared.h).
#include "../../csrc/cpu/spared.h"
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

void team_weighs_waits() {
  using fusedrnn::cpu::Spared;
  constexpr int64_t ms = 1'000'000;
  // Whether a leader that has waited so long, after others worked beside it for so long, goes alone.
  auto alone = [](int64_t worked, int others, int64_t waited) {
    Spared spared;
    spared.add(worked, others);
    return spared.waited(waited);
  };
  check::that(alone(4 * ms, 1, 4 * ms), "two that wait as long as they work: one is as far");
  check::that(!alone(12 * ms, 1, 4 * ms), "two that wait a third as long as they work do more than one");
  check::that(!alone(4 * ms, 3, 4 * ms), "four that wait as long as they work do twice as much as one");
  check::that(alone(4 * ms, 3, 12 * ms), "four that wait three times as long as they work: one is as far");
  check::that(alone(0, 0, 4 * ms), "others that are waited for and did nothing");
  check::that(!alone(0, 0, ms / 10), "a hiccup");
  check::that(alone(10'000 * ms, 1, 60 * ms), "a long good time does not excuse a bad one");

  Spared often;  // waits that are short each for itself
  often.add(ms, 1);
  for (int i = 0; i < 10; i++) check::that(!often.waited(ms / 10), "short waits alone");
  check::that(often.waited(ms / 4), "short waits have used up what was spared");

  Spared rare;  // in all calls together
  for (int i = 0; i < 100; i++) {
    for (int call = 0; call < 4; call++) rare.add(2 * ms, 1);
    check::that(!rare.waited(3 * ms), "a wait longer than any call is borne where it is rare");
  }
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
  fusedrnn::cpu::limit_time_alone(fusedrnn::cpu::kMostAlone);
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
