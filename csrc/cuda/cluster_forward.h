// Cluster family, forward: y, h_n, c_n and what backward needs, from the projected inputs.
//
// Per step: wait for h_{t-1} (all H units, 2 bytes each, from all blocks); each warp multiplies its group's gate
// rows by its half of the columns; the two warps of a group hand each other half of their sums, so that every thread
// holds all gates of one (unit, row); the cell; h_t goes to all blocks; then the outputs are stored. Everything that
// does not depend on h_{t-1} is done before the wait, and what a step loads was asked for one step before.
//
// Nobody waits for an "empty" buffer: a warp sends h_t only after it has received all of h_{t-1}, every warp of every
// peer sent its part of h_{t-1} only after it had read h_{t-2}, and h_t takes the place of h_{t-2}. This needs every
// warp that reads to send as well. The same argument covers the partial sums.
#pragma once
#include "cluster_kernels.h"
#include "fast_math.h"

namespace fusedrnn::cuda {

// Distances in bytes: from step to step (negative for direction 1) and from gate to gate.
struct ForwardStrides {
  int64_t x, y, gates, cells, rows, gate;

  template <class S, class T>
  __device__ __forceinline__ static ForwardStrides of(const ClusterForward<T>& a, const Place<S>& p) {
    const int64_t step = p.d ? -a.rows.B : a.rows.B, size = sizeof(T), gate = a.H * size;
    ForwardStrides by{step * a.gx_ld * size, step * a.D * gate, step * S::Cell::S * gate, step * a.H * 4, step, gate};
    for (int64_t* v : {&by.x, &by.y, &by.gates, &by.cells, &by.gate}) pin(*v);
    return by;
  }
};

inline constexpr int kAhead = 6;  // steps between a line's prefetch and the request for it

// What a thread carries from step to step for one tile. The pointers to inputs stand at the next step to ask for, the
// pointers to outputs at the next to store; none is used beyond `live`.
template <class S>
struct ForwardTile {
  int live, cuts;  // steps of the row: for its inputs and outputs (0 for padding), and for resets (0 without)
  const char *x, *reset, *line;  // line: what this lane wants in the L2 cache
  int64_t next_line;
  char *y, *gates, *cells;
  Fast h, c;                 // the state
  uint32_t raw[S::Cell::G];  // the next step's projected inputs, as stored
  uint32_t cut;              // whether the next step starts from zero
};

template <class S, class T>
__device__ __forceinline__ int64_t state_index(const ClusterForward<T>& a, const Place<S>& p, int j) {
  return (p.d * a.rows.B + p.row + j * kTileRows) * a.H + p.unit;
}

// Asks for the inputs of step s, which are used one step later (that hides the latency of the L2 cache), and for a line
// of a later step (that hides the memory's).
template <class S>
__device__ __forceinline__ void ask(const ForwardStrides& by, int s, ForwardTile<S>& tile) {
  const char* x = tile.x;
#pragma unroll
  for (int q = 0; q < S::Cell::G; q++) {
    tile.raw[q] = load2_if(s < tile.live, x);
    x += by.gate;
  }
  tile.x += by.x;
  prefetch_if(s + kAhead < tile.live, tile.line);
  tile.line += tile.next_line;
}
// The same of whether step s starts from zero.
template <class S>
__device__ __forceinline__ void ask_cut(const Place<S>& p, const ForwardStrides& by, int s, ForwardTile<S>& tile) {
  tile.cut = load1_if(s >= p.d && s < tile.cuts, tile.reset);
  tile.reset += by.rows;
}

template <class S, class T>
__device__ __forceinline__ void start_tile(const ClusterForward<T>& a, const Place<S>& p, const ForwardStrides& by,
                                           int j, ForwardTile<S>& tile) {
  const int64_t B = a.rows.B, b = p.row + j * kTileRows;
  const bool mine = b < B && p.unit < a.H;
  const int steps = b < B ? static_cast<int>(a.rows.length(b)) : 0;
  tile.live = mine ? steps : 0;
  tile.cuts = a.rows.resets ? steps : 0;
  const int64_t at = (p.d && steps ? steps - 1 : 0) * B + b, row = p.d * a.rows.T * B + at;
  tile.x = reinterpret_cast<const char*>(a.gx + row * a.gx_ld + p.unit);
  tile.reset = reinterpret_cast<const char*>(a.rows.resets) + (at + p.d * B);
  // Of its gates each lane names one; lanes of g = 4 name the resets, where there are any.
  const bool names_resets = p.g == 4 && a.rows.resets;
  tile.next_line = names_resets ? by.rows : by.x;
  tile.line = (names_resets ? tile.reset : tile.x + (p.g & 3) % S::Cell::G * by.gate) + kAhead * tile.next_line;
  tile.y = reinterpret_cast<char*>(a.y + (at * a.D + p.d) * a.H + p.unit) + PairStore<1>::offset(p.g, 0);
  tile.gates = reinterpret_cast<char*>(a.gates + row * S::Cell::S * a.H + p.unit) + PairStore<4>::offset(p.g, by.gate);
  tile.cells = reinterpret_cast<char*>(a.cells + row * a.H + p.unit);
  const int64_t state = state_index(a, p, j);
  tile.h = mine && a.h0 ? widen(a.h0[state]) : 0.f;
  tile.c = mine && a.c0 ? widen(a.c0[state]) : 0.f;
  pin(tile.live);
  pin(tile.cuts);
  pin(tile.next_line);
  if (!mine) return;
  for (int64_t t = steps; t < a.rows.T; t++) a.y[((t * B + b) * a.D + p.d) * a.H + p.unit] = narrow<T>(0.f);
}

// h0 of all rows and units of a tile becomes the operand of step 0. Each block reads it by itself.
template <class S, class T>
__device__ __forceinline__ void load_h0(const ClusterForward<T>& a, int d, int j, uint32_t operand) {
  const int64_t first = static_cast<int64_t>(blockIdx.x / S::kR) * (S::kTiles * kTileRows) + j * kTileRows;
  for (int e = static_cast<int>(threadIdx.x); e < kTileRows * S::kH; e += S::kThreads) {
    const int n = e / S::kH, k = e % S::kH;
    T h = narrow<T>(0.f);
    if (a.h0 && first + n < a.rows.B && k < a.H) h = a.h0[(d * a.rows.B + first + n) * a.H + k];
    store_shared2(operand + operand_offset(k / 8, n) + (k % 8) * 2, bits_of(h));
  }
}

// From the sums of the two warps of a group, each over half of the columns, to the sums of this thread's (unit, row):
// the rows of the other parity go to the other warp.
template <class S>
__device__ __forceinline__ void combine(const Place<S>& p, int barrier, uint32_t own, uint32_t others,
                                        const float (&sum)[S::kTiles][S::kM][4], float (&total)[S::kTiles][2 * S::kM]) {
#pragma unroll
  for (int j = 0; j < S::kTiles; j++) {
    Quad give{};
#pragma unroll
    for (int i = 0; i < 2 * S::kM; i++) {
      const float even = sum[j][i / 2][i % 2 * 2], odd = sum[j][i / 2][i % 2 * 2 + 1];
      total[j][i] = p.part ? odd : even;
      give.v[i] = bits_from(p.part ? even : odd);
    }
    store_shared16(own + static_cast<uint32_t>(j * S::kOwn), give);
  }
  named_barrier(barrier, 64);
#pragma unroll
  for (int j = 0; j < S::kTiles; j++) {
    const Quad got = load_shared16(others + static_cast<uint32_t>(j * S::kOwn));
#pragma unroll
    for (int i = 0; i < 2 * S::kM; i++) total[j][i] += float_from(got.v[i]);
  }
}

// How a warp's 8 units of 4 rows of h go to every block of the cluster: 64 bytes in one piece, which half a warp writes
// to one peer and the other half to the next. Lane l has 4 of those bytes: two units of one row.
template <class S>
struct Sender {
  uint32_t peers[S::kR / 2];  // of this half of the warp; turned by the rank, since all blocks run in step
  uint32_t to, from;          // where the bytes stand in a tile's operand, and the lane that has the first unit

