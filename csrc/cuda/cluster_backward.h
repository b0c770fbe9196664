// Cluster family, backward: the gradients of the gates' arguments (dgates), of h0 and of c0.
//
// W_hh^T is stationary: a block holds the columns of its own gate rows. Per step: wait for the R partial sums of
// dh of the block's own units and add them in the order of the ranks; the cell's derivative; dgates to the block's own
// shared memory (and to device memory); a barrier of the block; then W_hh^T dgates, a partial dh for all units, goes to
// the units' owners. Step s of a row is the s-th from its end, so all rows start together and short rows end early.
//
// Buffers: what arrives for step s+1 takes the place of what step s-1 read; a peer sends it only after it has heard
// from this block at step s-1, which was after the barrier that followed the reading. dgates alternate too, because a
// warp sends only to the owners of its units, so a sibling may be a step ahead of a warp that still reads.
#pragma once
#include "cluster_kernels.h"
#include "fast_math.h"

namespace fusedrnn::cuda {

// Distances in bytes: from a backward step to the next (direction 0 walks down in time, direction 1 up) and from gate
// to gate.
struct BackwardStrides {
  int64_t saved, y, cells, dgates, rows, gate;

  template <class S, class T>
  __device__ __forceinline__ static BackwardStrides of(const ClusterBackward<T>& a, const Place<S>& p) {
    const int64_t step = p.d ? a.rows.B : -a.rows.B, gate = a.H * static_cast<int64_t>(sizeof(T));
    BackwardStrides by{
        step * S::Cell::S * gate, step * a.D * gate, step * a.H * 4, step * S::Cell::N * gate, step, gate};
    for (int64_t* v : {&by.saved, &by.y, &by.cells, &by.dgates, &by.gate}) pin(*v);
    return by;
  }
};

// What a thread carries from step to step for one tile. The pointers to inputs stand at the next step to ask for (y and
// cells at the state before it), the pointer to outputs at the next to store; none is used beyond `live`.
template <class S>
struct BackwardTile {
  int live, steps, cuts;  // steps of the row: for inputs and outputs (0 for padding), its own, and for resets
  const char *saved, *dy, *y, *cells, *reset, *line;  // line: what this lane wants in the L2 cache
  int64_t next_line;
  char* dgates;
  float dc, direct;  // into the next step: the gradient of c_t, and the part of dh_t that does not pass through W_hh
  float dh;          // of the state that entered the row's first step
  float c, h0, c0;   // c_t of the next step; the initial state
  uint32_t raw[S::Cell::S ? S::Cell::S : 1], raw_dy, raw_h, raw_before, raw_c;
  uint32_t cut;  // whether the next step (in time) started from zero
};

template <class S, class T>
__device__ __forceinline__ int64_t state_index(const ClusterBackward<T>& a, const Place<S>& p, int j) {
  return (p.d * a.rows.B + p.row + j * kTileRows) * a.H + p.unit;
}

// Asks for the inputs of backward step s, used one step later, and for a line of a later step.
template <class S, class T>
__device__ __forceinline__ void ask(const ClusterBackward<T>& a, const BackwardStrides& by, int s,
                                    BackwardTile<S>& tile) {
  using Cell = typename S::Cell;
  const bool live = s < tile.live, follows = s + 1 < tile.live;
  if (Cell::S) {
    const char* saved = tile.saved;
#pragma unroll
    for (int q = 0; q < Cell::S; q++) {
      tile.raw[q] = load2_if(live, saved);
      saved += by.gate;
    }
    tile.saved += by.saved;
  }
  tile.raw_dy = load2_if(live && a.dy, tile.dy);
  tile.dy += by.y;
  if (Cell::has_cell) {
    tile.raw_c = load4_if(follows, tile.cells);
    tile.cells += by.cells;
  }
  if (Cell::S == 0) tile.raw_h = load2_if(live, tile.y - by.y);
  if (Cell::reads_h_prev) tile.raw_before = load2_if(follows, tile.y);
  if (Cell::S == 0 || Cell::reads_h_prev) tile.y += by.y;
  prefetch_if(s + 7 < tile.live, tile.line);
  tile.line += tile.next_line;
}
// The same of whether step s (in time) started from zero.
template <class S>
__device__ __forceinline__ void ask_cut(const BackwardStrides& by, int s, BackwardTile<S>& tile) {
  tile.cut = load1_if(s < tile.cuts, tile.reset);
  tile.reset += by.rows;
}

template <class S, class T>
__device__ __forceinline__ void start_tile(const ClusterBackward<T>& a, const Place<S>& p, const BackwardStrides& by,
                                           int j, BackwardTile<S>& tile) {
  using Cell = typename S::Cell;
  const int64_t B = a.rows.B, b = p.row + j * kTileRows;
  const bool mine = b < B && p.unit < a.H;
  tile.steps = b < B ? static_cast<int>(a.rows.length(b)) : 0;
  tile.live = mine ? tile.steps : 0;
  tile.cuts = a.rows.resets ? tile.steps - p.d : 0;  // in direction 1 nothing cuts the last step, which came first
  const int64_t at = (p.d == 0 && tile.steps ? tile.steps - 1 : 0) * B + b, row = p.d * a.rows.T * B + at;
  const char* cells = reinterpret_cast<const char*>(a.cells + row * a.H + p.unit);
  tile.saved = reinterpret_cast<const char*>(a.gates + row * Cell::S * a.H + p.unit);
  tile.dy = reinterpret_cast<const char*>(a.dy + (at * a.D + p.d) * a.H + p.unit);
  tile.y = reinterpret_cast<const char*>(a.y + (at * a.D + p.d) * a.H + p.unit) + by.y;
  tile.cells = cells + by.cells;
  tile.reset = reinterpret_cast<const char*>(a.rows.resets) + (at + p.d * B);
  tile.dgates =
      reinterpret_cast<char*>(a.dgates + row * Cell::N * a.H + p.unit) + PairStore<Cell::N>::offset(p.g, by.gate);
  // Lines six steps ahead: lanes of g 0..3 name a saved gate each, the next the cells, dy, the resets and y.
  constexpr int kAhead = 6;
  if (p.g < Cell::S) {
    tile.next_line = by.saved;
    tile.line = tile.saved + p.g * by.gate;
  } else if (p.g == 4 && Cell::has_cell) {
    tile.next_line = by.cells;
    tile.line = tile.cells;
  } else if (p.g == 5 && a.dy) {
    tile.next_line = by.y;
    tile.line = tile.dy;
  } else if (p.g == 6 && a.rows.resets) {
    tile.next_line = by.rows;
    tile.line = tile.reset;
  } else {
    tile.next_line = by.y;
    tile.line = tile.y;
  }
  tile.line += kAhead * tile.next_line;
  const int64_t state = state_index(a, p, j);
  tile.direct = mine && a.dhn ? widen(a.dhn[state]) : 0.f;
  tile.dc = mine && a.dcn ? widen(a.dcn[state]) : 0.f;
  tile.h0 = mine && a.h0 ? widen(a.h0[state]) : 0.f;
  tile.c0 = mine && a.c0 ? widen(a.c0[state]) : 0.f;
  tile.c = Cell::has_cell ? float_from(load4_if(tile.live > 0, cells)) : 0.f;
  pin(tile.live);
  pin(tile.steps);
  pin(tile.cuts);
  pin(tile.next_line);
  if (!mine) return;
  for (int64_t t = tile.steps; t < a.rows.T; t++)
#pragma unroll
    for (int q = 0; q < Cell::N; q++)
      a.dgates[(((p.d * a.rows.T + t) * B + b) * Cell::N + q) * a.H + p.unit] = narrow<T>(0.f);
}

// What came through W_hh at the step after (in time), over the ranks in their order.
template <class S>
__device__ __forceinline__ float arrived_sum(uint32_t arrival) {
  float part[S::kR], sum = 0.f;
#pragma unroll
  for (int r = 0; r < S::kR; r++)
    part[r] = float_from(load_shared4(arrival + static_cast<uint32_t>(r * S::kThreads * 4)));
#pragma unroll
  for (int r = 0; r < S::kR; r++) sum += part[r];
  return sum;
}

// The values of one step that do not depend on dh, ready before the wait.
template <class S>
struct StepInputs {
  Ahead saved[S::Cell::S ? S::Cell::S : 1], h, h_before, c, c_before;
  float dy;
  bool live;

