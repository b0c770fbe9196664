#include "blocks.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <mutex>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fusedrnn::cpu {
namespace {

constexpr size_t kUnit = size_t(2) << 20;  // a huge page
constexpr size_t kMostBlocks = kMostKept / kLeastBlock;

// Up to a whole number of units, and of sixteenths of the size itself: ragged batches need a little more or less each
// time, and are to find what the one before them left.
size_t rounded(size_t bytes) {
  const size_t step = std::max(kUnit, std::bit_floor(bytes) / 16);
  return (bytes + step - 1) / step * step;
}

struct Kept {
  std::mutex lock;
  Block blocks[kMostBlocks] = {};  // the oldest first
  size_t count = 0, bytes = 0;

  Block remove(size_t i) {
    const Block b = blocks[i];
    std::copy(blocks + i + 1, blocks + count, blocks + i);
    count--;
    bytes -= b.size;
    return b;
  }
  // The smallest block of at least `size` of which no more than a fifth is left over. Null: there is none.
  Block find(size_t size) {
    size_t best = count;
    for (size_t i = 0; i < count; i++)
      if (blocks[i].size >= size && blocks[i].size - size <= blocks[i].size / 5 &&
          (best == count || blocks[i].size <= blocks[best].size))
        best = i;
    return best == count ? Block{nullptr, 0} : remove(best);
  }
};

// Never destroyed: a tensor may be freed after everything else.
union Forever {
  Kept kept;
  constexpr Forever() : kept() {}
  ~Forever() {}
};
constinit Forever forever;

// The lock is only tried, and held for no call of the system: whoever does not get it can do without, and in a process
// that was forked while somebody held it nobody ever gets it.
using Try = std::unique_lock<std::mutex>;

// What is kept beyond `most`, the oldest first, is freed.
void shrink(size_t most) {
  Block freed[kMostBlocks];
  size_t count = 0;
  {
    Kept& all = forever.kept;
    Try held(all.lock, std::try_to_lock);
    while (held && all.bytes > most) freed[count++] = all.remove(0);
  }
  for (size_t i = 0; i < count; i++) std::free(freed[i].data);
}

}  // namespace

Block take_block(size_t bytes) {
  if (bytes > SIZE_MAX / 2) return {nullptr, 0};
  const size_t size = rounded(bytes);
  {
    Try held(forever.kept.lock, std::try_to_lock);
    const Block found = held ? forever.kept.find(size) : Block{nullptr, 0};
    if (found.data) return found;
  }
  void* data = std::aligned_alloc(kUnit, size);
  if (!data) {
    shrink(0);
    data = std::aligned_alloc(kUnit, size);
  }
  return {data, size};
}

void give_block(Block block) {
  if (block.size > kMostKept || block.size < kLeastBlock) {
    std::free(block.data);
    return;
  }
#if defined(__linux__)
  madvise(block.data, block.size, MADV_FREE);  // where that is refused, the block is just kept
#endif
  shrink(kMostKept - block.size);
  Try held(forever.kept.lock, std::try_to_lock);
  Kept& all = forever.kept;
  if (!held || all.bytes > kMostKept - block.size) {  // or others have given some meanwhile
    if (held) held.unlock();
    std::free(block.data);
    return;
  }
  all.blocks[all.count++] = block;
  all.bytes += block.size;
}

size_t kept_bytes() {
  Try held(forever.kept.lock, std::try_to_lock);
  return held ? forever.kept.bytes : 0;
}

}  // namespace fusedrnn::cpu
