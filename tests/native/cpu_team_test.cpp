// The team (csrc/cpu/team.h) under members that fall asleep at random: every share of every phase is done exactly once,
// and no phase begins before the one before it is over. And when a leader goes on alone: the ledger (spared.h), how
// long (alone.h), what the system says (idle.h).
#include "../../csrc/cpu/alone.h"
#include "../../csrc/cpu/idle.h"
#include "../../csrc/cpu/spared.h"
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
  check::that(!alone(100 * ms, 1, 60 * ms), "a long phase excuses a wait that is shorter by a third");
  check::that(alone(100 * ms, 1, 80 * ms), "and no longer one");

  Spared long_good;
  for (int i = 0; i < 1'000; i++) long_good.add(10 * ms, 1);
  check::that(long_good.waited(60 * ms), "a long good time does not excuse a bad one");
  Spared many_short;
  many_short.add(10'000 * ms, 1, 1'000);
  check::that(many_short.waited(60 * ms), "nor does one of short phases that nobody waited in");

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

namespace {
int64_t system_idle = 0;  // what idle_ns would say
int64_t say_idle() { return system_idle; }
int64_t used = 0;  // what used_ns would say
int64_t say_used() { return used; }
}  // namespace

void team_stays_alone() {
  using fusedrnn::cpu::Alone;
  constexpr int64_t ms = 1'000'000;
  int64_t time = 1'000 * ms;
  auto pass = [&](int64_t ns, double idle_cores) {
    time += ns;
    used += ns;
    system_idle += int64_t(double(ns) * idle_cores);
  };
  // Calls of 1 ms from now on until one may have others; how many stay alone.
  auto calls_alone = [&](Alone& a, double idle_cores, int others = 1) {
    int calls = 0;
    for (; calls < 100'000 && a.at(time, others); calls++) pass(ms, idle_cores);
    return calls;
  };
  auto wait = [&](Alone& a, int64_t ns) {
    const int64_t begin = time;
    pass(ns, 0);
    return a.start(begin, time) - time;
  };

  system_idle = -1;  // a system that does not say: by lengths of the wait alone
  Alone blind(say_idle, say_used);
  check::that(!blind.at(time, 1), "nobody has waited");
  for (int factor : {4, 8, 16, 32, 32}) {
    check::that(wait(blind, 2 * ms) == 2 * ms * factor, "twice as long after each wait, up to a limit");
    check::that(calls_alone(blind, 0) == 2 * factor, "as long as was said");
  }
  pass(100 * ms, 0);
  check::that(wait(blind, 2 * ms) == 8 * ms, "short again after a good time");

  system_idle = 0;
  Alone first(say_idle, say_used);
  wait(first, 2 * ms);
  check::that(calls_alone(first, 0) == 8, "too short a time to have looked: the others are tried");

  Alone beside(say_idle, say_used);  // a neighbour that stays
  wait(beside, 10 * ms);
  const int tried = calls_alone(beside, 0.02);
  check::that(tried > 900 && tried < 2'000, "while no core is free, tried after a second: " + std::to_string(tried));
  check::that(wait(beside, 10 * ms) == 80 * ms, "a trial that fails is one of those that follow each other");
  check::that(calls_alone(beside, 0) > 900, "and then the next second is as quiet");
  wait(beside, 10 * ms);
  check::that(calls_alone(beside, 1) <= 60, "a core that is free is seen before the time is over");

  Alone leaves(say_idle, say_used);
  wait(leaves, 10 * ms);
  for (int i = 0; i < 200; i++) {
    check::that(leaves.at(time, 1), "a neighbour that stays");
    pass(ms, 0.3);
  }
  check::that(calls_alone(leaves, 1) <= 60, "a core that becomes free is seen at the second look at the latest");
  check::that(!leaves.at(time, 1), "and then all is as it was");
  pass(1'000 * ms, 1);
  wait(leaves, 10 * ms);
  check::that(calls_alone(leaves, 0) > 900, "another neighbour that stays, long after");

  Alone seldom(say_idle, say_used);  // calls with pauses, in which the caller's own core is idle
  wait(seldom, 10 * ms);
  for (int i = 0; i < 20; i++) {
    check::that(seldom.at(time, 1), "a neighbour that stays, and pauses");
    pass(10 * ms, 0.02);
    time += 40 * ms;
    system_idle += 40 * ms;
  }
  check::that(calls_alone(seldom, 1) <= 60, "a core that becomes free after pauses");

  Alone several(say_idle, say_used);  // three others, two cores free: neither all, nor none
  for (int factor : {4, 8, 16, 32, 32}) {
    wait(several, 10 * ms);
    check::that(calls_alone(several, 2, 3) == 10 * factor, "then the time counts");
  }
  wait(several, 10 * ms);
  check::that(calls_alone(several, 3, 3) <= 60, "a core for each of the others");

  Alone quota(say_idle, say_used);  // cores that are free and do not help
  wait(quota, 10 * ms);
  check::that(calls_alone(quota, 1) < 40, "the first time they are believed");
  for (int factor : {8, 16, 32}) {
    wait(quota, 10 * ms);
    check::that(calls_alone(quota, 1) == 10 * factor, "and then not while trials fail");
  }
  pass(100 * ms, 0);  // a good time
  wait(quota, 10 * ms);
  check::that(calls_alone(quota, 1) < 40, "and then they are again");

  Alone packed(say_idle, say_used);  // free cores that do not help before they have been busy for a while
  auto until_trial = [&] {
    const int64_t begin = time;
    while (!packed.patient(time) && time < begin + 3 * Alone::kMostDistrust) {
      if (packed.at(time, 1))
        pass(ms, 1);
      else if (!packed.patient(time))
        wait(packed, 10 * ms);
    }
    return time - begin;
  };
  int64_t due = 0;
  for (int i = 0; i < 7; i++) {
    wait(packed, 10 * ms);
    const int64_t took = until_trial();
    check::that(took >= due && took <= due + 400 * ms,
                "a trial after " + std::to_string(took / ms) + " ms, due after " + std::to_string(due / ms));
    pass(Alone::kPatience - 1, 0);
    check::that(packed.patient(time), "it lasts");
    pass(1, 0);
    check::that(!packed.patient(time), "and is over");
    due = i == 0 ? Alone::kDistrust : std::min(2 * due, Alone::kMostDistrust);
  }
  pass(100 * ms, 0);  // it helped at last
  wait(packed, 10 * ms);
  check::that(until_trial() <= 60 * ms, "and then free cores are believed again");

  system_idle = 0;
  for (int looks : {0, 1, 2}) {  // a system that stops saying, before or after it has said that no core was free
    Alone silent(say_idle, say_used);
    wait(silent, 40 * ms);
    for (int i = 0; i < 35 * looks; i++, pass(ms, 0)) check::that(silent.at(time, 1), "no core is free");
    system_idle = -1;
    check::that(calls_alone(silent, 0) == 160 - 35 * looks, "then the time counts");
    system_idle = 0;
  }
}

void system_says_how_idle_it_is() {
#if defined(__linux__)
  const char* const stat =
      "cpu  1 20 300 4000 50 6 7 8 0 0\n"
      "cpu0 10 1 3 400 20 0 1 1 0 0\n"
      "cpu1 11 2 4 5000 30 0 1 1 0 0\n"
      "cpu3 12 3 5 60000 40 0 1 1 0 0\n"
      "intr 12 1 2\n";
  auto ticks = [&](std::initializer_list<int> cores, const char* text) {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    for (int c : cores) CPU_SET(c, &usable);
    return fusedrnn::cpu::idle_ticks(text, usable);
  };
  check::that(ticks({0, 1, 3}, stat) == 421 + 5'032 + 60'043, "nice, idle and waiting for a disk, of all cores");
  check::that(ticks({1}, stat) == 5'032, "of the one core that may be used");
  check::that(ticks({1, 2}, stat) == -1, "a core that is not named");
  check::that(ticks({0, 1}, "cpu0 10 1 3 400 20 0\ncpu1 11 2") == -1, "a text that breaks off");
  check::that(ticks({0}, "") == -1, "nothing");
#endif
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
