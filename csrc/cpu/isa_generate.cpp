// Generation of up to kMostStepRows rows in float or double: all weights packed once, in the order in which a step of
// isa_step.cpp multiplies them, so that the states are the same bits as those of that step, and memory is read straight
// on.
//
// A round is a phase for the logits, one for the draws and one for each layer; threads share the blocks of each.
#include "../cells/all.h"
#include "entry.h"
#include "generate.h"
#include "pack.h"
#include "row_tiles.h"
#include "scratch.h"
#include "team.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

constexpr int64_t kWeightsPerThread = 1 << 16;  // elements below which a second thread costs more than it brings
constexpr int64_t kLargestTable = 64 << 20;     // bytes
constexpr int64_t kHeadBlock = kLanes<double>;

// acc[u] += row u * v, lane by lane, over k elements; w: [chunk of L elements][row u][L].
template <class T>
FUSEDRNN_INLINE void multiply_packed(Vec<T> (&acc)[kLanes<T>], const T* w, const T* v, int64_t k) {
  constexpr int L = kLanes<T>;
  int64_t i = 0;
  for (; i + L <= k; i += L, w += L * L) {
    const Vec<T> x = load(v + i);
    FUSEDRNN_UNROLL
    for (int u = 0; u < L; u++) acc[u] += x * *reinterpret_cast<const Vec<T>*>(w + u * L);
  }
  if (i == k) return;
  const Vec<T> x = load_part(v + i, k - i);
  FUSEDRNN_UNROLL
  for (int u = 0; u < L; u++) acc[u] += x * *reinterpret_cast<const Vec<T>*>(w + u * L);
}

// Rows first .. first+width-1 of w [.., K], `units` of them at a time, to what is read straight on: by multiply_packed,
// L units, or by the tiles of row_tiles.h; 0 beyond the rows.
template <class T>
void pack_block(const T* w, int64_t first, int64_t width, int64_t K, int64_t units, T* to) {
  constexpr int L = kLanes<T>;
  for (int64_t u0 = 0; u0 < L; u0 += units)
    for (int64_t i = 0; i < K; i += L)
      for (int64_t u = u0; u < u0 + units; u++, to += L)
        for (int64_t k = 0; k < L; k++) to[k] = u < width && i + k < K ? w[(first + u) * K + i + k] : T(0);
}

template <class T>
struct Layer {
  T *ih, *hh;  // packed: [block][gate], each as pack_block leaves it
  const T *w_ih, *w_hh, *b_ih, *b_hh;
  int64_t I;
};

template <class T>
struct Rows {
  static constexpr int L = kLanes<T>;
  const GenerateArgs& a;
  const cells::CellInfo& cell;
  const int64_t B, H, G, blocks, h_ld, v_ld;
  const bool by_table;
  Layer<T>* layers;
  T* inputs;    // [B][I]: the rows of the embedding that the tokens choose
  T* table;     // [V][block][gate][lane]: columns of the first W_ih
  T *h[2], *c;  // [layer][B][H]; h before and after a round, in turn
  double *top, *logits, *scores, *weights;
  int64_t *order, *token;
  bool* mark;
  bool failed = false;
  int64_t rounds;  // that the layers read

  Rows(const GenerateArgs& args, Arena& arena)
      : a(args),
        cell(cells::kCells[args.layers[0].cell]),
        B(args.layers[0].n.B),
        H(args.layers[0].n.H),
        G(cell.G),
        blocks(ceil_div(H, L)),
        h_ld(padded(H)),
        v_ld(padded(args.V)),
        by_table(!args.embedding && args.V <= args.steps * B && args.V * blocks * G * kVectorBytes <= kLargestTable),
        rounds(args.steps) {
    layers = arena.take<Layer<T>>(a.count);
    for (int64_t l = 0; l < a.count; l++) {
      const int64_t I = a.layers[l].n.I;
      T* ih = l > 0 || a.embedding ? arena.take<T>(packed_size(I)) : nullptr;
      T* hh = arena.take<T>(packed_size(H));
      const Weights& w = a.layers[l].w[0];
      if (layers)
        layers[l] = {ih,
                     hh,
                     static_cast<const T*>(w.ih),
                     static_cast<const T*>(w.hh),
                     static_cast<const T*>(w.b_ih),
                     static_cast<const T*>(w.b_hh),
                     I};
    }
    inputs = a.embedding ? arena.take<T>(B * a.layers[0].n.I) : nullptr;
    table = by_table ? arena.take<T>(a.V * blocks * G * L) : nullptr;
    for (T*& state : h) state = arena.take<T>(a.count * B * H);
    c = arena.take<T>(cell.has_cell ? a.count * B * H : 0);
    top = arena.take<double>(B * h_ld);
    logits = arena.take<double>(B * v_ld);
    scores = arena.take<double>(v_ld);
    weights = arena.take<double>(v_ld);
    order = arena.take<int64_t>(v_ld);
    token = arena.take<int64_t>(B);
    mark = arena.take<bool>(v_ld);
  }

