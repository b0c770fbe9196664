// The Runtime of a layer call on the emulator: memory that starts as NaN and is checked for writes past its end, and a
// product that is a triple loop.
#pragma once
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "../../csrc/cuda/device.h"
#include "../../csrc/cuda/family.h"

namespace emulated {

using fusedrnn::DType;
using fusedrnn::cuda::Product;
using fusedrnn::cuda::Runtime;

inline double load(const void* p, int64_t i, DType t) {
  return fusedrnn::cuda::with_type(t, [&](auto type) {
    return static_cast<double>(fusedrnn::cuda::widen(static_cast<const decltype(type)*>(p)[i]));
  });
}
inline void store(void* p, int64_t i, DType t, double v) {
  fusedrnn::cuda::with_type(t, [&](auto type) {
    using T = decltype(type);
    static_cast<T*>(p)[i] = fusedrnn::cuda::narrow<T>(static_cast<fusedrnn::cuda::Acc<T>>(v));
  });
}

inline void product(void*, const Product& p) {
  for (int64_t q = 0; q < p.batch; q++)
    for (int64_t i = 0; i < p.m; i++)
      for (int64_t j = 0; j < p.n; j++) {
        double sum = 0;
        for (int64_t k = 0; k < p.k; k++)
          sum += load(p.a, q * p.stride_a + (p.ta ? k * p.lda + i : i * p.lda + k), p.in) *
                 load(p.b, q * p.stride_b + (p.tb ? j * p.ldb + k : k * p.ldb + j), p.in);
        const int64_t c = q * p.stride_c + i * p.ldc + j;
        store(p.c, c, p.out, p.beta != 0 ? sum + load(p.c, c, p.out) : sum);
      }
}

// Owns what a call allocates. Each block is exactly as large as asked for (the address sanitizer sees its end), aligned
// as device memory is.
struct Memory {
  std::vector<void*> blocks;
  ~Memory() {
    for (void* p : blocks) std::free(p);
  }
  void* take(size_t bytes) {
    void* p = nullptr;
    if (posix_memalign(&p, 256, bytes ? bytes : 1)) throw std::bad_alloc();
    std::memset(p, 0xFF, bytes);  // NaN in every type
    blocks.push_back(p);
    return p;
  }
  Runtime runtime(const fusedrnn::cuda::Device& device) {
    Runtime rt{};
    rt.device = device;
    rt.ctx = this;
    rt.alloc = [](void* ctx, size_t bytes) { return static_cast<Memory*>(ctx)->take(bytes); };
    rt.gemm = product;
    return rt;
  }
};

}  // namespace emulated
