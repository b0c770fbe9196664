// The cross entropy of a linear head and its gradients (cross_entropy.h).
//
// The rows are gone through in chunks. A chunk has two phases: threads share its rows, which become scores, then
// gradients of the scores, then rows of dx; and they share the classes, whose rows of dW are gradients of the scores
// times x. Shares are those of the planned number of threads, so that the bits do not depend on how many came.
#include "cross_entropy.h"

#include "entry.h"
#include "scratch.h"
#include "team.h"
#include "weight_grad.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

constexpr int64_t kRowsTogether = 12;       // a whole number of tiles of 2, 3, 4 and 6 rows
constexpr int64_t kFewestRows = 48;         // of a chunk
constexpr int64_t kMostRows = 384;          // sums over more rows leave the private cache
constexpr int64_t kMostBytes = 8 << 20;     // of a chunk's scores: they pass through the shared cache
constexpr int64_t kBlockBytes = 128 << 10;  // of a left factor of dW that passes one panel after another
constexpr int64_t kLongestPart = 512;       // of a sum, so that a share's rows stay near while the panels pass
constexpr int64_t kWorkOfThread = 1 << 20;  // multiply-adds below which another thread costs more than it brings

template <class T>
struct Loss {
  static constexpr int L = kLanes<T>;
  const CrossEntropyArgs& a;
  const int parts;              // planned threads
  const Panels classes, units;  // of the V classes and the H features
  const int64_t width, chunks, chunk_rows, block_classes;
  T *packed_z, *packed_dx;  // W for z [panel of classes][H][..] and for dx [panel of units][V][..]
  T* bias;                  // [width], -infinity for what is no class
  T* z;                     // [chunk_rows][width]: scores, then their gradients
  double* losses;           // [N]
  const T **x_row, **z_row;
  T **dx_row, **z_out;
  struct Own {  // of one share
    T *spare, *packed, *sum;
  } own[kMaxTeam];

  Loss(const CrossEntropyArgs& args, int threads, Arena& arena)
      : a(args),
        parts(threads),
        classes(ceil_div(a.V, L), kMaxColumns, 1),
        units(ceil_div(a.H, L), kMaxColumns, 1),
        width(classes.blocks * L),
        chunks(max64(1, ceil_div(a.N, most_rows()))),
        chunk_rows(ceil_div(ceil_div(a.N, kRowsTogether), chunks) * kRowsTogether),
        block_classes(max64(1, kBlockBytes / int64_t(sizeof(T)) / max64(chunk_rows, 1) / (3 * L)) * 3 * L) {
    packed_z = arena.take<T>(a.H * width);
    packed_dx = a.dx ? arena.take<T>(a.V * units.blocks * L) : nullptr;
    bias = arena.take<T>(width);
    z = arena.take<T>(chunk_rows * width);
    losses = arena.take<double>(a.N);
    x_row = arena.take<const T*>(a.N);
    dx_row = a.dx ? arena.take<T*>(a.N) : nullptr;
    z_row = arena.take<const T*>(chunk_rows);
    z_out = arena.take<T*>(chunk_rows);
    for (int i = 0; i < parts; i++)
      own[i] = {arena.take<T>((chunk_rows + kMaxRows) * kMaxColumns * L),
                arena.take<T>(PackedGradients<T>::size(1, block_classes, chunk_rows)), arena.take<T>(block_classes)};
  }
  // At least half as many as features: with fewer, each chunk's reading and writing of dW costs more than scores that
  // do not stay in the cache.
  int64_t most_rows() const {
    const int64_t fit = max64(kMostBytes / (width * int64_t(sizeof(T))), a.H / 2);
    return max64(kFewestRows, min64(fit, kMostRows) / kRowsTogether * kRowsTogether);
  }
  Range chunk(int64_t c) const { return share(a.N, c, chunks, kRowsTogether); }

  const T* x() const { return static_cast<const T*>(a.x); }
  const T* w() const { return static_cast<const T*>(a.w); }

