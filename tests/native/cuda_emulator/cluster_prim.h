// csrc/cuda/prim.h for the emulator: the same functions, exact in value and as lazy and unordered as the hardware may
// be. A 32-bit shared address is (rank of the block in its cluster + 1) << 24 | offset into its dynamic shared memory.
// Misuse (a remote address where a local one is meant, misalignment, an mbarrier that was never initialised, an arrival
// too many, bytes that land in a block that has left) is a fault and ends the launch.
#pragma once
#include "simt.h"

namespace simt {

inline constexpr uint32_t kOffset = 0xffffff;

SIMT_NO_TSAN inline unsigned char* in_block(Block& b, uint32_t offset, unsigned bytes) {
  static unsigned char nowhere[64];
  if (b.dynamic && size_t(offset) + bytes <= b.dynamic_size) return b.dynamic.get() + offset;
  if (fault.empty()) fault = "shared address out of range";
  return nowhere;
}
SIMT_NO_TSAN inline unsigned char* own(uint32_t address, unsigned bytes) {
  if ((address >> 24) != cluster_rank() + 1) fail("a local instruction on a remote shared address");
  if (address % bytes) fail("a misaligned access to shared memory");
  return in_block(*current->block, address & kOffset, bytes);
}

// An mbarrier of one arrival per phase, in the 8 bytes that the hardware's takes.
struct Phase {
  uint8_t magic, parity, pending, unused;
  int32_t bytes;  // announced and not yet arrived; below zero when bytes came first
};
static_assert(sizeof(Phase) == 8);
inline constexpr uint8_t kMagic = 0xB7;

inline void complete(Phase& m) {
  if (m.pending || m.bytes) return;
  m.parity ^= 1;
  m.pending = 1;
}
SIMT_NO_TSAN inline Phase& phase_at(uint32_t address) {
  Phase& m = *reinterpret_cast<Phase*>(own(address, 8));
  if (m.magic != kMagic) fail("an mbarrier that was not initialised");
  return m;
}
inline void land(Block& to, uint32_t offset, uint32_t v, uint32_t barrier) {
  if (to.live == 0 || !to.dynamic) {
    if (fault.empty()) fault = "bytes landed in a block that has left";
    return;
  }
  std::memcpy(in_block(to, offset, 4), &v, 4);
  Phase& m = *reinterpret_cast<Phase*>(in_block(to, barrier, 8));
  if (m.magic != kMagic) {
    if (fault.empty()) fault = "bytes counted on an mbarrier that was not initialised";
    return;
  }
  m.bytes -= 4;
  if (m.bytes < -((1 << 20) - 1) && fault.empty()) fault = "transaction count out of range";
  complete(m);
}

}  // namespace simt