  int64_t packed_size(int64_t K) const { return blocks * G * ceil_div(K, L) * L * L; }
  const T* packed_at(const T* packed, int64_t block, int64_t g, int64_t K) const {
    return packed + (block * G + g) * ceil_div(K, L) * L * L;
  }
  static int64_t bound(int64_t n, int i, int m) { return n * i / m; }

  // ---- before the first round

  void load_state() {
    const int64_t n = a.count * B * H;
    __builtin_memcpy(h[0], a.h, n * sizeof(T));
    if (cell.has_cell) __builtin_memcpy(c, a.c, n * sizeof(T));
    for (int64_t b = 0; b < B; b++)
      for (int64_t j = 0; j < H; j++) top[b * h_ld + j] = double(h[0][((a.count - 1) * B + b) * H + j]);
    for (int64_t v = 0; v < v_ld; v++) mark[v] = false;
  }

  void pack(int64_t l, int64_t begin, int64_t end) {
    const Layer<T>& layer = layers[l];
    for (int64_t i = begin; i < end; i++)
      for (int64_t g = 0; g < G; g++) {
        const int64_t first = g * H + i * L, width = min64(L, H - i * L), units = B == 1 ? L : kTileUnits<T>;
        const auto pack_from = [&](const T* w, int64_t K, const T* to) {
          pack_block(w, first, width, K, units, const_cast<T*>(packed_at(to, i, g, K)));
        };
        if (layer.ih) pack_from(layer.w_ih, layer.I, layer.ih);
        pack_from(layer.w_hh, H, layer.hh);
        if (l == 0 && by_table)
          pack_transposed(layer.w_ih + first * a.V, a.V, a.V, width, table + (i * G + g) * L, blocks * G * L);
      }
  }

  // ---- one round

  void draw_all(int64_t s) {
    for (int64_t b = 0; b < B; b++) {
      double* logprob = a.logprobs + s * B + b;
      const int64_t count = a.lengths[b];
      int64_t* history = a.history + b * a.capacity;
      const Draw d = {a.sampling,        a.V,    a.banned, history, count, a.uniform[s * B + b],
                      logits + b * v_ld, scores, weights,  order,   mark};
      token[b] = failed ? -1 : draw(d, logprob);
      if (token[b] < 0) {
        if (!failed) rounds = s;
        failed = true;
        *logprob = __builtin_nan("");
      } else {
        history[count] = token[b];
        a.lengths[b] = count + 1;
      }
    }
    const int64_t I = layers[0].I;
    for (int64_t b = 0; inputs && !failed && b < B; b++)
      __builtin_memcpy(inputs + b * I, static_cast<const T*>(a.embedding) + token[b] * I, I * sizeof(T));
  }

  // W_ih x of a block of a gate where x is a one-hot row: a column.
  FUSEDRNN_INLINE Vec<T> column(const Layer<T>& layer, int64_t i, int64_t g, int64_t width, int64_t b) const {
    if (by_table) return load(table + ((token[b] * blocks + i) * G + g) * L);
    Vec<T> v{};
    for (int64_t u = 0; u < width; u++) v[u] = layer.w_ih[(g * H + i * L + u) * layer.I + token[b]];
    return v;
  }

  FUSEDRNN_INLINE const T* input(int64_t l, int64_t b, const T* after) const {
    if (l > 0) return after + ((l - 1) * B + b) * H;
    return inputs ? inputs + b * layers[0].I : nullptr;
  }