  __device__ __forceinline__ Sender(const Place<S>& p, uint32_t base) {
    const int chunk = p.unit >> 3, at = p.lane & 15;
    to = static_cast<uint32_t>(S::kArrivalAt + chunk * 128 + p.part * 64 + at * 4);
    from = static_cast<uint32_t>((at & 3) * 8 + ((at >> 2) ^ (chunk & 3)));  // lane 4g + t with g = 2 (at & 3)
    pin(to);
    pin(from);
#pragma unroll
    for (int i = 0; i < S::kR / 2; i++)
      peers[i] = peer_address(base, static_cast<uint32_t>(2 * i + (p.lane >> 4) + p.rank) % S::kR);
  }
  __device__ __forceinline__ void send(uint32_t operand, uint32_t barrier, uint16_t h) const {
    const uint32_t low = __shfl_sync(~0u, static_cast<uint32_t>(h), static_cast<int>(from));
    const uint32_t high = __shfl_sync(~0u, static_cast<uint32_t>(h), static_cast<int>(from) + 4);
#pragma unroll
    for (int i = 0; i < S::kR / 2; i++) store_async(peers[i] + to + operand, low | high << 16, peers[i] + barrier);
  }
};

// Stores what step s of a tile leaves: y and what backward needs.
template <class S, class T>
__device__ __forceinline__ void store_outputs(const ClusterForward<T>& a, const Place<S>& p, const ForwardStrides& by,
                                              bool live, ForwardTile<S>& tile, uint16_t h, const Fast* saved) {
  using Cell = typename S::Cell;
  PairStore<1>::store(live, p.g, tile.y, 0, {h});
  tile.y += by.y;
  if constexpr (Cell::S > 0) {
    uint16_t bits[Cell::S];
#pragma unroll
    for (int q = 0; q < Cell::S; q++) bits[q] = narrow_bits<T>(saved[q].v);
    if (a.gates) PairStore<Cell::S>::store(live, p.g, tile.gates, by.gate, bits);
    tile.gates += by.gates;
  }
  if (Cell::has_cell) {
    store4_if(live && a.cells, tile.cells, bits_from(tile.c.v));
    tile.cells += by.cells;
  }
}

// Biases of a thread's unit: all of them join the inputs, but those of a gate whose recurrent part is wanted apart.
template <class S>
struct Biases {
  float joined[S::Cell::G], apart[S::Cell::G];

