// The register tile over pairs of bf16, where the processor has an instruction for it.
#if defined(__AVX512F__)
#pragma GCC target("avx512bf16")  // before all code of this file; nothing of it runs where bf16_tiles() says null
#endif

#include "tile_code.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {

#if defined(__AVX512F__)
namespace {

// A cell is two bf16 in the bits of a float: c += a0 w0 + a1 w1.
struct PairDot {
  static FUSEDRNN_INLINE Vec<float> spread(float x) {
    using Int = cells::Lane<Vec<float>>::Int;
    return (Vec<float>)(Int{} + __builtin_bit_cast(int32_t, x));  // as integers: the bits are no number
  }
  static FUSEDRNN_INLINE Vec<float> add(Vec<float> c, Vec<float> a, Vec<float> w) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)w);
  }
};

constinit const Tiles<float> kPairTiles = all_tiles<PairDot, float>(std::make_integer_sequence<int, kMaxColumns>{});

}  // namespace

const Tiles<float>* bf16_tiles() { return __builtin_cpu_supports("avx512bf16") ? &kPairTiles : nullptr; }
#else
const Tiles<float>* bf16_tiles() { return nullptr; }
#endif

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
