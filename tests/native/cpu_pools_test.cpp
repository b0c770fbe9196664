// Teams (csrc/cpu/team.h) on every kind of pool, those among them that run the bodies one after another: each share of
// each phase is done once, and no phase begins before the one before it has ended.
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "../../csrc/cpu/alone.h"
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

// Pieces that are dealt out between phases.
struct Dealt {
  static constexpr int kRounds = fusedrnn::cpu::kMostShared, kPieces = 5;
  std::atomic<int> times[kRounds][kPieces] = {};
  std::atomic<int> ended[kRounds] = {}, early{0}, twice{0}, most{0};
  std::atomic<bool> busy[fusedrnn::cpu::kMaxTeam] = {};  // a member runs one piece at a time

  static void run(void* self, Member& m) {
    Dealt& d = *static_cast<Dealt*>(self);
    for (int round = 0; round < kRounds; round++) {
      m.share_out(kPieces, [&d, round](int rank, int64_t i) {
        if (round > 0 && d.ended[round - 1] != kItems) d.early++;
        if (d.busy[rank].exchange(true)) d.twice++;
        if (rank > d.most) d.most = rank;
        std::this_thread::sleep_for(std::chrono::microseconds(30 * (i % 3)));
        d.times[round][i]++;
        d.busy[rank] = false;
      });
      if (!m.enter()) continue;
      for (const auto& t : d.times[round]) d.early += t != 1;
      d.ended[round] += kItems * (m.rank() + 1) / m.size() - kItems * m.rank() / m.size();
      m.leave();
    }
  }
};

void check_dealt(const Threads& pool, int limit, const std::string& name) {
  for (int repeat = 0; repeat < 40; repeat++) {
    Dealt d;
    run_team(pool, limit, Dealt::run, &d);
    int wrong = 0;
    for (const auto& round : d.times)
      for (const auto& t : round) wrong += t != 1;
    for (const auto& e : d.ended) wrong += e != kItems;
    check::that(wrong == 0, name + ": " + std::to_string(wrong) + " pieces or phases not done exactly once");
    check::that(d.early == 0, name + ": pieces beside a phase, or a phase beside pieces");
    check::that(d.twice == 0 && d.most < limit, name + ": one rank for two threads, or one above the limit");
  }
}

// A thread that comes while the leader is at its first piece takes the next one: the leader holds its piece until then.
void late_help() {
  std::atomic<int> by_others{0};
  auto work = [](void* self, Member& m) {
    auto& others = *static_cast<std::atomic<int>*>(self);
    m.share_out(2, [&others](int rank, int64_t) {
      if (rank > 0) others++;
      for (int i = 0; rank == 0 && i < 2000 && others == 0; i++)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
  };
  const Threads pool = {2, [](int64_t n, void (*body)(void*, int64_t), void* ctx) {
                          std::vector<std::thread> all;
                          for (int64_t i = 1; i < n; i++)
                            all.emplace_back([=] {
                              std::this_thread::sleep_for(std::chrono::milliseconds(20));
                              body(ctx, i);
                            });
                          body(ctx, 0);
                          for (std::thread& t : all) t.join();
                        }};
  run_team(pool, 2, work, &by_others);
  check::that(by_others == 1, "a thread that came late took " + std::to_string(by_others) + " pieces, 1 expected");
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
  fusedrnn::cpu::limit_time_alone(1);
  for (int i = 0; i < pools::count; i++)
    for (int limit : {1, 2, 3, 7}) {
      const std::string name = "pool " + std::to_string(i) + ", limit " + std::to_string(limit);
      check_team(pools::all[i], limit, 400, "team, " + name);
      check_dealt(pools::all[i], limit, "pieces, " + name);
    }
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // until a leader that waited has others again
  late_help();
  several_callers();
  fusedrnn::cpu::limit_time_alone(fusedrnn::cpu::Alone::kMost);
}