  template <class T>
  __device__ __forceinline__ void load(const ClusterForward<T>& a, const Place<S>& p) {
#pragma unroll
    for (int q = 0; q < S::Cell::G; q++) {
      const bool has = a.b_ih[p.d] && p.unit < a.H;
      const float ih = has ? widen(a.b_ih[p.d][q * a.H + p.unit]) : 0.f;
      const float hh = has ? widen(a.b_hh[p.d][q * a.H + p.unit]) : 0.f;
      joined[q] = S::kBiasesApart >> q & 1 ? ih : ih + hh;
      apart[q] = S::kBiasesApart >> q & 1 ? hh : 0.f;
    }
  }
};

template <class S, class T>
__global__ void __launch_bounds__(S::kThreads, 1) cluster_forward_kernel(const ClusterForward<T> a) {
#if FUSEDRNN_HAS_CLUSTERS
  using Cell = typename S::Cell;
  constexpr int G = Cell::G;
  constexpr uint32_t kBytes = S::kBuffer;
  FUSEDRNN_DYNAMIC_SHARED(memory);
  const uint32_t base = shared_address(memory);
  const Place<S> p;
  const ForwardStrides by = ForwardStrides::of(a, p);
  const int steps = longest_row<S>(a.rows);
  // h_s travels to buffer and barrier (s+1) & 1; the last step sends nothing. h0 counts as arrived.
  if (threadIdx.x == 0) {
    phase_init(base);
    phase_init(base + 8);
    phase_init_fence();
    phase_arm(base, 0);
    if (steps > 1) phase_arm(base + 8, kBytes);
  }
  Stationary<S> weights;
  weights.load(a.weights, p, base);
  Biases<S> bias;
  bias.load(a, p);
  ForwardTile<S> tiles[S::kTiles] = {};
#pragma unroll
  for (int j = 0; j < S::kTiles; j++) {
    start_tile<S>(a, p, by, j, tiles[j]);
    load_h0<S>(a, p.d, j, base + S::kArrivalAt + j * S::kArrival);
    ask(by, 0, tiles[j]);
    ask_cut(p, by, 0, tiles[j]);
  }
  const Sender<S> sender(p, base);
  uint32_t operand = base + S::kArrivalAt + operand_offset(p.part * S::kBlocks * 4 + p.t, p.g);
  uint32_t own = base + S::kOwnAt + static_cast<uint32_t>(threadIdx.x) * 16;
  uint32_t others = base + S::kOwnAt + (static_cast<uint32_t>(threadIdx.x) ^ 32) * 16;  // of the group's other warp
  uint32_t first_thread = threadIdx.x == 0;
  int group_barrier = 1 + (p.warp >> 1);
  pin(operand);
  pin(own);
  pin(others);
  pin(group_barrier);
  pin(first_thread);
  cluster_barrier();  // the peers exist, their barriers are initialised, h0 is complete

  for (int s = 0; s < steps; s++) {
    const uint32_t now = s & 1, next = now ^ 1;
    Fast x[S::kTiles][G];
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) {
      ForwardTile<S>& tile = tiles[j];
#pragma unroll
      for (int q = 0; q < G; q++) {
        pin(tile.raw[q]);
        x[j][q] = widen(from_bits_of<T>(static_cast<uint16_t>(tile.raw[q]))) + bias.joined[q];
      }
      ask(by, s + 1, tile);
    }
    uint32_t at = operand + now * kBytes, barrier = base + now * 8;
    pin(at);
    pin(barrier);
    phase_wait(barrier, static_cast<uint32_t>(s >> 1) & 1);
    if (first_thread && s + 2 < steps) phase_arm(barrier, kBytes);  // for h_{s+1}
    float sum[S::kTiles][S::kM][4], total[S::kTiles][2 * S::kM];
    product<S, T>(weights, at, S::kArrival, sum);
    combine<S>(p, group_barrier, own, others, sum, total);
    Fast h[S::kTiles], c[S::kTiles], saved[S::kTiles][Cell::S ? Cell::S : 1];
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) {
      ForwardTile<S>& tile = tiles[j];
      Fast rec[G];
      pin(tile.cut);
      const bool cut = tile.cut != 0;
      tile.h = cut ? Fast(0.f) : tile.h;
      tile.c = cut ? Fast(0.f) : tile.c;
#pragma unroll
      for (int q = 0; q < G; q++) {
        rec[q] = cut ? 0.f : total[j][q];
        if (S::kBiasesApart >> q & 1) rec[q] = rec[q] + bias.apart[q];
      }
      Cell::forward(x[j], rec, tile.h, tile.c, h[j], c[j], saved[j]);
    }
    uint16_t bits[S::kTiles];
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) {
      bits[j] = narrow_bits<T>(h[j].v);
      if (s + 1 < steps) sender.send(next * kBytes + j * S::kArrival, next * 8, bits[j]);
    }
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) {
      const bool live = s < tiles[j].live;
      tiles[j].h = live ? h[j] : tiles[j].h;
      if (Cell::has_cell) tiles[j].c = live ? c[j] : tiles[j].c;
      ask_cut(p, by, s + 1, tiles[j]);
      store_outputs(a, p, by, live, tiles[j], bits[j], saved[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < S::kTiles; j++) {
    if (p.row + j * kTileRows >= a.rows.B || p.unit >= a.H) continue;
    a.h_n[state_index(a, p, j)] = narrow<T>(tiles[j].h.v);
    if (Cell::has_cell) a.c_n[state_index(a, p, j)] = narrow<T>(tiles[j].c.v);
  }
  cluster_barrier_relaxed();  // nobody leaves while a peer's stores are on their way to it
#endif
}

template <class Cell, class T>
ForwardKernel<T> cluster_forward_variant(int variant) {
#define FUSEDRNN_VARIANT(H, R, TILES) cluster_forward_kernel<ClusterShape<Cell, H, R, TILES, false>, T>,
  static constexpr ForwardKernel<T> kVariants[] = {FUSEDRNN_CLUSTER_SHAPES(FUSEDRNN_VARIANT)};
#undef FUSEDRNN_VARIANT
  return kVariants[variant];
}

// The body of a file that compiles all variants of one cell.
#define FUSEDRNN_CLUSTER_FORWARD(CELL)                                          \
  namespace fusedrnn::cuda {                                                    \
  template ForwardKernel<bf16> cluster_forward_variant<cells::CELL, bf16>(int); \
  template ForwardKernel<f16> cluster_forward_variant<cells::CELL, f16>(int);   \
  }

}  // namespace fusedrnn::cuda
