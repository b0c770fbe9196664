// Working memory of one call. A thread keeps its block between calls, up to a bound, so that a call in a loop neither
// asks the system for memory nor takes page faults.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fusedrnn::cpu {

// Hands out pieces of a block, each aligned to 64 bytes. Without a block it only counts, so that the same code lays out
// and measures.
class Arena {
 public:
  explicit Arena(char* block) : next_(block) {}
  template <class T>
  T* take(int64_t n) {
    T* p = reinterpret_cast<T*>(next_);
    const size_t bytes = (size_t(n) * sizeof(T) + 63) / 64 * 64;
    used_ += bytes;
    if (next_) next_ += bytes;
    return p;
  }
  size_t used() const { return used_; }

 private:
  char* next_;
  size_t used_ = 0;
};

// Calls use(ctx, block) with a block of at least `bytes`, contents undefined, aligned to 64 bytes. Throws
// std::bad_alloc before the call. (A function and not an object: the files built per instruction set then need no
// unwinding.)
void with_scratch(size_t bytes, void (*use)(void* ctx, char* block), void* ctx);

// Asks the system for huge pages for memory that is about to be written, where there are 4 MiB or more of it. The C
// library gives blocks of more than 32 MiB back to the system each time, and what lies at the end of its heap now and
// then; on a virtual machine, taking 32 MiB again page by page costs up to 16 ms, in huge pages 3. Advice only: nothing
// depends on it.
void expect_writes(void* p, size_t bytes);

}  // namespace fusedrnn::cpu