  template <class T>
  __device__ __forceinline__ void take(int s, BackwardTile<S>& tile) {
    using Cell = typename S::Cell;
    const auto value = [](uint32_t& raw) {
      pin(raw);
      return widen(from_bits_of<T>(static_cast<uint16_t>(raw)));
    };
    live = s < tile.live;
    const bool initial = s + 1 == tile.live;
#pragma unroll
    for (int q = 0; q < Cell::S; q++) saved[q] = value(tile.raw[q]);
    dy = value(tile.raw_dy);
    if (Cell::S == 0) h = value(tile.raw_h);
    if (Cell::reads_h_prev) {
      const float before = value(tile.raw_before);
      h_before = initial ? tile.h0 : before;
    }
    if (Cell::has_cell) {
      pin(tile.raw_c);
      c = Ahead(tile.c, tanh(Fast(tile.c)).v);
      tile.c = float_from(tile.raw_c);
      c_before = initial ? tile.c0 : tile.c;
    }
  }
};

// The cell's derivative: the run of dgates that belongs to W_hh goes to the operand, gate i at operand + at[i], all of
// them to d; moves the running gradients of the tile one step on. Steps that a row does not have leave zeros.
template <class S, class T>
__device__ __forceinline__ void differentiate(const StepInputs<S>& in, float dh, uint32_t operand,
                                              const uint32_t (&at)[S::Cell::G], bool cut, BackwardTile<S>& tile,
                                              uint16_t (&d)[S::Cell::N]) {
  using Cell = typename S::Cell;
  Ahead grad[Cell::N], dc = tile.dc, direct = 0.f;
  const Ahead zero(0.f);
  Cell::backward(in.saved, in.h, cut ? zero : in.h_before, in.c, cut ? zero : in.c_before, Ahead(dh + in.dy), dc,
                 direct, grad);
#pragma unroll
  for (int q = 0; q < Cell::N; q++) d[q] = narrow_bits<T>(in.live ? grad[q].v : 0.f);
#pragma unroll
  for (int i = 0; i < Cell::G; i++) store_shared2(operand + at[i], d[Cell::h_first + i]);
  tile.dc = !in.live ? tile.dc : cut ? 0.f : dc.v;
  tile.direct = !in.live ? tile.direct : cut ? 0.f : direct.v;
}

// Where a warp's partial dh go: to the owners of its m-tiles, per element of the fragment 128 bytes in one piece, in
// the order in which the owner's warps read them.
template <class S>
struct Sender {
  uint32_t peers[S::kM], to[S::kM];

