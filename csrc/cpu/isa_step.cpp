// One streaming step: T = 1, one direction, nothing saved. Every unit is computed from the rows of
// the weights as they stand, because packing them for one step would cost more than the step.
//
// A block of L units reads, gate by gate, L rows of W_ih and W_hh against x and h: L accumulators,
// then one tree of additions that leaves the sum of row u in lane u. Blocks need nothing from each
// other, so threads take runs of them. Several rows of the batch go through the tiles of row_tiles.h.
#include "../cells/all.h"
#include "entry.h"
#include "row_tiles.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

constexpr int64_t kWeightsPerThread = 1 << 19;  // elements below which a second thread costs more than it brings

// Bytes of weights up to which the rows that come next are prefetched. While sums are added up and the cell does its
// maths, too few loads are under way to keep the second-level cache busy: prefetching brings a tenth there, and costs a
// tenth from the third level. 512 KiB is the second level of the machine where that was measured, with vectors of 32
// bytes and I = H.
constexpr int64_t kMostPrefetched = sizeof(Vec<float>) == 32 ? 1 << 19 : 0;

// Memory that is read next: n elements, or none.
template <class T>
struct Next {
  const T* p = nullptr;
  int64_t n = 0;
};

// acc[u] += rows[min(u, last)] * v, lane by lane, over k elements. Rows past the last are read
// again and not used. Prefetches what comes next, as far as these rows are long.
template <class T>
FUSEDRNN_INLINE void multiply_rows(Vec<T> (&acc)[kLanes<T>], const T* rows, int64_t last, const T* v, int64_t k,
                                   Next<T> next) {
  constexpr int L = kLanes<T>, kLine = 64 / sizeof(T), kRowLines = L * L / kLine;
  const T* row[L];
  FUSEDRNN_UNROLL
  for (int u = 0; u < L; u++) row[u] = rows + min64(u, last) * k;
  int64_t i = 0;
  for (; i + L <= k; i += L) {
    const Vec<T> x = load(v + i);
    FUSEDRNN_UNROLL
    for (int u = 0; u < L; u++) acc[u] += x * load(row[u] + i);
    if (i * L + L * L <= next.n) {
      FUSEDRNN_UNROLL
      for (int n = 0; n < kRowLines; n++) __builtin_prefetch(next.p + i * L + n * kLine);
    }
  }
  if (i == k) return;
  const Vec<T> x = load_part(v + i, k - i);
  FUSEDRNN_UNROLL
  for (int u = 0; u < L; u++) acc[u] += x * load_part(row[u] + i, k - i);
}

template <class T>
struct Step {
  const ForwardArgs& a;
  const T *w_ih = static_cast<const T*>(a.w[0].ih), *w_hh = static_cast<const T*>(a.w[0].hh),
          *b_ih = static_cast<const T*>(a.w[0].b_ih), *b_hh = static_cast<const T*>(a.w[0].b_hh);
  bool prefetches = false;

  // W_ih x of gate rows first .. first+last, by lane, for token ids: a column of W_ih.
  FUSEDRNN_INLINE Vec<T> column(int64_t first, int64_t last, int64_t id) const {
    Vec<T> v{};
    for (int64_t u = 0; u <= last; u++) v[u] = w_ih[(first + u) * a.n.I + id];
    return v;
  }

  // A batch of one row.
  template <class Cell, class Lanes>
  FUSEDRNN_INLINE void block(Lanes lanes, int64_t j, int64_t width) const {
    constexpr int G = Cell::G, L = kLanes<T>;
    const int64_t H = a.n.H, I = a.n.I, last = width - 1;
    const T *x = static_cast<const T*>(a.x), *h = static_cast<const T*>(a.h0);
    Vec<T> xs[G], as[G];
    for (int g = 0; g < G; g++) {
      const int64_t first = g * H + j;
      const T *ih = w_ih + first * I, *hh = w_hh + first * H;
      Next<T> own_hh, then;
      if (prefetches) {
        own_hh = {hh, width * H};
        if (g + 1 < G)
          then = {ih + H * I, width * I};
        else if (j + L < H)
          then = {w_ih + (j + L) * I, min64(L, H - j - L) * I};
      }
      Vec<T> acc[L] = {}, own[L] = {};
      xs[g] = as[g] = Vec<T>{};
      if (a.ids)
        xs[g] = column(first, last, a.ids[0]);
      else
        multiply_rows(acc, ih, last, x, I, own_hh);
      // Where both sums meet in one argument, one tree adds them up.
      if (Cell::h_bias_apart(g)) {
        if (h) multiply_rows(own, hh, last, h, H, then);
        as[g] = sums<T>(own);
        if (b_hh) as[g] += lanes.get(b_hh + first);
      } else {
        if (h) multiply_rows(acc, hh, last, h, H, then);
        if (b_hh) xs[g] += lanes.get(b_hh + first);
      }
      xs[g] += sums<T>(acc);
      if (b_ih) xs[g] += lanes.get(b_ih + first);
    }
    finish<Cell>(lanes, j, 0, xs, as);
  }

