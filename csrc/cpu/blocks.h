// Memory for the large arrays that forward leaves to backward: taken anew for every sequence and given back a moment
// later. The C library returns blocks of more than 32 MiB to the system each time, which hands them out again cleared,
// page by page; on a virtual machine its host may do the same once more. Blocks that come back are kept here for the
// next call.
//
// What is kept is at most kMostKept, the oldest go first, and the system is told that it may have the pages if it needs
// them (MADV_FREE). Any thread may take and give.
#pragma once
#include <cstddef>

namespace fusedrnn::cpu {

struct Block {
  void* data;   // aligned to 64 bytes, contents undefined; null where there is no memory
  size_t size;  // at least what was asked for
};

constexpr size_t kLeastBlock = size_t(4) << 20;  // smaller arrays are left to the C library
constexpr size_t kMostKept = size_t(512) << 20;

__attribute__((visibility("default"))) Block take_block(size_t bytes);
__attribute__((visibility("default"))) void give_block(Block block);

// Bytes that are kept and that nobody uses. For tests.
size_t kept_bytes();

}  // namespace fusedrnn::cpu