  // A block of a batch of one row. The additions of isa_step.cpp, in its order.
  template <class Cell, class Lanes>
  FUSEDRNN_INLINE void block(Lanes lanes, int64_t l, int64_t i, int64_t width, const T* before, T* after) {
    constexpr int N = Cell::G;
    const Layer<T>& layer = layers[l];
    const int64_t j = i * L;
    Vec<T> xs[N], as[N];
    for (int g = 0; g < N; g++) {
      const T *w_h = packed_at(layer.hh, i, g, H), *x = input(l, 0, after), *h_old = before + l * H;
      Vec<T> acc[L] = {}, own[L] = {};
      Vec<T>&to = xs[g], &apart = as[g];
      to = apart = Vec<T>{};
      if (x)
        multiply_packed(acc, packed_at(layer.ih, i, g, layer.I), x, layer.I);
      else
        to = column(layer, i, g, width, 0);
      if (Cell::h_bias_apart(g)) {
        multiply_packed(own, w_h, h_old, H);
        apart = sums<T>(own);
        if (layer.b_hh) apart += lanes.get(layer.b_hh + g * H + j);
      } else {
        multiply_packed(acc, w_h, h_old, H);
        if (layer.b_hh) to += lanes.get(layer.b_hh + g * H + j);
      }
      to += sums<T>(acc);
      if (layer.b_ih) to += lanes.get(layer.b_ih + g * H + j);
    }
    finish<Cell>(lanes, l, i, width, 0, xs, as, before, after);
  }

  // The same for rows b0 .. b0+count-1, at most kRowsAtOnce.
  template <class Cell, class Lanes>
  __attribute__((noinline)) void block_of_rows(Lanes lanes, int64_t l, int64_t i, int64_t width, const T* before,
                                               T* after, int64_t b0, int64_t count) {
    constexpr int N = Cell::G;
    const Layer<T>& layer = layers[l];
    const int64_t j = i * L;
    const T* const x = input(l, b0, after);
    Vec<T> xs[kRowsAtOnce][N], as[kRowsAtOnce][N];
    for (int g = 0; g < N; g++) {
      const Vec<T> b_h = layer.b_hh ? lanes.get(layer.b_hh + g * H + j) : Vec<T>{};
      const Vec<T> b_x = layer.b_ih ? lanes.get(layer.b_ih + g * H + j) : Vec<T>{};
      const auto id = [&](int64_t r) { return x ? Vec<T>{} : column(layer, i, g, width, b0 + r); };
      const Factors<T> from_input = {x ? packed_at(layer.ih, i, g, layer.I) : nullptr, x, x ? layer.I : 0};
      const Factors<T> from_state = {packed_at(layer.hh, i, g, H), before + (l * B + b0) * H, H};
      gate_of_rows<Lie::interleaved>(from_input, from_state, Cell::h_bias_apart(g), width - 1, count, id, b_x, b_h,
                                     &xs[0][g], &as[0][g], N);
    }
    for (int64_t r = 0; r < count; r++) finish<Cell>(lanes, l, i, width, b0 + r, xs[r], as[r], before, after);
  }

  // The cell's maths of a block of row b.
  template <class Cell, class Lanes>
  FUSEDRNN_INLINE void finish(Lanes lanes, int64_t l, int64_t i, int64_t width, int64_t b, const Vec<T> (&xs)[Cell::G],
                              const Vec<T> (&as)[Cell::G], const T* before, T* after) {
    const int64_t j = i * L, at = (l * B + b) * H + j;
    const Vec<T> h_old = lanes.get(before + at), c_old = Cell::has_cell ? lanes.get(c + at) : Vec<T>{};
    Vec<T> saved[Cell::S > 0 ? Cell::S : 1], h_new, c_new{};
    Cell::forward(xs, as, h_old, c_old, h_new, c_new, saved);
    lanes.put(after + at, h_new);
    if (Cell::has_cell) lanes.put(c + at, c_new);
    if (l == a.count - 1)
      for (int64_t u = 0; u < width; u++) top[b * h_ld + j + u] = double(h_new[u]);
  }

