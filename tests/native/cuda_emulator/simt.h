// Runs CUDA kernels on one CPU thread, for tests: one fiber per CUDA thread. Blocks of a plain launch run one after
// another (or one cluster after another), all blocks of a cooperative launch are live together.
//
// A schedule is the order in which fibers run between barriers; a delivery is when an asynchronous store (post) lands.
// Memory is sequentially consistent, so a missing fence is invisible here; a missing barrier, flag or wait is not: it
// shows as a wrong result, a fault or a deadlock in some schedule. Shared memory starts poisoned, not zeroed.
#pragma once
#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace simt {

inline size_t count(dim3 d) { return size_t(d.x) * d.y * d.z; }

// greedy: each block runs as far ahead as it can. starve: random warps stand still for long stretches.
enum class Order { forward, reverse, random, greedy, starve };
// lazy and lifo: a store lands only when no thread can move, oldest or youngest first.
enum class Delivery { instant, pass, random, lazy, lifo };
struct Schedule {
  Order order = Order::forward;
  Delivery delivery = Delivery::pass;
  unsigned seed = 1;
};
inline Schedule schedule;
inline constexpr Order kOrders[] = {Order::forward, Order::reverse, Order::random, Order::greedy, Order::starve};
inline constexpr Delivery kDeliveries[] = {Delivery::instant, Delivery::pass, Delivery::random, Delivery::lazy,
                                           Delivery::lifo};

struct Barrier {
  unsigned need = 0, count = 0, generation = 0;
};
struct Warp {
  Barrier barrier;
  alignas(16) unsigned char slot[32][32];  // what each lane hands to the others
};
struct Grid;
struct Block {
  Grid* grid = nullptr;
  dim3 index;
  size_t linear = 0;
  unsigned live = 0;
  Barrier barrier;
  Barrier named[16];
  std::vector<Warp> warps;
  // Exactly as large as asked for, so that the address sanitizer sees the end.
  std::unique_ptr<unsigned char[]> dynamic;
  size_t dynamic_size = 0;
  std::map<const void*, std::unique_ptr<unsigned char[]>> statics;
};
struct Thread : Fiber {
  Block* block = nullptr;
  dim3 index;
  unsigned linear = 0, lane = 0;
  std::vector<std::vector<std::function<void()>>> groups;  // committed cp.async groups, oldest first
  std::vector<std::function<void()>> open;                 // not committed yet
};
struct Grid {
  dim3 grid, block;
  unsigned cluster = 1;
  Barrier barrier;
  std::vector<Barrier> cluster_barriers;
  std::vector<Block> blocks;
  std::vector<std::function<void()>> in_flight;
  uint64_t progress = 0;  // grows whenever something happened that may let a waiting thread go on
};

inline Thread* current;
inline const std::function<void()>* body;
inline std::string fault;

SIMT_NO_TSAN inline void yield() { leave(*current); }
SIMT_NO_TSAN inline void progress() { current->block->grid->progress++; }
// Reports a misuse by the kernel and never returns to it.
[[noreturn]] inline void fail(const std::string& what) {
  if (fault.empty()) fault = what;
  for (;;) yield();
}

SIMT_NO_TSAN inline void wait(Barrier& b) {
  hb_release(&b);
  const unsigned generation = b.generation;
  progress();
  if (++b.count == b.need) {
    b.count = 0;
    b.generation++;
  } else {
    while (b.generation == generation) yield();
  }
  hb_acquire(&b);
}
SIMT_NO_TSAN inline Warp& warp() { return current->block->warps[current->linear / 32]; }
SIMT_NO_TSAN inline Barrier& cluster_barrier() {
  Block& b = *current->block;
  return b.grid->cluster_barriers[b.linear / b.grid->cluster];
}
SIMT_NO_TSAN inline unsigned cluster_rank() { return unsigned(current->block->linear % current->block->grid->cluster); }
// The block of the given rank in the running thread's cluster.
SIMT_NO_TSAN inline Block& peer(unsigned rank) {
  Block& b = *current->block;
  return b.grid->blocks[b.linear - cluster_rank() + rank];
}

