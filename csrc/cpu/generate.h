// Generation: a stack of layers reads the token that was drawn from its own output, again and again. Torch-free.
//
// The state stands after the last token that was read. A round takes the logits of the next token from the output of
// the last layer, draws a token of every row (draw.h), and lets the layers read it. The states are the bits that T = 1
// calls of the layers give; logits, probabilities and draws are double, so that the order of their additions makes no
// difference that a draw could see.
#pragma once
#include "backend.h"

namespace fusedrnn::cpu {

// How a token is chosen from its logits; what comes first is applied first.
struct Sampling {
  double penalty;      // logits of tokens in the row's history: divided by it where positive, else multiplied; 1: off
  int64_t ngram;       // tokens that would end an n-gram of this length for the second time are left out; 0: off
  double temperature;  // logits are divided by it; 0: the likeliest token
  int64_t top_k;       // only the k likeliest tokens; 0: off
  double top_p;        // only the fewest of the likeliest tokens that make up this share; 1: off
};

struct GenerateArgs {
  const ForwardArgs*
      layers;  // [count], f32 or f64, one direction, no projection; cell, dtype, n (T = 1) and w are read
  int64_t count;
  const void* embedding;  // [V, I of the first layer], or null: the first layer reads one-hot rows, I = V
  const void* head;       // [V, H]
  const void* head_bias;  // [V] or null
  int64_t V, steps;       // vocabulary, rounds
  void *h, *c;            // [count, B, H] in and out; c null for cells without a cell state
  int64_t* history;       // [B, capacity] in and out: tokens of each row, in [0, V); room for `steps` more
  int64_t* lengths;       // [B] in and out: how many of them are there
  int64_t capacity;
  const double* uniform;  // [steps, B] in [0, 1): what decides the draws
  const bool* banned;     // [V] tokens that are never drawn, or null
  Sampling sampling;
  double* logprobs;  // [steps, B] out: of the drawn token under the logits as the model gave them; NaN from the round
                     // on whose logits are not finite or leave nothing to draw, where the call ends
};

// Throws std::bad_alloc before anything is written.
void generate(const GenerateArgs& a, const Threads& threads);

// The logits of some tokens, in double: to[b * ld + v] for the tokens v, begin <= v < end, and all rows b. h: [B, H] in
// double. Rounded to a multiple of 2^-30, so that what is equal in exact arithmetic is equal.
struct Head {
  DType dtype;
  int64_t B, H;
  const void *w, *bias;
};

// One draw.
struct Draw {
  Sampling sampling;
  int64_t V;
  const bool* banned;
  const int64_t* history;
  int64_t length;
  double uniform;
  const double* logits;  // [V]
  // Working memory of padded(V) elements; mark is all false, before and after.
  double *scores, *weights;
  int64_t* order;
  bool* mark;
};

// Logits and working memory are padded to whole vectors.
constexpr int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

}  // namespace fusedrnn::cpu
