// What it costs the threads of a team to meet (phase_cost in csrc/cpu/meeting.h): measured by calls that have several
// threads, asked by those that choose how many to have.
#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include "../../csrc/cpu/meeting.h"
#include "cpu_check.h"
#include "cpu_threads.h"

using fusedrnn::cpu::Member;

void team_hopes_again() {
  // Who asks what meeting costs and then stays alone must not hear the same high figure for ever, nor hope every time.
  fusedrnn::cpu::assume_phase_cost(5'000);
  int hopes = 0;
  for (int i = 0; i < 5'120; i++) hopes += fusedrnn::cpu::phase_cost() < 100;
  fusedrnn::cpu::assume_phase_cost(0);  // as if nothing had been measured
  check::that(hopes == 160, "10 times 16 hopeful answers expected, got " + std::to_string(hopes));
}

namespace {

// Two threads that begin at the same moment.
void met(int64_t n, pools::Body body, void* ctx) {
  std::atomic<int64_t> there{0};
  auto wait = [&] {
    there++;
    while (there.load() < n) std::this_thread::yield();
  };
  std::thread other([&] {
    wait();
    body(ctx, 1);
  });
  wait();
  body(ctx, 0);
  other.join();
}

// What was measured; asked so often that the next call of a team measures again.
double figure() {
  double most = 0;
  for (int i = 0; i < 512; i++) most = std::max(most, fusedrnn::cpu::phase_cost());
  return most;
}

// Whether some calls on these two threads measure anything.
bool measures(fusedrnn::cpu::Threads threads) {
  constexpr int kUnlike = 90'000;
  fusedrnn::cpu::assume_phase_cost(kUnlike);
  bool anything = false;
  for (int i = 0; i < 300 && !anything; i++) {
    std::atomic<int> phases{0};
    auto work = [](void* led, Member& m) {
      for (int p = 0; p < 3; p++) {
        if (!m.enter()) continue;
        if (m.rank() == 0) ++*static_cast<std::atomic<int>*>(led);
        m.leave();
      }
    };
    anything = figure() != kUnlike;  // not "less": beside busy cores meeting costs more
    fusedrnn::cpu::run_team(threads, threads.count, work, &phases);
    check::that(phases == 3, "3 phases after the empty ones expected, got " + std::to_string(phases.load()));
  }
  fusedrnn::cpu::assume_phase_cost(0);
  return anything;
}

}  // namespace

void team_measures_what_meeting_costs() {
  check::that(measures({2, met}), "two threads at once have measured nothing");
  check::that(!measures({2, pools::in_order}), "one thread after the other has measured a meeting");
}
