#include "blocks.h"

#include <cstdlib>
#include <mutex>
#include <vector>

#include "scratch.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fusedrnn::cpu {
namespace {

constexpr size_t kUnit = size_t(2) << 20;  // a huge page

struct Kept {
  std::mutex lock;
  std::vector<Block> blocks;  // the oldest first
  size_t bytes = 0;

  Block remove(size_t i) {
    const Block b = blocks[i];
    blocks.erase(blocks.begin() + std::ptrdiff_t(i));
    bytes -= b.size;
    return b;
  }
  // The smallest block of at least `size` of which no more than a fifth is left over. Null: there is none.
  Block find(size_t size) {
    size_t best = blocks.size();
    for (size_t i = 0; i < blocks.size(); i++)
      if (blocks[i].size >= size && blocks[i].size - size <= blocks[i].size / 5 &&
          (best == blocks.size() || blocks[i].size <= blocks[best].size))
        best = i;
    return best == blocks.size() ? Block{nullptr, 0} : remove(best);
  }
  void shrink(size_t most) {
    while (bytes > most) std::free(remove(0).data);
  }
};

// Never destroyed: a tensor may be freed after everything else.
Kept& kept() {
  static Kept* const all = new Kept;
  return *all;
}

// The lock is only tried: whoever does not get it can do without, and in a process that was forked while somebody held
// it nobody ever gets it.
using Try = std::unique_lock<std::mutex>;

}  // namespace

Block take_block(size_t bytes) {
  const size_t size = (bytes + kUnit - 1) / kUnit * kUnit;
  Try held(kept().lock, std::try_to_lock);
  if (held) {
    const Block found = kept().find(size);
    if (found.data) return found;
  }
  void* data = std::aligned_alloc(kUnit, size);
  if (!data && held) {
    kept().shrink(0);
    data = std::aligned_alloc(kUnit, size);
  }
  expect_writes(data, size);
  return {data, size};
}

void give_block(Block block) {
  Try held(kept().lock, std::try_to_lock);
  if (!held || block.size > kMostKept) {
    std::free(block.data);
    return;
  }
  kept().shrink(kMostKept - block.size);
#if defined(__linux__)
  madvise(block.data, block.size, MADV_FREE);  // where that is refused, the block is just kept
#endif
  kept().blocks.push_back(block);
  kept().bytes += block.size;
}

size_t kept_bytes() {
  const std::lock_guard<std::mutex> held(kept().lock);
  return kept().bytes;
}

}  // namespace fusedrnn::cpu