  // Share i of what is copied before the first chunk.
  void prepare(int64_t i) {
    const Range rows = share(a.N, i, parts), z_rows = share(chunk_rows, i, parts),
                of_z = share(classes.count, i, parts);
    for (int64_t r = rows.begin; r < rows.end; r++) x_row[r] = x() + r * a.H;
    for (int64_t r = rows.begin; a.dx && r < rows.end; r++) dx_row[r] = static_cast<T*>(a.dx) + r * a.H;
    for (int64_t r = z_rows.begin; r < z_rows.end; r++) z_row[r] = z_out[r] = z + r * width;
    for (int64_t p = of_z.begin; p < of_z.end; p++) {
      const Panel q = classes.at(p);
      for (int64_t v = q.block; v < q.block + q.blocks; v++)
        pack_transposed(w() + v * L * a.H, a.H, a.H, min64(L, a.V - v * L),
                        packed_z + q.block * L * a.H + (v - q.block) * L, q.blocks * L);
      for (int64_t v = q.block * L; v < (q.block + q.blocks) * L; v++)
        bias[v] = v >= a.V ? -__builtin_inf() : a.bias ? static_cast<const T*>(a.bias)[v] : T(0);
    }
    const Range of_dx = share(a.dx ? units.count : 0, i, parts);
    for (int64_t p = of_dx.begin; p < of_dx.end; p++) {
      const Panel q = units.at(p);
      const int64_t j = q.block * L;
      pack_rows<T>([&](int64_t v) __attribute__((always_inline)) { return w() + v * a.H + j; }, a.V,
                   min64(q.blocks * L, a.H - j), q.blocks, packed_dx + j * a.V);
    }
  }

  // Share i of the rows of a chunk: scores, losses, gradients of the scores, dx.
  void rows(Range chunk, int64_t i) {
    const Range mine = share(chunk.end - chunk.begin, i, parts, kRowsTogether);
    const int64_t count = mine.end - mine.begin, first = chunk.begin + mine.begin;
    scores(first, mine.begin, count, own[i].spare);
    for (int64_t r = 0; r < count; r++) losses[first + r] = softmax(first + r, z + (mine.begin + r) * width);
    if (a.dx) input_grad(first, mine.begin, count, own[i].spare);
  }

  // f(k, length) for parts [k, k + length) of a sum of n.
  template <class F>
  static void each_part(int64_t n, F&& f) {
    const int64_t count = ceil_div(n, kLongestPart);
    for (int64_t u = 0; u < count; u++) f(n * u / count, n * (u + 1) / count - n * u / count);
  }

  void scores(int64_t row, int64_t at, int64_t count, T* spare) {
    each_part(a.H, [&](int64_t k, int64_t length) {
      for (int64_t p = 0; p < classes.count; p++) {
        const Panel q = classes.at(p);
        const int64_t v = q.block * L, columns = q.blocks * L;
        rows_times_panel(tiles<T>(), x_row + row, k, z_out + at, v, count, packed_z + v * a.H + k * columns, q.blocks,
                         length, columns, k ? nullptr : bias + v, k > 0, spare);
      }
    });
  }

  // The parts are summed apart, and then added up: one long chain over the classes would lose digits.
  void input_grad(int64_t row, int64_t at, int64_t count, T* part) {
    each_part(a.V, [&](int64_t k, int64_t length) {
      for (int64_t p = 0; p < units.count; p++) {
        const Panel q = units.at(p);
        const int64_t j = q.block * L, columns = q.blocks * L;
        const T* panel = packed_dx + j * a.V + k * columns;
        split_rows(count, max_rows(q.blocks), [&](int64_t r, int rows) __attribute__((always_inline)) {
          const T* left[kMaxRows];
          T* sums[kMaxRows];
          for (int m = 0; m < rows; m++) left[m] = z_row[at + r + m] + k, sums[m] = part + m * columns;
          tiles<T>().rows[q.blocks - 1][rows - 1](left, panel, length, sums, nullptr, false);
          for (int m = 0; m < rows; m++) put_sums(sums[m], dx_row[row + r + m] + j, min64(columns, a.H - j), k > 0);
        });
      }
    });
  }

