// Blocks that are kept from call to call (csrc/cpu/blocks.h): who holds one holds it alone, what is kept stays within
// its bound, and the oldest goes first.
#include "../../csrc/cpu/blocks.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "cpu_check.h"
#include "cpu_tests.h"

namespace {

using fusedrnn::cpu::Block;
using fusedrnn::cpu::give_block;
using fusedrnn::cpu::kept_bytes;
using fusedrnn::cpu::kMostKept;
using fusedrnn::cpu::take_block;

constexpr size_t kMiB = size_t(1) << 20;

// Leaves nothing kept: a block as large as the bound drives all others out, and is asked for again and freed by hand.
void empty() {
  give_block(take_block(kMostKept));
  std::free(take_block(kMostKept).data);
}

void a_block_comes_back() {
  empty();
  const Block first = take_block(10 * kMiB + 1), other = take_block(10 * kMiB + 1);
  check::that(first.size >= 10 * kMiB + 1 && reinterpret_cast<uintptr_t>(first.data) % 64 == 0, "size and alignment");
  check::that(first.data != other.data, "two that are held are two");
  std::memset(first.data, 1, first.size);
  give_block(first);
  check::that(kept_bytes() == first.size, "kept");
  const Block again = take_block(9 * kMiB + 1);
  check::that(again.data == first.data && again.size == first.size, "a little less: the same block");
  check::that(kept_bytes() == 0, "no longer kept");
  const Block smaller = take_block(9 * kMiB);
  check::that(smaller.size < first.size, "one that is smaller, and large enough for less");
  give_block(smaller);
  give_block(again);
  const Block fitting = take_block(9 * kMiB);
  check::that(fitting.data == smaller.data, "of two that fit, the smaller one");
  const Block small = take_block(7 * kMiB);
  check::that(small.data != first.data && small.size < 9 * kMiB, "much less: another block");
  const Block large = take_block(13 * kMiB);
  check::that(large.data != first.data && large.size >= 13 * kMiB, "more than any has: a new one");
  for (const Block& b : {other, fitting, small, large}) give_block(b);
  empty();
  const Block ragged = take_block(100 * kMiB + 1);
  give_block(ragged);
  const Block next = take_block(103 * kMiB);
  check::that(next.data == ragged.data, "a little more: there is room for it");
  give_block(next);
}

void what_is_kept_is_bounded() {
  empty();
  std::vector<Block> held;
  for (size_t i = 0; i < 5; i++) held.push_back(take_block(kMostKept / 4));
  for (const Block& b : held) give_block(b);
  check::that(kept_bytes() == kMostKept, "no more than the bound");
  std::set<void*> kept;
  for (size_t i = 0; i < 4; i++) kept.insert(take_block(kMostKept / 4).data);
  check::that(kept_bytes() == 0 && kept == std::set<void*>{held[1].data, held[2].data, held[3].data, held[4].data},
              "the oldest is gone");
  for (void* p : kept) give_block({p, kMostKept / 4});
  const Block huge = take_block(kMostKept + 1);
  give_block(huge);
  check::that(kept_bytes() == kMostKept, "one above the bound is not kept and drives nothing out");
  empty();
}

// Threads that write their number all over what they hold and look whether it stays.
void threads_hold_alone() {
  std::atomic<int> wrong{0};
  auto work = [&](int thread) {
    for (int i = 0; i < 300; i++) {
      const Block b = take_block((4 + size_t(i + thread) % 3) * kMiB);
      auto* word = static_cast<volatile uint64_t*>(b.data);
      const size_t step = 64 * 1024 / 8, words = b.size / 8;
      for (size_t k = 0; k < words; k += step) word[k] = uint64_t(thread * 1000 + i);
      for (size_t k = 0; k < words; k += step) wrong += word[k] != uint64_t(thread * 1000 + i);
      give_block(b);
    }
  };
  std::vector<std::thread> threads;
  for (int t = 1; t <= 4; t++) threads.emplace_back(work, t);
  for (std::thread& t : threads) t.join();
  check::that(wrong == 0, "a block that somebody holds is written by somebody else");
  check::that(kept_bytes() <= kMostKept, "no more than the bound after threads");
  empty();
}

}  // namespace

void test_blocks() {
  a_block_comes_back();
  what_is_kept_is_bounded();
  threads_hold_alone();
}
