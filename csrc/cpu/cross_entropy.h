// The cross entropy of a linear head: what a classifier of sequences, such as a language model, is trained by.
//
//   z_i = W x_i + b,   loss = sum over the rows i that count of  log sum_v exp(z_iv) - z_i,label(i)
//
// with its gradients in the same pass: the scores z of all rows at once, which torch keeps twice, are never in memory.
// Torch-free.
#pragma once
#include "backend.h"

namespace fusedrnn::cpu {

// N rows of H features, V classes. No output may alias an input or another output.
struct CrossEntropyArgs {
  DType dtype;  // f32 or f64
  int64_t N, H, V;
  const void *x, *w, *bias;  // [N, H], [V, H], [V] or null
  const int64_t* labels;     // [N] in [0, V), or `ignored`
  int64_t ignored;           // rows with this label count for nothing
  double scale;              // of the gradients
  void *dx, *dw, *db;        // [N, H], [V, H], [V] out, scale times the gradients of the loss; null where not wanted
};

}  // namespace fusedrnn::cpu
