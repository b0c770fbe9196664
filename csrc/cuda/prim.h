// The instructions of the persistent families that CUDA C++ has no names for, one small function each. Under nvcc they
// are inline PTX (PTX ISA 8.6); the emulator has the same functions with the same meaning (cluster_prim.h there).
//
// An address is a 32-bit address of the shared::cluster window: a thread's own shared memory, or a peer's after
// peer_address().
#pragma once
#include "device.h"

namespace fusedrnn::cuda {

// Whether the code being compiled may use clusters; kernels that need them are empty elsewhere and are never launched.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define FUSEDRNN_HAS_CLUSTERS 0
#else
#define FUSEDRNN_HAS_CLUSTERS 1
#endif

// 16 bytes that travel together.
struct alignas(16) Quad {
  uint32_t v[4];
};

template <class T>
__device__ __forceinline__ uint16_t bits_of(T v) {
  static_assert(sizeof(T) == 2);
  uint16_t r;
  __builtin_memcpy(&r, &v, 2);
  return r;
}
template <class T>
__device__ __forceinline__ T from_bits_of(uint16_t r) {
  static_assert(sizeof(T) == 2);
  T v;
  __builtin_memcpy(static_cast<void*>(&v), &r, 2);
  return v;
}

}  // namespace fusedrnn::cuda

#if defined(FUSEDRNN_EMULATED)
#include "cluster_prim.h"
#else
namespace fusedrnn::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t r;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
}
// The same place in the shared memory of the cluster's block `rank`.
__device__ __forceinline__ uint32_t peer_address(uint32_t own, uint32_t rank) {
  uint32_t r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(own), "r"(rank));
  return r;
}
// All threads of the cluster meet; what they wrote before is seen by all after. Here and in the next, a warp's threads
// come together first, as .aligned demands: what precedes may be loops of different length.
__device__ __forceinline__ void cluster_barrier() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
// All threads of the cluster meet, and nothing is promised of memory: enough before an exit, and free of the full
// fence.
__device__ __forceinline__ void cluster_barrier_relaxed() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
// `threads` threads (whole warps) that name barrier `id` (1..15) meet.
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// An mbarrier of one arrival: each phase completes when it was armed once and the announced bytes have arrived.
__device__ __forceinline__ void phase_init(uint32_t barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void phase_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void phase_arm(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Waits for the phase of the given parity. The acquire is the instruction's own, of block scope: nothing but bytes that
// are counted on the barrier itself is read after it, and they lie in this block's shared memory when it says so. PTX
// promises this of cluster scope alone (ordinary stores of other blocks, published by an arrival, have been read stale
// after such a wait: github.com/NVIDIA/cutlass/issues/3324); on the H200 every result was right without. Spelled
// with cluster scope it drops the L1 cache at every step, and as a relaxed wait with a fence it also waits for every
// load in flight (97 ns of a step of 820 on an H200).
__device__ __forceinline__ void phase_wait(uint32_t barrier, uint32_t parity) {
#if defined(FUSEDRNN_POLL_LIMIT)
  unsigned polls = 0;
#endif
  uint32_t done;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
#if defined(FUSEDRNN_POLL_LIMIT)
    if (++polls > FUSEDRNN_POLL_LIMIT) __trap();  // a broken protocol ends instead of hanging
#endif
  } while (!done);
}
// Stores 4 bytes in the block that `to` and `barrier` belong to, and counts them on that barrier.
__device__ __forceinline__ void store_async(uint32_t to, uint32_t v, uint32_t barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to), "r"(v),
               "r"(barrier)
               : "memory");
}

__device__ __forceinline__ Quad load_shared16(uint32_t a) {
  Quad q;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(q.v[0]), "=r"(q.v[1]), "=r"(q.v[2]), "=r"(q.v[3])
               : "r"(a)
               : "memory");
  return q;
}
__device__ __forceinline__ void store_shared16(uint32_t a, const Quad& q) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(a), "r"(q.v[0]), "r"(q.v[1]), "r"(q.v[2]), "r"(q.v[3])
               : "memory");
}
__device__ __forceinline__ uint32_t load_shared4(uint32_t a) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(a) : "memory");
  return v;
}
__device__ __forceinline__ void store_shared4(uint32_t a, uint32_t v) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(a), "r"(v) : "memory");
}
__device__ __forceinline__ void store_shared2(uint32_t a, uint16_t v) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(a), "h"(v) : "memory");
}

