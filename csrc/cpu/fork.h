// Processes made by fork: only the thread that called it is there, and a pool that does not know waits for the others
// forever. (So does libgomp, and with it every parallel call of torch itself.)
#pragma once
#include <cstdint>

namespace fusedrnn::cpu {

// Whether this process, or one before it, was forked from a process of several threads, so that the caller's pool may
// have lost its own. Always false where there is no fork.
bool pool_lost();

// In place of the pool: body(ctx, 0 .. n-1) on the calling thread.
inline void run_in_order(int64_t n, void (*body)(void*, int64_t), void* ctx) {
  for (int64_t i = 0; i < n; i++) body(ctx, i);
}

}  // namespace fusedrnn::cpu