// An asynchronous store: `land` runs when the delivery decides.
inline void post(std::function<void()> land) {
  progress();
  if (schedule.delivery == Delivery::instant)
    land();
  else
    current->block->grid->in_flight.push_back(std::move(land));
}

SIMT_NO_TSAN inline unsigned char* shared_array(const void* key, size_t bytes) {
  Hidden hide;
  auto& p = current->block->statics[key];
  if (!p) {
    p.reset(new unsigned char[bytes]);
    std::memset(p.get(), 0xC5, bytes);
  }
  return p.get();
}

template <class T>
SIMT_NO_TSAN T exchange(T v, unsigned from) {
  static_assert(sizeof(T) <= 32);
  Hidden hide;
  Warp& w = warp();
  std::memcpy(w.slot[current->lane], &v, sizeof v);
  wait(w.barrier);
  T r;
  std::memcpy(&r, w.slot[from & 31], sizeof r);
  wait(w.barrier);
  return r;
}

void launch(dim3 grid, dim3 block, size_t shared, bool cooperative, unsigned cluster,
            const std::function<void()>& kernel);

#ifdef SIMT_MAIN
namespace {

SIMT_NO_TSAN void thread_entry() {
  arrived();
  hb_acquire(&current->block->grid->grid);
  (*body)();
  hb_release(&current->block->grid->block);
  current->done = true;
  current->block->live--;
  progress();
  leave(*current);
  std::abort();
}

void deliver(Grid& g, bool stuck, std::mt19937& rng) {
  auto& q = g.in_flight;
  if (q.empty()) return;
  std::vector<std::function<void()>> now, later;
  switch (schedule.delivery) {
    case Delivery::instant:
    case Delivery::pass:
      now.swap(q);
      break;
    case Delivery::random:
      std::shuffle(q.begin(), q.end(), rng);
      for (auto& m : q) ((rng() & 7) == 0 || (stuck && now.empty()) ? now : later).push_back(std::move(m));
      q.swap(later);
      break;
    case Delivery::lazy:
      if (stuck) now.push_back(q.front()), q.erase(q.begin());
      break;
    case Delivery::lifo:
      if (stuck) now.push_back(q.back()), q.pop_back();
      break;
  }
  for (auto& m : now) g.progress++, m();
}

struct Scheduler {
  Grid& g;
  std::vector<Thread*>& threads;
  size_t per_block, left;
  std::mt19937 rng;
  std::vector<int> frozen;  // per warp: rounds to stand still

  void step(size_t i) {
    if (threads[i]->done) return;
    current = threads[i];
    enter(*current);
    if (threads[i]->done) left--;
  }
  // One round of the starving order; true when some warp stood still.
  bool starve() {
    bool any = false;
    frozen.resize((threads.size() + 31) / 32);
    for (size_t w = 0; w < frozen.size(); w++) {
      if (frozen[w] == 0 && rng() % 64 == 0) frozen[w] = 1 + int(rng() % 400);
      if (frozen[w] > 0) {
        frozen[w]--;
        any = true;
        continue;
      }
      for (size_t i = w * 32; i < std::min(threads.size(), w * 32 + 32); i++) step(i);
    }
    return any;
  }
  void greedy() {
    for (size_t b = 0; b < threads.size(); b += per_block)
      for (uint64_t seen = ~uint64_t(0); seen != g.progress;) {
        seen = g.progress;
        for (size_t t = 0; t < per_block; t++) step(b + t);
      }
  }
  void run() {
    std::vector<size_t> order(threads.size());
    std::iota(order.begin(), order.end(), size_t(0));
    if (schedule.order == Order::reverse) std::reverse(order.begin(), order.end());
    while (left) {
      const uint64_t before = g.progress;
      bool stood_still = false;
      if (schedule.order == Order::starve) {
        stood_still = starve();
      } else if (schedule.order == Order::greedy) {
        greedy();
      } else {
        if (schedule.order == Order::random) std::shuffle(order.begin(), order.end(), rng);
        for (size_t i : order) step(i);
      }
      deliver(g, g.progress == before, rng);
      if (!fault.empty()) return;
      if (!left || g.progress != before) continue;
      if (stood_still) {
        std::fill(frozen.begin(), frozen.end(), 0);
        continue;
      }
      fault = "deadlock: a divergent barrier, or a wait that nobody ends";
      return;
    }
  }
};

void set_up_block(Grid& g, size_t i, dim3 grid, unsigned threads, size_t shared) {
  Block& b = g.blocks[i];
  b.grid = &g;
  b.linear = i;
  b.index = dim3(unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y));
  b.barrier.need = b.live = threads;
  b.warps.resize((threads + 31) / 32);
  for (unsigned w = 0; w < b.warps.size(); w++) b.warps[w].barrier.need = std::min(32u, threads - w * 32);
  b.dynamic.reset(new unsigned char[shared]);
  b.dynamic_size = shared;
  std::memset(b.dynamic.get(), 0xC5, shared);
}

}  // namespace

