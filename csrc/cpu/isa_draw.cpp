// From the output of the last layer to a token, in double (generate.h).
#include "entry.h"
#include "rows.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

using VecD = Vec<double>;
constexpr int LD = kLanes<double>;
constexpr double kInf = __builtin_inf();

// ---- logits

typedef float FloatsLoose __attribute__((vector_size(kVectorBytes / 2), may_alias, aligned(4)));
FUSEDRNN_INLINE VecD load_wide(const float* p) {
  return __builtin_convertvector(*reinterpret_cast<const FloatsLoose*>(p), VecD);
}
FUSEDRNN_INLINE VecD load_wide(const double* p) { return load(p); }
template <class T>
FUSEDRNN_INLINE VecD load_wide_part(const T* p, int64_t n) {
  VecD v{};
  for (int64_t i = 0; i < n; i++) v[i] = p[i];
  return v;
}

// To a multiple of 2^-30; numbers of 2^20 and more, infinities and NaN stay as they are.
FUSEDRNN_INLINE VecD round_logit(VecD x) {
  const VecD magic = splat<VecD>(0x1.8p52), y = x * 0x1p30;
  const VecD rounded = ((y + magic) - magic) * 0x1p-30;
  return cells::abs(x) < splat<VecD>(0x1p20) ? rounded : x;
}

// Tokens v .. v+count-1, count <= LD.
template <class T>
FUSEDRNN_INLINE void head_block(const Head& a, const double* h, int64_t v, int64_t count, double* to) {
  const T* w = static_cast<const T*>(a.w) + v * a.H;
  const T* row[LD];
  FUSEDRNN_UNROLL
  for (int u = 0; u < LD; u++) row[u] = w + min64(u, count - 1) * a.H;
  VecD acc[LD] = {};
  int64_t i = 0;
  for (; i + LD <= a.H; i += LD) {
    const VecD x = load(h + i);
    FUSEDRNN_UNROLL
    for (int u = 0; u < LD; u++) acc[u] += x * load_wide(row[u] + i);
  }
  if (i < a.H) {
    const VecD x = load_part(h + i, a.H - i);
    for (int u = 0; u < LD; u++) acc[u] += x * load_wide_part(row[u] + i, a.H - i);
  }
  VecD sum = sums<double>(acc);
  if (a.bias) sum += load_wide_part(static_cast<const T*>(a.bias) + v, count);
  sum = round_logit(sum);
  count == LD ? store(to + v, sum) : store_part(to + v, sum, count);
}

// ---- the rules before the draw

// Whether all scores are still below infinity: a tiny penalty can make them overflow.
bool penalize(const Draw& d) {
  bool good = true;
  for (int64_t i = 0; i < d.length; i++) {
    const int64_t token = d.history[i];
    if (d.mark[token]) continue;
    d.mark[token] = true;
    double& x = d.scores[token];
    x = x > 0 ? x / d.sampling.penalty : x * d.sampling.penalty;
    good = good && x < kInf;
  }
  for (int64_t i = 0; i < d.length; i++) d.mark[d.history[i]] = false;
  return good;
}

// Leaves out the tokens that would repeat an n-gram, unless nothing else is left.
void forbid_ngrams(const Draw& d) {
  const int64_t before = d.sampling.ngram - 1, count = d.length - before;
  const int64_t* suffix = d.history + count;
  if (count <= 0) return;
  auto repeats = [&](int64_t i) {
    for (int64_t k = 0; k < before; k++)
      if (d.history[i + k] != suffix[k]) return false;
    return true;
  };
  for (int64_t i = 0; i < count; i++)
    if (repeats(i)) d.mark[d.history[i + before]] = true;
  bool left = false;
  for (int64_t v = 0; v < d.V; v++) left = left || (!d.mark[v] && d.scores[v] > -kInf);
  for (int64_t v = 0; v < d.V; v++) {
    if (left && d.mark[v]) d.scores[v] = -kInf;
    d.mark[v] = false;
  }
}

// ---- exponentials

// weights = exp((x - most) / temperature), 0 in the padding; their sum, in no particular order.
double exponentials(const double* x, int64_t n, double most, double temperature, double* weights) {
  VecD sum{};
  for (int64_t i = 0; i < n; i += LD) {
    const bool whole = n - i >= LD;
    const VecD v = whole ? load(x + i) : load_part(x + i, n - i);
    VecD e = cells::exp((v - splat<VecD>(most)) / splat<VecD>(temperature));
    if (!whole)
      for (int64_t k = n - i; k < LD; k++) e[k] = 0;
    store(weights + i, e);
    sum += e;
  }
  double total = 0;
  for (int k = 0; k < LD; k++) total += sum[k];
  return total;
}

// ---- the likeliest tokens

// A heap of tokens, the likeliest on top; the first of equals comes first.
struct Ranking {
  const double* scores;
  int64_t* order;
  int64_t size;