  // The loss of a row; its scores become their gradients.
  double softmax(int64_t row, T* s) const {
    const int64_t label = a.labels[row];
    if (label == a.ignored) {
      for (int64_t v = 0; v < width; v += L) store(s + v, Vec<T>{});
      return 0;
    }
    Vec<T> high = load(s);
    for (int64_t v = L; v < width; v += L) high = cells::at_least(load(s + v), high);
    T most = high[0];
    for (int k = 1; k < L; k++) most = high[k] > most ? high[k] : most;
    const T chosen = s[label] - most;
    Vec<T> sums{};
    for (int64_t v = 0; v < width; v += L) {
      const Vec<T> e = cells::exp(load(s + v) - splat<Vec<T>>(most));
      store(s + v, e);
      sums += e;
    }
    double sum = 0;
    for (int k = 0; k < L; k++) sum += sums[k];
    const Vec<T> factor = splat<Vec<T>>(T(a.scale / sum));
    for (int64_t v = 0; v < width; v += L) store(s + v, load(s + v) * factor);
    s[label] -= T(a.scale);
    return __builtin_log(sum) - double(chosen);
  }

  // Share i of the classes: their rows of dW, and db.
  void weight_grads(Range chunk, int64_t i) {
    const Range mine = share(a.V, i, parts, kPanelRows);
    const int64_t K = chunk.end - chunk.begin;
    const bool add = chunk.begin > 0;
    const int gate[1] = {0};
    for (int64_t v = mine.begin; v < mine.end; v += block_classes) {
      const int64_t count = min64(block_classes, mine.end - v);
      const PackedGradients<T> d = {own[i].packed, K, count};
      pack_panels<T>([&](int64_t k) __attribute__((always_inline)) { return z_row[k] + v; }, K, count, d.slot(0),
                     own[i].sum);
      if (a.db) put_sums(own[i].sum, static_cast<T*>(a.db) + v, count, add);
      if (a.dw)
        add_weight_grad(tiles<T>(), d, 0, 1, gate, a.V, v, RightFactor<T>{x_row + chunk.begin, K, 0, a.H, 1},
                        static_cast<T*>(a.dw), add, own[i].spare);
    }
  }

  // f(i) for this member's shares.
  template <class F>
  void phase(Member& m, F&& f) {
    if (!m.enter()) return;
    const Range mine = share(parts, m.rank(), m.size());
    for (int64_t i = mine.begin; i < mine.end; i++) f(i);
    m.leave();
  }

  static void work(void* self, Member& m) {
    Loss& l = *static_cast<Loss*>(self);
    l.phase(m, [&](int64_t i) { l.prepare(i); });
    for (int64_t c = 0; c < l.chunks; c++) {
      const Range chunk = l.chunk(c);
      l.phase(m, [&](int64_t i) { l.rows(chunk, i); });
      if (l.a.dw || l.a.db) l.phase(m, [&](int64_t i) { l.weight_grads(chunk, i); });
    }
  }
};

template <class T>
struct Call {
  const CrossEntropyArgs& a;
  const Threads& threads;
  int parts;
  double loss;
  static void use(void* self, char* block) {
    Call& c = *static_cast<Call*>(self);
    Arena arena(block);
    Loss<T> loss(c.a, c.parts, arena);
    run_team(c.threads, c.parts, Loss<T>::work, &loss);
    c.loss = 0;
    for (int64_t i = 0; i < c.a.N; i++) c.loss += loss.losses[i];
  }
};

template <class T>
double loss_of(const CrossEntropyArgs& a, const Threads& threads) {
  const int64_t wanted = a.N * a.V * a.H / kWorkOfThread;
  Call<T> call = {a, threads, int(max64(1, min64(min64(threads.count, kMaxTeam), wanted))), 0};
  Arena measure(nullptr);
  {
    Loss<T> sizes(a, call.parts, measure);
  }
  with_scratch(measure.used(), Call<T>::use, &call);
  return call.loss;
}

}  // namespace

double cross_entropy(const CrossEntropyArgs& a, const Threads& threads) {
  return a.dtype == DType::f64 ? loss_of<double>(a, threads) : loss_of<float>(a, threads);
}

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
