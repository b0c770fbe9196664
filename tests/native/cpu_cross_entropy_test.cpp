// The cross entropy of a linear head (csrc/cpu/cross_entropy.h) against its definition in long double, on every kind of
// pool. Arrays are as long as the contract says, so that a sanitizer sees more.
#include "../../csrc/cpu/cross_entropy.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "cpu_check.h"
#include "cpu_tests.h"
#include "cpu_threads.h"

using namespace fusedrnn;

namespace {

constexpr int64_t kIgnored = -100;

struct Shape {
  int64_t N, H, V;
  bool bias;
  std::string name() const {
    return "cross entropy N" + std::to_string(N) + " H" + std::to_string(H) + " V" + std::to_string(V) +
           (bias ? "" : " without bias");
  }
};

template <class T>
struct Case {
  Shape s;
  std::mt19937 random{11};
  std::vector<T> x, w, bias;
  std::vector<int64_t> labels;

  explicit Case(const Shape& shape) : s(shape) {
    x = values(s.N * s.H, 1);
    w = values(s.V * s.H, 1);
    bias = values(s.bias ? s.V : 0, 2);
    for (int64_t i = 0; i < s.N; i++) labels.push_back(i % 5 == 3 ? kIgnored : int64_t(random() % uint64_t(s.V)));
  }
  std::vector<T> values(int64_t n, double scale) {
    std::uniform_real_distribution<double> draw(-scale, scale);
    std::vector<T> made(n);
    for (T& v : made) v = T(draw(random));
    return made;
  }
};

template <class T>
struct Result {
  double loss = 0;
  std::vector<T> dx, dw, db;
  bool operator==(const Result&) const = default;
};

template <class T>
Result<T> kernel(const Case<T>& c, const cpu::Threads& threads, double scale, bool need_dx, bool need_dw) {
  const Shape& s = c.s;
  // What was in the gradients before does not matter.
  Result<T> r = {0, std::vector<T>(need_dx ? s.N * s.H : 0, T(NAN)), std::vector<T>(need_dw ? s.V * s.H : 0, T(NAN)),
                 std::vector<T>(need_dw && s.bias ? s.V : 0, T(NAN))};
  cpu::CrossEntropyArgs a{};
  a.dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
  a.N = s.N, a.H = s.H, a.V = s.V;
  a.x = c.x.data(), a.w = c.w.data(), a.bias = s.bias ? c.bias.data() : nullptr;
  a.labels = c.labels.data();
  a.ignored = kIgnored;
  a.scale = scale;
  a.dx = need_dx ? r.dx.data() : nullptr;
  a.dw = need_dw ? r.dw.data() : nullptr;
  a.db = need_dw && s.bias ? r.db.data() : nullptr;
  r.loss = cpu::kernels().cross_entropy(a, threads);
  return r;
}

template <class T>
Result<long double> definition(const Case<T>& c, long double scale) {
  const Shape& s = c.s;
  using Wide = std::vector<long double>;
  Result<long double> r = {0, Wide(s.N * s.H), Wide(s.V * s.H), Wide(s.bias ? s.V : 0)};
  long double loss = 0;
  for (int64_t i = 0; i < s.N; i++) {
    if (c.labels[i] == kIgnored) continue;
    Wide p(s.V);
    long double most = -INFINITY, sum = 0;
    for (int64_t v = 0; v < s.V; v++) {
      p[v] = s.bias ? c.bias[v] : 0;
      for (int64_t j = 0; j < s.H; j++) p[v] += static_cast<long double>(c.w[v * s.H + j]) * c.x[i * s.H + j];
      most = std::max(most, p[v]);
    }
    const long double chosen = p[c.labels[i]] - most;
    for (long double& v : p) sum += v = std::exp(v - most);
    loss += std::log(sum) - chosen;
    for (int64_t v = 0; v < s.V; v++) {
      const long double d = scale * (p[v] / sum - (v == c.labels[i]));
      if (s.bias) r.db[v] += d;
      for (int64_t j = 0; j < s.H; j++) {
        r.dx[i * s.H + j] += d * c.w[v * s.H + j];
        r.dw[v * s.H + j] += d * c.x[i * s.H + j];
      }
    }
  }
  r.loss = double(loss);
  return r;
}

template <class T>
bool close(const std::vector<T>& got, const std::vector<long double>& want) {
  const long double bound = sizeof(T) == 8 ? 1e-13L : 2e-5L;
  long double most = 1e-3L, error = 0;
  for (size_t i = 0; i < want.size(); i++) {
    most = std::max(most, std::fabs(want[i]));
    if (!(std::fabs(got[i] - want[i]) <= error)) error = std::fabs(got[i] - want[i]);
  }
  return got.size() == want.size() && error <= bound * most;
}

template <class T>
void check_case(const Shape& shape) {
  const Case<T> c(shape);
  const double scale = 0.25;
  const Result<long double> want = definition(c, scale);
  Result<T> first;
  for (int p = 0; p < pools::count; p++) {
    const std::string name = shape.name() + (sizeof(T) == 8 ? " f64" : " f32") + ", pool " + std::to_string(p);
    const Result<T> got = kernel(c, pools::all[p], scale, true, true);
    const double bound = (sizeof(T) == 8 ? 1e-13 : 1e-5) * std::max(1.0, want.loss);
    check::that(std::fabs(got.loss - want.loss) <= bound, name + ": loss");
    check::that(close(got.dx, want.dx), name + ": dx");
    check::that(close(got.dw, want.dw), name + ": dw");
    check::that(close(got.db, want.db), name + ": db");
    // The same number of planned threads gives the same bits, however many came.
    if (pools::all[p].count == 3) {
      if (!first.dx.empty()) check::that(got == first, name + ": other bits");
      first = got;
    }
    const Result<T> only_x = kernel(c, pools::all[p], scale, true, false);
    const Result<T> only_w = kernel(c, pools::all[p], scale, false, true);
    const Result<T> alone = kernel(c, pools::all[p], scale, false, false);
    check::that(only_x.loss == got.loss && only_x.dx == got.dx, name + ": dx alone");
    check::that(only_w.loss == got.loss && only_w.dw == got.dw && only_w.db == got.db, name + ": dw alone");
    check::that(alone.loss == got.loss, name + ": the loss alone");
  }
}

}  // namespace

void test_cross_entropy() {
  int i = 0;
  for (int64_t N : {1, 2, 13})
    for (int64_t H : {1, 7, 33})
      for (int64_t V : {1, 9, 50}) {
        const Shape shape = {N, H, V, i++ % 3 > 0};
        check_case<float>(shape);
        check_case<double>(shape);
      }
  check_case<float>({0, 3, 5, true});       // no rows: gradients of zero
  check_case<float>({410, 40, 150, true});  // several chunks, several members
  check_case<double>({390, 33, 170, false});
  check_case<float>({430, 61, 190, false});  // the same for three threads
  check_case<float>({26, 1100, 90, true});   // sums of several parts, over the features
  check_case<float>({100, 17, 1300, true});  // and over the classes
}
