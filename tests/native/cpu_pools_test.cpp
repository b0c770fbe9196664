// Teams (csrc/cpu/team.h) on every kind of pool, those among them that run the bodies one after another: each share of
// each phase is done once, and no phase begins before the one before it has ended.
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "../../csrc/cpu/team.h"
#include "cpu_check.h"
#include "cpu_tests.h"
#include "cpu_threads.h"

using fusedrnn::cpu::Member;
using fusedrnn::cpu::Threads;

namespace {

constexpr int kItems = 12;  // divided among the members in each phase

struct Work {
  int phases;
  std::vector<std::atomic<int>> done;  // [phases] items finished
  std::atomic<int> early{0}, largest{0};
  explicit Work(int phases_) : phases(phases_), done(phases_) {}

  static void run(void* self, Member& m) {
    Work& w = *static_cast<Work*>(self);
    for (int p = 0; p < w.phases; p++) {
      if (!m.enter()) continue;
      if (p > 0 && w.done[p - 1] != kItems) w.early++;
      if (m.size() > w.largest) w.largest = m.size();
      w.done[p] += kItems * (m.rank() + 1) / m.size() - kItems * m.rank() / m.size();
      m.leave();
    }
  }
};

void check_team(const Threads& pool, int limit, int phases, const std::string& name) {
  Work w(phases);
  run_team(pool, limit, Work::run, &w);
  int wrong = 0;
  for (const auto& d : w.done) wrong += d != kItems;
  check::that(wrong == 0, name + ": " + std::to_string(wrong) + " phases not done exactly once");
  check::that(w.early == 0, name + ": a phase began before the one before it had ended");
  check::that(w.largest <= limit && w.largest <= pool.count, name + ": more members than allowed");
}

void several_callers() {
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; i++)
    callers.emplace_back([&wrong] {
      Work w(300);
      run_team({2, pools::at_once}, 2, Work::run, &w);
      wrong += w.early != 0 || w.done[299] != kItems;
    });
  for (std::thread& t : callers) t.join();
  check::that(wrong == 0, "several callers at once");
}

}  // namespace

void test_pools() {
  for (int i = 0; i < pools::count; i++)
    for (int limit : {1, 2, 3, 7})
      check_team(pools::all[i], limit, 400, "team, pool " + std::to_string(i) + ", limit " + std::to_string(limit));
  several_callers();
}