namespace fusedrnn::cuda {

SIMT_NO_TSAN inline uint32_t shared_address(const void* p) {
  return (simt::cluster_rank() + 1) << 24 |
         uint32_t(static_cast<const unsigned char*>(p) - simt::current->block->dynamic.get());
}
inline uint32_t cluster_rank() { return simt::cluster_rank(); }
inline uint32_t peer_address(uint32_t own, uint32_t rank) { return (own & simt::kOffset) | (rank + 1) << 24; }
inline void cluster_barrier() { simt::wait(simt::cluster_barrier()); }
inline void cluster_barrier_relaxed() { cluster_barrier(); }
SIMT_NO_TSAN inline void named_barrier(int id, int threads) {
  simt::Barrier& b = simt::current->block->named[id];
  b.need = unsigned(threads);
  simt::wait(b);
}

SIMT_NO_TSAN inline void phase_init(uint32_t barrier) {
  *reinterpret_cast<simt::Phase*>(simt::own(barrier, 8)) = {simt::kMagic, 0, 1, 0, 0};
}
inline void phase_init_fence() {}
SIMT_NO_TSAN inline void phase_arm(uint32_t barrier, uint32_t bytes) {
  simt::Phase& m = simt::phase_at(barrier);
  if (!m.pending) simt::fail("an mbarrier armed twice in a phase");
  m.pending = 0;
  m.bytes += int32_t(bytes);
  simt::complete(m);
  simt::progress();
}
SIMT_NO_TSAN inline void phase_wait(uint32_t barrier, uint32_t parity) {
  const simt::Phase& m = simt::phase_at(barrier);
  while (m.parity == parity) simt::yield();
  simt::progress();
  simt::hb_acquire(const_cast<simt::Phase*>(&m));
}
// For the thread sanitizer what came before the store comes before the wait for its barrier; the store itself is
// hidden.
SIMT_NO_TSAN inline void store_async(uint32_t to, uint32_t v, uint32_t barrier) {
  simt::Hidden hide;
  if (to % 4) simt::fail("a misaligned asynchronous store");
  if (simt::current->block->grid->cluster < 2)
    simt::fail("an asynchronous store needs a cluster of more than one block");
  if (to >> 24 != barrier >> 24) simt::fail("data and mbarrier of a store in different blocks");
  simt::Block* block = &simt::peer((to >> 24) - 1);
  simt::hb_release(block->dynamic.get() + (barrier & simt::kOffset));
  simt::post([=] { simt::land(*block, to & simt::kOffset, v, barrier & simt::kOffset); });
}

SIMT_NO_TSAN inline Quad load_shared16(uint32_t a) {
  Quad q;
  std::memcpy(&q, simt::own(a, 16), 16);
  return q;
}
SIMT_NO_TSAN inline void store_shared16(uint32_t a, const Quad& q) { std::memcpy(simt::own(a, 16), &q, 16); }
SIMT_NO_TSAN inline uint32_t load_shared4(uint32_t a) {
  uint32_t v;
  std::memcpy(&v, simt::own(a, 4), 4);
  return v;
}
SIMT_NO_TSAN inline void store_shared4(uint32_t a, uint32_t v) { std::memcpy(simt::own(a, 4), &v, 4); }
SIMT_NO_TSAN inline void store_shared2(uint32_t a, uint16_t v) { std::memcpy(simt::own(a, 2), &v, 2); }
template <class T>
uint32_t load_if(bool yes, const void* p) {
  T v{};
  if (yes) std::memcpy(&v, p, sizeof v);
  return v;
}
inline uint32_t load1_if(bool yes, const void* p) { return load_if<uint8_t>(yes, p); }
inline uint32_t load2_if(bool yes, const void* p) { return load_if<uint16_t>(yes, p); }
inline uint32_t load4_if(bool yes, const void* p) { return load_if<uint32_t>(yes, p); }
inline Quad load_constant16(const Quad* p) { return *p; }
inline void store2_if(bool yes, void* p, uint16_t v) {
  if (yes) std::memcpy(p, &v, 2);
}
inline void store4_if(bool yes, void* p, uint32_t v) {
  if (yes && reinterpret_cast<uintptr_t>(p) % 4) simt::fail("a misaligned store to device memory");
  if (yes) std::memcpy(p, &v, 4);
}
// What is asked for must exist: the address is read.
inline void prefetch_if(bool yes, const void* p) { (void)load_if<uint8_t>(yes, p); }
inline void pin(uint32_t&) {}
inline void pin(int&) {}
inline void pin(int64_t&) {}
template <class T>
uint16_t narrow_bits(float v) {
  return bits_of(narrow<T>(v));
}
inline float exp2_fast(float x) { return std::exp2(x); }
inline float reciprocal(float x) { return 1.f / x; }
inline float float_from(uint32_t v) {
  float f;
  std::memcpy(&f, &v, 4);
  return f;
}
inline uint32_t bits_from(float v) {
  uint32_t u;
  std::memcpy(&u, &v, 4);
  return u;
}

// mma.m16n8k16: lane l = 4 g + t holds of a the rows g and g + 8 and the columns 2t, 2t+1 and 2t+8, 2t+9, of b the
// column g and those four rows, of d the rows g and g + 8 and the columns 2t and 2t+1.
template <class T>
void multiply(float (&d)[4], const Quad& a, uint32_t b0, uint32_t b1) {
  struct Fragment {
    Quad a;
    uint32_t b[2];
  };
  simt::Warp& w = simt::warp();
  const Fragment mine{a, {b0, b1}};
  static_assert(sizeof mine <= 32);
  std::memcpy(w.slot[simt::current->lane], &mine, sizeof mine);
  simt::wait(w.barrier);
  const auto value = [](uint32_t word, int k) {
    return widen(from_bits_of<T>(uint16_t(k & 1 ? word >> 16 : word & 0xffff)));
  };
  const int g = int(simt::current->lane >> 2), t = int(simt::current->lane & 3);
  float rows[2][16], columns[2][16];
  for (int i = 0; i < 2; i++)
    for (int q = 0; q < 4; q++) {
      Fragment fa, fb;
      std::memcpy(&fa, w.slot[g * 4 + q], sizeof fa);
      std::memcpy(&fb, w.slot[(2 * t + i) * 4 + q], sizeof fb);
      for (int k : {0, 1, 8, 9}) {
        rows[i][2 * q + k] = value(fa.a.v[i + 2 * (k >> 3)], k);
        columns[i][2 * q + k] = value(fb.b[k >> 3], k);
      }
    }
  for (int e = 0; e < 4; e++)
    for (int k = 0; k < 16; k++) d[e] += rows[e >> 1][k] * columns[e & 1][k];
  simt::wait(w.barrier);
}

}  // namespace fusedrnn::cuda
