// Generation through the forward pass of the layers, whose weights stay packed, for the rows that isa_generate.cpp
// leaves.
#include "generate.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "scratch.h"

namespace fusedrnn::cpu {
namespace {

constexpr int64_t kHeadTokens = 64;  // of a share of the logits

struct Loop {
  const GenerateArgs& a;
  const Kernels& kernels = cpu::kernels();
  const Threads& threads;
  const Dims n = a.layers[0].n;
  const int64_t element = a.layers[0].dtype == DType::f64 ? 8 : 4, state = n.B * n.H * element, h_ld = padded(n.H),
                v_ld = padded(a.V);
  std::vector<char> h = std::vector<char>(a.count * state), c = std::vector<char>(a.c ? a.count * state : 0),
                    x = std::vector<char>(a.embedding ? n.B * n.I * element : 0),
                    y[2] = {std::vector<char>(state), std::vector<char>(state)};
  std::vector<int64_t> token = std::vector<int64_t>(n.B), order = std::vector<int64_t>(v_ld);
  std::vector<double> top = std::vector<double>(n.B * h_ld), logits = std::vector<double>(n.B * v_ld),
                      scores = std::vector<double>(v_ld), weights = std::vector<double>(v_ld);
  std::vector<char> mark = std::vector<char>(v_ld);
  std::vector<char*> blocks = {};  // of the layers: scratch with the packed weights

  void widen_top(const char* last) {
    for (int64_t b = 0; b < n.B; b++)
      for (int64_t j = 0; j < n.H; j++) {
        const int64_t i = b * n.H + j;
        top[b * h_ld + j] =
            element == 8 ? reinterpret_cast<const double*>(last)[i] : double(reinterpret_cast<const float*>(last)[i]);
      }
  }

  static void head_share(void* self, int64_t i) {
    Loop& l = *static_cast<Loop*>(self);
    const Head from = {l.a.layers[0].dtype, l.n.B, l.n.H, l.a.head, l.a.head_bias};
    const int64_t end = (i + 1) * kHeadTokens < l.a.V ? (i + 1) * kHeadTokens : l.a.V;
    l.kernels.head(from, l.top.data(), l.h_ld, i * kHeadTokens, end, l.logits.data(), l.v_ld);
  }

  bool draw_all(int64_t s) {
    bool all = true;
    for (int64_t b = 0; b < n.B; b++) {
      int64_t* history = a.history + b * a.capacity;
      const Draw d = {a.sampling,
                      a.V,
                      a.banned,
                      history,
                      a.lengths[b],
                      a.uniform[s * n.B + b],
                      logits.data() + b * v_ld,
                      scores.data(),
                      weights.data(),
                      order.data(),
                      reinterpret_cast<bool*>(mark.data())};
      double* logprob = a.logprobs + s * n.B + b;
      token[b] = all ? kernels.draw(d, logprob) : -1;
      all = all && token[b] >= 0;
      if (all)
        history[a.lengths[b]++] = token[b];
      else
        *logprob = std::nan("");
    }
    return all;
  }

  // The layers read the tokens; the states in a.h, a.c go on.
  void read(int64_t s) {
    if (a.embedding)
      for (int64_t b = 0; b < n.B; b++)
        std::memcpy(x.data() + b * n.I * element, static_cast<const char*>(a.embedding) + token[b] * n.I * element,
                    n.I * element);
    for (int64_t l = 0; l < a.count; l++) {
      ForwardArgs f = layer(l);
      f.y = y[l & 1].data();
      kernels.forward_again(f, threads, blocks[l], s > 0);
    }
    std::memcpy(a.h, h.data(), h.size());
    if (a.c) std::memcpy(a.c, c.data(), c.size());
  }

  // The call of a layer; y is free.
  ForwardArgs layer(int64_t l) {
    ForwardArgs f = a.layers[l];
    f.ids = l == 0 && !a.embedding ? token.data() : nullptr;
    f.x = l > 0 ? y[(l - 1) & 1].data() : a.embedding ? x.data() : nullptr;
    f.h0 = static_cast<const char*>(a.h) + l * state;
    f.c0 = a.c ? static_cast<const char*>(a.c) + l * state : nullptr;
    f.h_n = h.data() + l * state;
    f.c_n = a.c ? c.data() + l * state : nullptr;
    return f;
  }

  void run() {
    for (int64_t s = 0; s < a.steps; s++) {
      widen_top(static_cast<const char*>(a.h) + (a.count - 1) * state);
      threads.run((a.V + kHeadTokens - 1) / kHeadTokens, head_share, this);
      if (!draw_all(s)) {
        for (int64_t i = (s + 1) * n.B; i < a.steps * n.B; i++) a.logprobs[i] = std::nan("");
        return;
      }
      read(s);
    }
  }

  // Hands out the layers' memory; with a block of nothing it only counts.
  size_t place(char* block) {
    Arena arena(block);
    blocks.clear();
    for (int64_t l = 0; l < a.count; l++)
      blocks.push_back(arena.take<char>(static_cast<int64_t>(kernels.forward_bytes(layer(l), threads))));
    return arena.used();
  }

  static void use(void* self, char* block) {
    Loop& l = *static_cast<Loop*>(self);
    l.place(block);
    l.run();
  }
};

}  // namespace

void generate(const GenerateArgs& a, const Threads& threads) {
  if (kernels().generate_rows(a, threads)) return;
  Loop loop{a, kernels(), threads};
  with_scratch(loop.place(nullptr), Loop::use, &loop);
}

}  // namespace fusedrnn::cpu
