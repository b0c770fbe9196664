// Flags in device memory, by which blocks of one launch wait for each other. All blocks must be resident (a cooperative
// launch). Inline PTX under nvcc; under the emulator plain memory, which is sequentially consistent there.
#pragma once
#include "device.h"

namespace fusedrnn::cuda {

#if defined(FUSEDRNN_EMULATED)
SIMT_NO_TSAN inline void raise_flag(uint32_t* flag, uint32_t value) {
  simt::hb_release(flag);
  *static_cast<volatile uint32_t*>(flag) = value;
  simt::progress();
}
SIMT_NO_TSAN inline void await_flag(const uint32_t* flag, uint32_t value) {
  while (*static_cast<const volatile uint32_t*>(flag) < value) simt::yield();
  simt::progress();
  simt::hb_acquire(const_cast<uint32_t*>(flag));
}
#else
// By one thread, after a barrier of its block: what the block's threads wrote before is seen by whoever sees the flag.
__device__ __forceinline__ void raise_flag(uint32_t* flag, uint32_t value) {
  asm volatile("fence.acq_rel.gpu;\nst.relaxed.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}
// Polls without the cost of an acquire, which would empty the L1 cache each time, and acquires once.
__device__ __forceinline__ void await_flag(const uint32_t* flag, uint32_t value) {
  uint32_t seen;
#if defined(FUSEDRNN_POLL_LIMIT)
  unsigned polls = 0;
#endif
  do {
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");
#if defined(FUSEDRNN_POLL_LIMIT)
    if (++polls > FUSEDRNN_POLL_LIMIT) __trap();  // a broken protocol ends instead of hanging
#endif
  } while (seen < value);
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
}
#endif

}  // namespace fusedrnn::cuda