  bool before(int64_t a, int64_t b) const { return scores[a] > scores[b] || (scores[a] == scores[b] && a < b); }
  void sink(int64_t i) {
    const int64_t token = order[i];
    for (int64_t child; (child = 2 * i + 1) < size; i = child) {
      if (child + 1 < size && before(order[child + 1], order[child])) child++;
      if (!before(order[child], token)) break;
      order[i] = order[child];
    }
    order[i] = token;
  }
  void build(int64_t n) {
    size = n;
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n / 2; i-- > 0;) sink(i);
  }
  // The next token; it waits behind the heap, so that rank r is order[n - 1 - r].
  int64_t pop() {
    const int64_t top = order[0];
    order[0] = order[--size];
    order[size] = top;
    if (size > 0) sink(0);
    return top;
  }
};

FUSEDRNN_INLINE double total_of(const double* weights, int64_t n) {
  double sum = 0;
  for (int64_t v = 0; v < n; v++) sum += weights[v];
  return sum;
}

// Sets the weights of all tokens to 0 that top_k and top_p leave out.
void keep_likeliest(const Draw& d) {
  const Sampling& s = d.sampling;
  const bool by_count = s.top_k > 0 && s.top_k < d.V, by_share = s.top_p < 1;
  if (!by_count && !by_share) return;
  Ranking ranking = {d.scores, d.order, 0};
  ranking.build(d.V);
  int64_t kept = 0;
  if (by_count) {
    while (kept < s.top_k) ranking.pop(), kept++;
    for (int64_t i = 0; i < ranking.size; i++) d.weights[d.order[i]] = 0;
  }
  if (!by_share) return;
  // A hair less than asked, so that a sum that is equal but for the rounding of the logits is enough.
  const double enough = s.top_p * (1 - 1e-8) * total_of(d.weights, d.V);
  const int64_t most = by_count ? kept : d.V;
  double sum = 0;
  int64_t rank = 0;
  for (; rank < most && sum < enough; rank++) sum += d.weights[by_count ? d.order[d.V - 1 - rank] : ranking.pop()];
  for (int64_t i = 0; i < d.V - rank; i++) d.weights[d.order[i]] = 0;
}

int64_t first_of_likeliest(const double* scores, int64_t n) {
  int64_t best = 0;
  for (int64_t v = 1; v < n; v++)
    if (scores[v] > scores[best]) best = v;
  return best;
}

// The token at which the sum of the weights, in the order of the vocabulary, passes u times the whole.
int64_t at_share(const double* weights, int64_t n, double u) {
  const double target = u * total_of(weights, n);
  double sum = 0;
  int64_t last = 0;
  for (int64_t v = 0; v < n; v++) {
    sum += weights[v];
    if (sum > target) return v;
    if (weights[v] > 0) last = v;
  }
  return last;
}

}  // namespace

void head(const Head& a, const double* h, int64_t h_ld, int64_t begin, int64_t end, double* to, int64_t ld) {
  for (int64_t v = begin; v < end; v += LD)
    for (int64_t b = 0; b < a.B; b++) {
      const int64_t count = min64(LD, end - v);
      if (a.dtype == DType::f64)
        head_block<double>(a, h + b * h_ld, v, count, to + b * ld);
      else
        head_block<float>(a, h + b * h_ld, v, count, to + b * ld);
    }
}

// The token, and its logarithmic probability under the logits alone; -1 where they are not finite or nothing is left.
int64_t draw(const Draw& d, double* logprob) {
  const double* x = d.logits;
  const Sampling& s = d.sampling;
  double most = -kInf;
  bool bad = false;
  for (int64_t v = 0; v < d.V; v++) {
    bad = bad || !(x[v] < kInf);
    most = x[v] > most ? x[v] : most;
  }
  if (bad || most == -kInf) return -1;
  const double log_total = __builtin_log(exponentials(x, d.V, most, 1, d.weights)) + most;
  const bool changed = d.banned || s.penalty != 1 || s.ngram > 0;
  for (int64_t v = 0; v < d.V; v++) d.scores[v] = x[v];
  if (s.penalty != 1 && !penalize(d)) return -1;
  for (int64_t v = 0; d.banned && v < d.V; v++) d.scores[v] = d.banned[v] ? -kInf : d.scores[v];
  if (s.ngram > 0) forbid_ngrams(d);
  int64_t token;
  if (s.temperature == 0) {
    token = first_of_likeliest(d.scores, d.V);
    if (d.scores[token] == -kInf) return -1;
  } else {
    if (changed) {
      most = -kInf;
      for (int64_t v = 0; v < d.V; v++) most = d.scores[v] > most ? d.scores[v] : most;
      if (most == -kInf) return -1;
    }
    if (changed || s.temperature != 1) exponentials(d.scores, d.V, most, s.temperature, d.weights);
    keep_likeliest(d);
    token = at_share(d.weights, d.V, d.uniform);
  }
  *logprob = x[token] - log_total;
  return token;
}

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