// Loads and stores of device memory under a condition, without a branch; a load that is not made gives 0. A loaded
// value should be pinned where it is used first: left alone, the compiler converts it, and so waits for it, right here.
__device__ __forceinline__ uint32_t load1_if(bool yes, const void* p) {
  uint32_t v;
  asm volatile("{\n.reg .pred q;\nsetp.ne.u32 q, %2, 0;\nmov.u32 %0, 0;\n@q ld.global.u8 %0, [%1];\n}"
               : "=r"(v)
               : "l"(p), "r"(static_cast<uint32_t>(yes)));
  return v;
}
__device__ __forceinline__ uint32_t load2_if(bool yes, const void* p) {
  uint32_t v;
  asm volatile("{\n.reg .pred q;\nsetp.ne.u32 q, %2, 0;\nmov.u32 %0, 0;\n@q ld.global.u16 %0, [%1];\n}"
               : "=r"(v)
               : "l"(p), "r"(static_cast<uint32_t>(yes)));
  return v;
}
__device__ __forceinline__ uint32_t load4_if(bool yes, const void* p) {
  uint32_t v;
  asm volatile("{\n.reg .pred q;\nsetp.ne.u32 q, %2, 0;\nmov.u32 %0, 0;\n@q ld.global.u32 %0, [%1];\n}"
               : "=r"(v)
               : "l"(p), "r"(static_cast<uint32_t>(yes)));
  return v;
}
// 16 bytes of device memory that no kernel writes meanwhile.
__device__ __forceinline__ Quad load_constant16(const Quad* p) {
  Quad q;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(q.v[0]), "=r"(q.v[1]), "=r"(q.v[2]), "=r"(q.v[3])
               : "l"(p));
  return q;
}
__device__ __forceinline__ void store2_if(bool yes, void* p, uint16_t v) {
  asm volatile("{\n.reg .pred q;\nsetp.ne.u32 q, %2, 0;\n@q st.global.u16 [%0], %1;\n}" ::"l"(p), "h"(v),
               "r"(static_cast<uint32_t>(yes))
               : "memory");
}
__device__ __forceinline__ void store4_if(bool yes, void* p, uint32_t v) {
  asm volatile("{\n.reg .pred q;\nsetp.ne.u32 q, %2, 0;\n@q st.global.u32 [%0], %1;\n}" ::"l"(p), "r"(v),
               "r"(static_cast<uint32_t>(yes))
               : "memory");
}
// Asks for the line of p in the L2 cache.
__device__ __forceinline__ void prefetch_if(bool yes, const void* p) {
  asm volatile("{\n.reg .pred q;\nsetp.ne.u32 q, %1, 0;\n@q prefetch.global.L2 [%0];\n}" ::"l"(p),
               "r"(static_cast<uint32_t>(yes)));
}

// Keeps a value in its register, so that the compiler does not compute it again where time is short.
__device__ __forceinline__ void pin(uint32_t& v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void pin(int& v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void pin(int64_t& v) { asm volatile("" : "+l"(v)); }

// v rounded to T, as bits; by the packing conversion, which is not the slow one.
template <class T>
__device__ __forceinline__ uint16_t narrow_bits(float v);
template <>
__device__ __forceinline__ uint16_t narrow_bits<bf16>(float v) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(0.f), "f"(v));
  return static_cast<uint16_t>(r);
}
template <>
__device__ __forceinline__ uint16_t narrow_bits<f16>(float v) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(0.f), "f"(v));
  return static_cast<uint16_t>(r);
}

// 2^x and 1/x, each within 2 units in the last place; results below the normal range are 0.
__device__ __forceinline__ float exp2_fast(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ __forceinline__ float reciprocal(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

__device__ __forceinline__ float float_from(uint32_t v) { return __uint_as_float(v); }
__device__ __forceinline__ uint32_t bits_from(float v) { return __float_as_uint(v); }

// d [16, 8] += a [16, 16] b [16, 8], float32 sums, in the register layout of mma.m16n8k16.
template <class T>
__device__ __forceinline__ void multiply(float (&d)[4], const Quad& a, uint32_t b0, uint32_t b1);
template <>
__device__ __forceinline__ void multiply<bf16>(float (&d)[4], const Quad& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void multiply<f16>(float (&d)[4], const Quad& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b0), "r"(b1));
}

}  // namespace fusedrnn::cuda
#endif