  // The same for `count` rows of the batch from `first_row` on, at most kRowsAtOnce: the same additions for each. Not
  // inlined, which would cost the batch of one row 5 to 10 %.
  template <class Cell, class Lanes>
  __attribute__((noinline)) void block_of_rows(Lanes lanes, int64_t j, int64_t width, int64_t first_row,
                                               int64_t count) const {
    constexpr int G = Cell::G;
    const int64_t H = a.n.H, I = a.n.I, last = width - 1;
    const T* const x = a.x ? static_cast<const T*>(a.x) + first_row * I : nullptr;
    const T* const h = a.h0 ? static_cast<const T*>(a.h0) + first_row * H : nullptr;
    Vec<T> xs[kRowsAtOnce][G], as[kRowsAtOnce][G];
    for (int g = 0; g < G; g++) {
      const int64_t first = g * H + j;
      const Vec<T> b_h = b_hh ? lanes.get(b_hh + first) : Vec<T>{}, b_x = b_ih ? lanes.get(b_ih + first) : Vec<T>{};
      const auto id = [&](int64_t r) { return a.ids ? column(first, last, a.ids[first_row + r]) : Vec<T>{}; };
      gate_of_rows<Lie::standing>(Factors<T>{w_ih + first * I, x, x ? I : 0},
                                  Factors<T>{w_hh + first * H, h, h ? H : 0}, Cell::h_bias_apart(g), last, count, id,
                                  b_x, b_h, &xs[0][g], &as[0][g], G);
    }
    for (int64_t r = 0; r < count; r++) finish<Cell>(lanes, j, first_row + r, xs[r], as[r]);
  }

  // The cell's maths of a block of a row.
  template <class Cell, class Lanes>
  FUSEDRNN_INLINE void finish(Lanes lanes, int64_t j, int64_t row, const Vec<T> (&xs)[Cell::G],
                              const Vec<T> (&as)[Cell::G]) const {
    const int64_t at = row * a.n.H + j;
    const Vec<T> h_old = a.h0 ? lanes.get(static_cast<const T*>(a.h0) + at) : Vec<T>{};
    const Vec<T> c_old = a.c0 ? lanes.get(static_cast<const T*>(a.c0) + at) : Vec<T>{};
    Vec<T> saved[Cell::S > 0 ? Cell::S : 1], h_new, c_new{};
    Cell::forward(xs, as, h_old, c_old, h_new, c_new, saved);
    lanes.put(static_cast<T*>(a.h_n) + at, h_new);
    if (a.y) lanes.put(static_cast<T*>(a.y) + at, h_new);
    if (Cell::has_cell) lanes.put(static_cast<T*>(a.c_n) + at, c_new);
  }

  template <class Cell, class Lanes>
  FUSEDRNN_INLINE void rows_of_block(Lanes lanes, int64_t j, int64_t width) const {
    if (a.n.B == 1) return block<Cell>(lanes, j, width);
    split_rows(a.n.B, kRowsAtOnce, [&](int64_t row, int rows) { block_of_rows<Cell>(lanes, j, width, row, rows); });
  }

  template <class Cell>
  void blocks(int64_t begin, int64_t end) const {
    constexpr int L = kLanes<T>;
    for (int64_t i = begin; i < end; i++) {
      const int64_t j = i * L, width = min64(L, a.n.H - j);
      if (width == L)
        rows_of_block<Cell>(Whole{}, j, width);
      else
        rows_of_block<Cell>(Part{width}, j, width);
    }
  }
};

template <class T>
using Run = void (*)(const Step<T>&, int64_t, int64_t);
#define FUSEDRNN_RUN(C) [](const Step<T>& s, int64_t b, int64_t e) { s.template blocks<cells::C>(b, e); },

template <class T>
struct Job {
  Step<T> step;
  Run<T> run;
  int64_t blocks, parts;
  static void body(void* ctx, int64_t i) {
    const Job& j = *static_cast<const Job*>(ctx);
    j.run(j.step, j.blocks * i / j.parts, j.blocks * (i + 1) / j.parts);
  }
};

template <class T>
void step_of(const ForwardArgs& a, const Threads& threads) {
  static constexpr Run<T> kRuns[] = {FUSEDRNN_CELLS(FUSEDRNN_RUN)};
  const Dims& n = a.n;
  const int64_t blocks = ceil_div(n.H, kLanes<T>);
  const int64_t work = cells::kCells[a.cell].G * n.H * (n.I + n.H) * n.B;
  const int64_t parts = max64(1, min64(min64(threads.count, blocks), work / kWeightsPerThread));
  Job<T> job{{a}, kRuns[a.cell], blocks, parts};
  // Not where a batch reads a block's weights again from the first level, and token ids few of W_ih's.
  job.step.prefetches = n.B == 1 && a.h0 && !a.ids && work * int64_t(sizeof(T)) <= kMostPrefetched;
  if (parts == 1)
    Job<T>::body(&job, 0);
  else
    threads.run(parts, &Job<T>::body, &job);
}

}  // namespace

bool step(const ForwardArgs& a, const Threads& threads) {
  const bool whole = a.n.T == 1 && a.n.D == 1 && a.n.B > 0 && a.n.B <= kMostStepRows && !a.w[0].hr && !a.lengths &&
                     !a.resets && !a.gates && !a.cells;
  if (!whole) return false;
  if (a.dtype == DType::f32)
    step_of<float>(a, threads);
  else if (a.dtype == DType::f64)
    step_of<double>(a, threads);
  else
    return false;
  return true;
}

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