  template <class Cell, class Lanes>
  FUSEDRNN_INLINE void rows_of_block(Lanes lanes, int64_t l, int64_t i, int64_t width, const T* before, T* after) {
    if (B == 1) return block<Cell>(lanes, l, i, width, before, after);
    split_rows(B, kRowsAtOnce,
               [&](int64_t b0, int count) { block_of_rows<Cell>(lanes, l, i, width, before, after, b0, count); });
  }

  // To and fro over the blocks, round by round: the weights used last are still in the cache.
  template <class Cell>
  void layer_blocks(int64_t l, int64_t begin, int64_t end, int64_t s) {
    const T* before = h[s & 1];
    T* after = h[(s + 1) & 1];
    for (int64_t k = begin; k < end; k++) {
      const int64_t i = s & 1 ? begin + end - 1 - k : k, width = min64(L, H - i * L);
      if (width == L)
        rows_of_block<Cell>(Whole{}, l, i, width, before, after);
      else
        rows_of_block<Cell>(Part{width}, l, i, width, before, after);
    }
  }

  // ---- the order of things

  template <class Cell>
  void round(Member& m, int64_t s) {
    const int64_t groups = ceil_div(a.V, kHeadBlock);
    if (m.enter()) {
      const Head from = {a.layers[0].dtype, B, H, a.head, a.head_bias};
      const int64_t begin = bound(groups, m.rank(), m.size()), end = bound(groups, m.rank() + 1, m.size());
      if (!failed) head(from, top, h_ld, begin * kHeadBlock, min64(end * kHeadBlock, a.V), logits, v_ld);
      m.leave();
    }
    if (m.enter()) {
      if (m.rank() == 0) draw_all(s);
      m.leave();
    }
    for (int64_t l = 0; l < a.count; l++)
      if (m.enter()) {
        if (!failed) layer_blocks<Cell>(l, bound(blocks, m.rank(), m.size()), bound(blocks, m.rank() + 1, m.size()), s);
        m.leave();
      }
  }

  template <class Cell>
  static void run(void* self, Member& m) {
    Rows& r = *static_cast<Rows*>(self);
    if (m.enter()) {
      if (m.rank() == 0) r.load_state();
      for (int64_t l = 0; l < r.a.count; l++)
        r.pack(l, bound(r.blocks, m.rank(), m.size()), bound(r.blocks, m.rank() + 1, m.size()));
      m.leave();
    }
    // A member that is behind may not see that the draws failed, so nobody stops before the end.
    for (int64_t s = 0; s < r.a.steps; s++) r.template round<Cell>(m, s);
  }

  void store_state() {
    const int64_t n = a.count * B * H;
    __builtin_memcpy(a.h, h[rounds & 1], n * sizeof(T));
    if (cell.has_cell) __builtin_memcpy(a.c, c, n * sizeof(T));
  }
};

using Work = void (*)(void*, Member&);
#define FUSEDRNN_WORK(C) Rows<T>::template run<cells::C>,

template <class T>
struct Call {
  const GenerateArgs& a;
  const Threads& threads;
  static void use(void* self, char* block) {
    static constexpr Work kWorks[] = {FUSEDRNN_CELLS(FUSEDRNN_WORK)};
    const Call& call = *static_cast<Call*>(self);
    Arena arena(block);
    Rows<T> rows(call.a, arena);
    int64_t weights = rows.H * call.a.V;
    for (int64_t l = 0; l < call.a.count; l++)
      weights += rows.G * rows.H * (rows.H + (l > 0 || call.a.embedding ? call.a.layers[l].n.I : 0));
    const int limit = int(max64(1, min64(min64(call.threads.count, kMaxTeam), weights * rows.B / kWeightsPerThread)));
    run_team(call.threads, limit, kWorks[call.a.layers[0].cell], &rows);
    rows.store_state();
  }
};

template <class T>
void generate_of(const GenerateArgs& a, const Threads& threads) {
  Arena measure(nullptr);
  {
    Rows<T> sizes(a, measure);
  }
  Call<T> call = {a, threads};
  with_scratch(measure.used(), Call<T>::use, &call);
}

}  // namespace

bool generate_rows(const GenerateArgs& a, const Threads& threads) {
  if (a.layers[0].n.B < 1 || a.layers[0].n.B > kMostStepRows) return false;
  a.layers[0].dtype == DType::f32 ? generate_of<float>(a, threads) : generate_of<double>(a, threads);
  return true;
}

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
