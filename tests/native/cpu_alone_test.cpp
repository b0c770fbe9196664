// What decides whether a leader goes on alone: the ledger of waits (csrc/cpu/spared.h), for how long (alone.h), and
// what the system says of its cores (idle.h).
#include "../../csrc/cpu/alone.h"
#include "../../csrc/cpu/idle.h"
#include "../../csrc/cpu/spared.h"

#include <string>

#include "cpu_check.h"

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
