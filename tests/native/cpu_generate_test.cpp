// Generation (csrc/cpu/generate.h) on every kind of pool: the same tokens everywhere, and the states that streaming
// steps over these tokens leave, bit for bit. Arrays are as long as the contract says, so that a sanitizer sees more.
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/cells/all.h"
#include "../../csrc/cpu/generate.h"
#include "cpu_check.h"
#include "cpu_tests.h"
#include "cpu_threads.h"

using namespace fusedrnn;

namespace {

constexpr int64_t V = 19, kSteps = 12, kPrompt = 3;

struct Shape {
  int cell;
  int64_t layers, B, H, E;  // E = 0: one-hot rows
  bool bias;
  std::string name() const {
    return std::string(cells::kCells[cell].name) + " L" + std::to_string(layers) + " B" + std::to_string(B) + " H" +
           std::to_string(H) + " E" + std::to_string(E) + (bias ? "" : " without bias");
  }
};

template <class T>
struct Model {
  Shape s;
  DType dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
  std::mt19937 random{7};
  std::vector<std::vector<T>> held;
  std::vector<ForwardArgs> layers;
  const T *embedding, *head, *head_bias;

  explicit Model(const Shape& shape) : s(shape) {
    const int64_t G = cells::kCells[s.cell].G;
    for (int64_t l = 0; l < s.layers; l++) {
      const int64_t I = l ? s.H : s.E ? s.E : V;
      ForwardArgs f{};
      f.cell = s.cell;
      f.dtype = dtype;
      f.n = {1, s.B, I, s.H, s.H, 1};
      f.w[0] = {values(G * s.H * I, 0.7), values(G * s.H * s.H, 0.7), nullptr, nullptr, nullptr};
      if (s.bias) f.w[0].b_ih = values(G * s.H, 0.5), f.w[0].b_hh = values(G * s.H, 0.5);
      layers.push_back(f);
    }
    embedding = s.E ? values(V * s.E, 1) : nullptr;
    head = values(V * s.H, 2);
    head_bias = s.bias ? values(V, 1) : nullptr;
  }

  const T* values(int64_t n, double scale) {
    std::uniform_real_distribution<double> draw(-scale, scale);
    held.emplace_back(n);
    for (T& x : held.back()) x = T(draw(random));
    return held.back().data();
  }
};

template <class T>
struct Run {
  std::vector<T> h, c;
  std::vector<int64_t> history, lengths;
  std::vector<double> logprobs;
  bool operator==(const Run&) const = default;

  Run(const Model<T>& m, const cpu::Sampling& sampling, const cpu::Threads& threads)
      : h(m.s.layers * m.s.B * m.s.H, T(0.1)),
        c(cells::kCells[m.s.cell].has_cell ? h.size() : 0, T(0.2)),
        history(m.s.B * (kPrompt + kSteps), 1),
        lengths(m.s.B, kPrompt),
        logprobs(kSteps * m.s.B) {
    std::mt19937 random(3);
    std::uniform_real_distribution<double> draw(0, 1);
    std::vector<double> uniform(kSteps * m.s.B);
    for (double& u : uniform) u = draw(random);
    const bool banned[V] = {true};
    cpu::GenerateArgs a{};
    a.layers = m.layers.data();
    a.count = m.s.layers;
    a.embedding = m.embedding;
    a.head = m.head;
    a.head_bias = m.head_bias;
    a.V = V;
    a.steps = kSteps;
    a.h = h.data();
    a.c = c.empty() ? nullptr : c.data();
    a.history = history.data();
    a.lengths = lengths.data();
    a.capacity = kPrompt + kSteps;
    a.uniform = uniform.data();
    a.banned = banned;
    a.sampling = sampling;
    a.logprobs = logprobs.data();
    cpu::generate(a, threads);
  }
};

// The states after the layers have read the tokens one by one.
template <class T>
void check_states(const Model<T>& m, const Run<T>& run) {
  const int64_t size = m.s.B * m.s.H;
  std::vector<T> h(run.h.size(), T(0.1)), c(run.c.size(), T(0.2)), h_new = h, c_new = c, x, y(size), below(size);
  for (int64_t t = 0; t < kSteps; t++) {
    std::vector<int64_t> ids;
    for (int64_t b = 0; b < m.s.B; b++) ids.push_back(run.history[b * (kPrompt + kSteps) + kPrompt + t]);
    for (int64_t l = 0; l < m.s.layers; l++) {
      ForwardArgs f = m.layers[l];
      if (l == 0) {
        x.clear();
        for (int64_t id : ids)
          if (m.s.E) x.insert(x.end(), m.embedding + id * m.s.E, m.embedding + (id + 1) * m.s.E);
      }
      f.ids = l == 0 && !m.s.E ? ids.data() : nullptr;
      f.x = f.ids ? nullptr : l ? below.data() : x.data();
      f.h0 = h.data() + l * size;
      f.h_n = h_new.data() + l * size;
      if (!c.empty()) f.c0 = c.data() + l * size, f.c_n = c_new.data() + l * size;
      f.y = y.data();
      if (!cpu::kernels().step(f, pools::one)) cpu::kernels().forward(f, pools::one);
      below = y;
    }
    h = h_new;
    c = c_new;
  }
  check::that(h == run.h && c == run.c, m.s.name() + ": states differ from those of streaming steps");
}

template <class T>
void check_shape(const Shape& shape, const cpu::Sampling& sampling) {
  const Model<T> model(shape);
  const Run<T> first(model, sampling, pools::one);
  bool inside = true;
  for (int64_t b = 0; b < shape.B; b++)
    for (int64_t i = 0; i < kSteps; i++) {
      const int64_t token = first.history[b * (kPrompt + kSteps) + kPrompt + i];
      inside = inside && token > 0 && token < V && first.logprobs[i * shape.B + b] <= 0;
    }
  check::that(inside, shape.name() + ": a token or its probability out of range");
  check_states(model, first);
  for (int p = 1; p < pools::count; p++)
    check::that(Run<T>(model, sampling, pools::all[p]) == first, shape.name() + ": pool " + std::to_string(p));
}

void check_model_that_diverged() {
  Model<float> model({0, 1, 2, 5, 0, true});
  const_cast<float*>(model.head_bias)[4] = NAN;
  const Run<float> run(model, {1, 0, 1, 0, 1}, pools::one);
  bool all = true;
  for (double x : run.logprobs) all = all && std::isnan(x);
  check::that(all && run.lengths[0] == kPrompt, "a model that diverged draws nothing");
}

}  // namespace

void test_generate() {
  const cpu::Sampling rules[] = {{1, 0, 1, 0, 1}, {1.3, 2, 0.7, 5, 0.8}, {1, 0, 0, 0, 1}, {1, 1, 2, 0, 0.5}};
  int i = 0;
  for (int cell = 0; cell < cells::kCellCount; cell++)
    for (int64_t B : {1, 3, 5})
      for (int64_t H : {1, 7, 33}) {
        const Shape shape = {cell, 1 + i % 2, B, H, i % 3 ? 0 : 5, i % 4 > 0};
        check_shape<float>(shape, rules[i % 4]);
        check_shape<double>(shape, rules[(i + 1) % 4]);
        i++;
      }
  check_shape<float>({2, 2, 1, 150, 0, true}, rules[0]);  // large enough for several members
  check_model_that_diverged();
}