  __device__ __forceinline__ Sender(const Place<S>& p, uint32_t base) {
    constexpr int kOwned = S::kUnits / 16;  // m-tiles of a block
#pragma unroll
    for (int m = 0; m < S::kM; m++) {
      const int tile = (p.warp * S::kM + m + p.rank * kOwned) % (S::kH / 16);
      peers[m] = peer_address(base, static_cast<uint32_t>(tile / kOwned));
      to[m] = static_cast<uint32_t>(S::kArrivalAt + ((p.rank * S::kWarps + tile % kOwned * 4) * 32 + p.lane) * 4);
      pin(to[m]);
    }
  }
  __device__ __forceinline__ void send(uint32_t arrival, uint32_t barrier, const float (&sum)[S::kM][4]) const {
#pragma unroll
    for (int m = 0; m < S::kM; m++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        store_async(peers[m] + to[m] + arrival + e * 128, bits_from(sum[m][e]), peers[m] + barrier);
  }
};

template <class S, class T>
__global__ void __launch_bounds__(S::kThreads, 1) cluster_backward_kernel(const ClusterBackward<T> a) {
#if FUSEDRNN_HAS_CLUSTERS
  using Cell = typename S::Cell;
  FUSEDRNN_DYNAMIC_SHARED(memory);
  const uint32_t base = shared_address(memory);
  const Place<S> p;
  const BackwardStrides by = BackwardStrides::of(a, p);
  const int steps = longest_row<S>(a.rows);
  constexpr uint32_t kOperand = kTileRows * S::kDepth * 2, kBytes = S::kBuffer;
  // The partial sums of step s travel to buffer and barrier (s+1) & 1. Before step 0 nothing has to arrive.
  if (threadIdx.x == 0) {
    phase_init(base);
    phase_init(base + 8);
    phase_init_fence();
    phase_arm(base, 0);
    if (steps > 0) phase_arm(base + 8, kBytes);
  }
  Stationary<S> weights;
  weights.load(a.weights, p, base);
  // Padding columns of the operand meet zero weights, but must not be NaN.
  for (uint32_t e = threadIdx.x * 4; e < S::kTiles * S::kOwn; e += S::kThreads * 4)
    store_shared4(base + S::kOwnAt + e, 0);
  BackwardTile<S> tiles[S::kTiles] = {};
  bool alive[S::kTiles];  // whether something comes back from the step after in time
#pragma unroll
  for (int j = 0; j < S::kTiles; j++) {
    start_tile<S>(a, p, by, j, tiles[j]);
    ask<S>(a, by, 0, tiles[j]);
    ask_cut(by, 0, tiles[j]);
    alive[j] = false;
  }
  const Sender<S> sender(p, base);
  uint32_t mine = base + S::kArrivalAt + threadIdx.x * 4, fragment = base + S::kOwnAt + operand_offset(p.t, p.g);
  uint32_t gate_at[Cell::G], first_thread = threadIdx.x == 0;
#pragma unroll
  for (int i = 0; i < Cell::G; i++) {
    const int k = i * S::kUnits + p.unit - p.rank * S::kUnits;
    gate_at[i] = base + S::kOwnAt + operand_offset(k >> 3, 2 * p.t + p.part) + (k & 7) * 2;
    pin(gate_at[i]);
  }
  pin(mine);
  pin(fragment);
  pin(first_thread);
  cluster_barrier();  // the peers exist, their barriers are initialised

  for (int s = 0; s <= steps; s++) {
    const uint32_t now = s & 1, next = now ^ 1;
    StepInputs<S> in[S::kTiles];
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) {
      in[j].template take<T>(s, tiles[j]);
      ask<S>(a, by, s + 1, tiles[j]);
    }
    uint32_t arrival = mine + now * kBytes, barrier = base + now * 8;
    pin(arrival);
    pin(barrier);
    phase_wait(barrier, static_cast<uint32_t>(s >> 1) & 1);
    if (first_thread && s + 1 < steps) phase_arm(barrier, kBytes);  // of step s+1
    float dh[S::kTiles];
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) {
      const float sum = arrived_sum<S>(arrival + j * S::kArrival);
      dh[j] = tiles[j].direct + (alive[j] ? sum : 0.f);
      tiles[j].dh = s == tiles[j].steps ? dh[j] : tiles[j].dh;
    }
    if (s == steps) break;
    uint16_t d[S::kTiles][Cell::N];
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) {
      pin(tiles[j].cut);
      const bool cut = tiles[j].cut != 0;
      alive[j] = !cut;
      differentiate<S, T>(in[j], dh[j], j * S::kOwn + now * kOperand, gate_at, cut, tiles[j], d[j]);
      ask_cut(by, s + 1, tiles[j]);
    }
    __syncthreads();
    float sum[S::kTiles][S::kM][4];
    product<S, T>(weights, fragment + now * kOperand, S::kOwn, sum);
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) sender.send(next * kBytes + j * S::kArrival, next * 8, sum[j]);
#pragma unroll
    for (int j = 0; j < S::kTiles; j++) {
      PairStore<Cell::N>::store(in[j].live, p.g, tiles[j].dgates, by.gate, d[j]);
      tiles[j].dgates += by.dgates;
    }
  }
