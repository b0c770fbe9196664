// The CPU backend: one source compiled once per instruction set, and the choice between them. Torch-free.
#pragma once
#include <cstddef>

#include "../layer.h"

namespace fusedrnn::cpu {

// The caller's thread pool. The backend never starts a thread of its own.
struct Threads {
  int count;  // threads worth splitting for, >= 1
  // Runs body(ctx, i) for every i in [0, n), some of them at the same time, and returns when all are done. How many run
  // at once is not promised (it may be one), so no body may wait for another without a way out.
  void (*run)(int64_t n, void (*body)(void* ctx, int64_t i), void* ctx);
};

struct CrossEntropyArgs;  // cross_entropy.h
struct GenerateArgs;      // generate.h
struct Head;
struct Draw;

constexpr int64_t kMostStepRows = 32;  // of a streaming step: beyond, packing the weights pays even for one step

// One instruction set's entry points. All return after the work is done; out of memory throws std::bad_alloc before
// any output is touched.
struct Kernels {
  const char* isa;  // "baseline", "x86-64-v2", "x86-64-v3", "x86-64-v4"
  void (*forward)(const ForwardArgs&, const Threads&);
  void (*backward)(const BackwardArgs&, const Threads&);
  // One streaming step (T = 1) of at most kMostStepRows rows, without packing the weights. False, with nothing done,
  // for a call that `forward` serves better or that it alone can serve.
  bool (*step)(const ForwardArgs&, const Threads&);
  // `forward` in memory of the caller's: forward_bytes many, aligned to 64 bytes. packed: they are as a call with the
  // same weights, sizes and threads left them, and nothing is packed again. Not for half types.
  size_t (*forward_bytes)(const ForwardArgs&, const Threads&);
  void (*forward_again)(const ForwardArgs&, const Threads&, char* block, bool packed);
  // Generation (generate.h) of at most kMostStepRows rows. False, with nothing done, for more rows.
  bool (*generate_rows)(const GenerateArgs&, const Threads&);
  // The logits of the tokens begin .. end-1 for all rows of h, h_ld apart, to rows ld apart.
  void (*head)(const Head&, const double* h, int64_t h_ld, int64_t begin, int64_t end, double* to, int64_t ld);
  // A token and its logarithmic probability, or -1 where there is none to draw.
  int64_t (*draw)(const Draw&, double* logprob);
  // The loss, a sum over the rows that count (cross_entropy.h).
  double (*cross_entropy)(const CrossEntropyArgs&, const Threads&);
};

// The best set this machine runs, or the one FUSEDRNN_ISA names; chosen at the first call. Throws std::runtime_error,
// naming what is available, when FUSEDRNN_ISA names a set that is unknown or that this machine lacks.
__attribute__((visibility("default"))) const Kernels& kernels();

// Names of the sets compiled in that this machine runs, worst first, null-terminated.
__attribute__((visibility("default"))) const char* const* available_isas();

}  // namespace fusedrnn::cpu
