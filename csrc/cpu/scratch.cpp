#include "scratch.h"

#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fusedrnn::cpu {
namespace {

constexpr size_t kKeepBytes = size_t(128) << 20;
constexpr size_t kHugePage = size_t(2) << 20;
constexpr size_t kLarge = 2 * kHugePage;

void advise(char* p, size_t bytes) {
#if defined(__linux__)
  madvise(p, bytes, MADV_HUGEPAGE);  // advice only: a refusal changes nothing
#else
  (void)p, (void)bytes;
#endif
}

char* allocate(size_t bytes) {
  const bool huge = bytes >= kHugePage;
  const size_t unit = huge ? kHugePage : 64;
  const size_t size = (bytes + unit - 1) / unit * unit;
  void* p = std::aligned_alloc(unit, size);
  if (!p) throw std::bad_alloc();
  if (huge) advise(static_cast<char*>(p), size);
  return static_cast<char*>(p);
}

struct Kept {
  char* block = nullptr;
  size_t size = 0;
  bool lent = false;
  ~Kept() { std::free(block); }
};
thread_local Kept kept;

// This thread's kept block where it is large enough (or may grow) and free, else one of its own.
struct Block {
  char* data;
  const bool borrowed;
  explicit Block(size_t bytes) : borrowed(!kept.lent && bytes <= kKeepBytes) {
    if (borrowed && kept.size < bytes) {
      std::free(kept.block);
      kept.block = nullptr;
      kept.size = 0;
      kept.block = allocate(bytes);
      kept.size = bytes;
    }
    data = borrowed ? kept.block : allocate(bytes);
    if (borrowed) kept.lent = true;
  }
  ~Block() {
    if (borrowed)
      kept.lent = false;
    else
      std::free(data);
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
};

}  // namespace

void expect_writes(void* p, size_t bytes) {
  if (!p || bytes < kLarge) return;
  const uintptr_t at = reinterpret_cast<uintptr_t>(p), begin = (at + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (at + bytes) / kHugePage * kHugePage;
  advise(reinterpret_cast<char*>(begin), end - begin);
}

void with_scratch(size_t bytes, void (*use)(void* ctx, char* block), void* ctx) {
  const Block block(bytes < 64 ? 64 : bytes);
  use(ctx, block.data);
}

}  // namespace fusedrnn::cpu