#pragma unroll
  for (int j = 0; j < S::kTiles; j++) {
    if (p.row + j * kTileRows >= a.rows.B || p.unit >= a.H) continue;
    if (a.dh0) a.dh0[state_index(a, p, j)] = narrow<T>(tiles[j].dh);
    if (Cell::has_cell && a.dc0) a.dc0[state_index(a, p, j)] = narrow<T>(tiles[j].dc);
  }
  cluster_barrier_relaxed();  // nobody leaves while a peer's stores are on their way to it
#endif
}

template <class Cell, class T>
BackwardKernel<T> cluster_backward_variant(int variant) {
#define FUSEDRNN_VARIANT(H, R, TILES) cluster_backward_kernel<ClusterShape<Cell, H, R, TILES, true>, T>,
  static constexpr BackwardKernel<T> kVariants[] = {FUSEDRNN_CLUSTER_SHAPES(FUSEDRNN_VARIANT)};
#undef FUSEDRNN_VARIANT
  return kVariants[variant];
}

// The body of a file that compiles all variants of one cell.
#define FUSEDRNN_CLUSTER_BACKWARD(CELL)                                           \
  namespace fusedrnn::cuda {                                                      \
  template BackwardKernel<bf16> cluster_backward_variant<cells::CELL, bf16>(int); \
  template BackwardKernel<f16> cluster_backward_variant<cells::CELL, f16>(int);   \
  }

}  // namespace fusedrnn::cuda