void launch(dim3 grid, dim3 block, size_t shared, bool cooperative, unsigned cluster,
            const std::function<void()>& kernel) {
  const size_t blocks = count(grid), threads = count(block);
  cluster = std::max(cluster, 1u);
  if (blocks % cluster) throw std::runtime_error("simt: the grid is no multiple of the cluster");
  const size_t group = cooperative ? blocks : cluster;
  fault.clear();
  body = &kernel;
  Grid g;
  g.grid = grid;
  g.block = block;
  g.cluster = cluster;
  g.barrier.need = unsigned(blocks * threads);
  g.cluster_barriers.resize(blocks / cluster);
  for (auto& b : g.cluster_barriers) b.need = unsigned(cluster * threads);
  g.blocks.resize(blocks);
  std::vector<Thread> pool(group * threads);
  std::vector<Thread*> live;
  const size_t bytes = pool.size() * kStack;
  char* stacks = static_cast<char*>(
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (stacks == MAP_FAILED) throw std::bad_alloc();
#if defined(__SANITIZE_THREAD__)
  scheduler_tsan = __tsan_get_current_fiber();
  for (auto& t : pool) t.tsan = __tsan_create_fiber(0);
#endif
  for (size_t k = 0; k < blocks / group && fault.empty(); k++) {
    const size_t first = (schedule.order == Order::reverse ? blocks / group - 1 - k : k) * group;
    live.clear();
    for (size_t i = 0; i < group; i++) {
      set_up_block(g, first + i, grid, unsigned(threads), shared);
      for (size_t t = 0; t < threads; t++) {
        Thread& f = pool[i * threads + t];
        prepare(f, stacks + (i * threads + t) * kStack, thread_entry);
        f.block = &g.blocks[first + i];
        f.linear = unsigned(t);
        f.lane = unsigned(t & 31);
        f.index = dim3(unsigned(t % block.x), unsigned(t / block.x % block.y), unsigned(t / block.x / block.y));
        f.groups.clear();
        f.open.clear();
        live.push_back(&f);
      }
    }
    hb_release(&g.grid);
    {
      Hidden hide;
      Scheduler s{g, live, threads, live.size(), std::mt19937(schedule.seed), {}};
      s.run();
      while (!g.in_flight.empty()) deliver(g, true, s.rng);
    }
    hb_acquire(&g.block);
    for (size_t i = 0; i < group; i++) {
      g.blocks[first + i].dynamic.reset();
      g.blocks[first + i].dynamic_size = 0;
      g.blocks[first + i].statics.clear();
    }
  }
#if defined(__SANITIZE_THREAD__)
  for (auto& t : pool) __tsan_destroy_fiber(t.tsan);
#endif
  munmap(stacks, bytes);
  current = nullptr;
  if (!fault.empty()) throw std::runtime_error("simt: " + fault);
}
#endif  // SIMT_MAIN

}  // namespace simt
