#include "layer_kernels.h"

#include <algorithm>
#include <cmath>

namespace fusedrnn::cuda {
namespace {

constexpr int kTile = 32;

// to [cols, rows] = from [rows, cols] transposed, in tiles through shared memory so that both sides are coalesced.
// Block (32, 8); the two may not overlap.
template <class T>
__global__ void transpose(const T* from, T* to, int64_t rows, int64_t cols) {
  FUSEDRNN_SHARED(T, tile, kTile * (kTile + 1));
  const int64_t tiles = (cols + kTile - 1) / kTile;
  const int64_t r0 = blockIdx.x / tiles * kTile, c0 = blockIdx.x % tiles * kTile;
  for (int i = threadIdx.y; i < kTile; i += 8)
    if (r0 + i < rows && c0 + threadIdx.x < cols)
      tile[i * (kTile + 1) + threadIdx.x] = from[(r0 + i) * cols + c0 + threadIdx.x];
  __syncthreads();
  for (int i = threadIdx.y; i < kTile; i += 8)
    if (c0 + i < cols && r0 + threadIdx.x < rows)
      to[(c0 + i) * rows + r0 + threadIdx.x] = tile[threadIdx.x * (kTile + 1) + i];
}

// One thread per (row, column): out[r, c] = table[ids[r] * row_stride + c * column_stride].
template <class T>
__global__ void gather(const T* table, int64_t row_stride, int64_t column_stride, const int64_t* ids, T* out,
                       int64_t ld, int64_t rows, int64_t width, int64_t I) {
  const int64_t e = element();
  if (e >= rows * width) return;
  const int64_t r = e / width, c = e % width, id = ids[r];
  out[r * ld + c] = id >= 0 && id < I ? table[id * row_stride + c * column_stride] : narrow<T>(NAN);
}

// Block (v, 256 columns, chunk of rows): partial[chunk, v, c] = sum of dg[r, c] over the chunk's rows with ids[r] = v,
// in the order of r. The block looks at 256 ids at a time and shares the matches as bit masks.
template <class T>
__global__ void scatter(const T* dg, int64_t ld, const int64_t* ids, Acc<T>* partial, int64_t rows,
                        int64_t rows_per_chunk, int64_t width, int64_t I) {
  FUSEDRNN_SHARED(unsigned, masks, kThreads / 32);
  const int64_t v = blockIdx.x, c = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  const int64_t begin = blockIdx.z * rows_per_chunk;
  const int64_t end = begin + rows_per_chunk < rows ? begin + rows_per_chunk : rows;
  Acc<T> sum = 0;
  for (int64_t r0 = begin; r0 < end; r0 += kThreads) {
    const int64_t r = r0 + threadIdx.x;
    const unsigned mask = __ballot_sync(0xffffffffu, r < end && ids[r] == v);
    if (threadIdx.x % 32 == 0) masks[threadIdx.x / 32] = mask;
    __syncthreads();
    for (int w = 0; w < kThreads / 32; w++)
      for (unsigned m = masks[w]; m; m &= m - 1)
        if (c < width) sum += widen(dg[(r0 + w * 32 + __ffs(static_cast<int>(m)) - 1) * ld + c]);
    __syncthreads();
  }
  if (c < width) partial[(blockIdx.z * I + v) * width + c] = sum;
}

// dw[gate * H + j, v] = sum over chunks, in order, of partial[chunk, v, slot * H + j]. One thread per (slot, j, v).
template <class T>
__global__ void scatter_reduce(const Acc<T>* partial, T* dw, int64_t chunks, int64_t H, int64_t width, int64_t I,
                               Run side) {
  const int64_t e = element();
  if (e >= width * I) return;
  const int64_t c = e / I, v = e % I;
  Acc<T> sum = 0;
  for (int64_t k = 0; k < chunks; k++) sum += partial[(k * I + v) * width + c];
  dw[(side.gate[c / H] * H + c % H) * I + v] = narrow<T>(sum);
}

// Block (256 columns, chunk of rows): partial[chunk, c] = sum of dg[r, c] over the chunk's rows, in order.
template <class T>
__global__ void column_sums(const T* dg, Acc<T>* partial, int64_t rows, int64_t rows_per_chunk, int64_t width) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= width) return;
  const int64_t begin = blockIdx.y * rows_per_chunk;
  const int64_t end = begin + rows_per_chunk < rows ? begin + rows_per_chunk : rows;
  Acc<T> sum = 0;
#pragma unroll 8
  for (int64_t r = begin; r < end; r++) sum += widen(dg[r * width + c]);
  partial[blockIdx.y * width + c] = sum;
}

// The chunks' sums in order, put where each side's bias has them. One thread per column of dgates.
template <class T>
__global__ void bias_reduce(const Acc<T>* partial, int64_t chunks, int64_t H, int64_t width, int G, Run x_side,
                            Run h_side, T* db_ih, T* db_hh) {
  const int64_t c = element();
  if (c >= width) return;
  Acc<T> sum = 0;
#pragma unroll 8
  for (int64_t k = 0; k < chunks; k++) sum += partial[k * width + c];
  const int slot = static_cast<int>(c / H);
  const int64_t j = c % H;
  const int x = slot - x_side.first, h = slot - h_side.first;
  if (db_ih && x >= 0 && x < G) db_ih[x_side.gate[x] * H + j] = narrow<T>(sum);
  if (db_hh && h >= 0 && h < G) db_hh[h_side.gate[h] * H + j] = narrow<T>(sum);
}

// One thread per (t, b, p).
template <class T>
__global__ void shift_hidden(const T* y, const T* h0, Rows rows, int64_t P, int64_t D, int d, T* out) {
  const int64_t e = element();
  if (e >= rows.T * rows.B * P) return;
  const int64_t p = e % P, b = e / P % rows.B, t = e / P / rows.B;
  const int64_t length = rows.length(b);
  T v = narrow<T>(0);
  if (t < length && !rows.cut(d, t, b, length)) {
    if (t != Rows::first(d, length))
      v = y[((d ? t + 1 : t - 1) * rows.B + b) * D * P + d * P + p];
    else if (h0)
      v = h0[(d * rows.B + b) * P + p];
  }
  out[e] = v;
}

// One warp per row (t, b) of `width` units; to[row] = from[row], or zero at t >= len. A unit is a part of an element or
// several: all zero bits are 0 in every type.
template <class Unit>
__global__ void __launch_bounds__(kThreads) copy_valid(const Unit* from, Unit* to, Rows rows, int64_t width) {
  const int64_t row = element() / 32;
  if (row >= rows.T * rows.B) return;
  const bool valid = row / rows.B < rows.length(row % rows.B);
  for (int64_t i = threadIdx.x % 32; i < width; i += 32) to[row * width + i] = valid ? from[row * width + i] : Unit{};
}

template <class T>
__global__ void convert(const Acc<T>* from, T* to, int64_t count) {
  const int64_t e = element();
  if (e < count) to[e] = narrow<T>(from[e]);
}

}  // namespace

void gather_ids(const ForwardArgs& a, const void* w_ih, int64_t GH, void* gx, int64_t gx_ld, const Runtime& rt) {
  const Dims& n = a.n;
  const int64_t rows = n.T * n.B;
  with_type(a.dtype, [&](auto type) {
    using T = decltype(type);
    const T* table = static_cast<const T*>(w_ih);
    int64_t row_stride = 1, column_stride = n.I;
    if (rows >= n.I / 2) {  // reading columns of W_ih costs a sector per element: transpose unless few are read
      T* transposed = rt.take<T>(n.I * GH);
      const int64_t tiles = ceil_div(GH, kTile) * ceil_div(n.I, kTile);
      launch("transpose", transpose<T>, dim3(static_cast<unsigned>(tiles)), dim3(kTile, 8), 0, rt.stream, table,
             transposed, GH, n.I);
      table = transposed;
      row_stride = GH;
      column_stride = 1;
    }
    launch("gather", gather<T>, per_element(rows * GH), kThreads, 0, rt.stream, table, row_stride, column_stride, a.ids,
           static_cast<T*>(gx), gx_ld, rows, GH, n.I);
  });
}

void scatter_ids(const ForwardArgs& a, const void* dgates, int64_t dg_ld, const Run& x_side, int64_t G, void* dw_ih,
                 const Runtime& rt) {
  const Dims& n = a.n;
  const int64_t rows = n.T * n.B, width = G * n.H;
  with_type(a.dtype, [&](auto type) {
    using T = decltype(type);
    // Chunks shorten the walk over frequent ids; their partial sums may take 64 MB.
    const int64_t room = (int64_t(64) << 20) / (n.I * width * int64_t(sizeof(Acc<T>)));
    const int64_t chunks = std::max<int64_t>(1, std::min({ceil_div(rows, 1024), room, int64_t(256)}));
    Acc<T>* partial = rt.take<Acc<T>>(chunks * n.I * width);
    const dim3 grid(static_cast<unsigned>(n.I), static_cast<unsigned>(ceil_div(width, kThreads)),
                    static_cast<unsigned>(chunks));
    launch("scatter", scatter<T>, grid, kThreads, 0, rt.stream, static_cast<const T*>(dgates) + x_side.first * n.H,
           dg_ld, a.ids, partial, rows, ceil_div(rows, chunks), width, n.I);
    launch("scatter sum", scatter_reduce<T>, per_element(width * n.I), kThreads, 0, rt.stream, partial,
           static_cast<T*>(dw_ih), chunks, n.H, width, n.I, x_side);
  });
}

void sum_biases(const ForwardArgs& a, const void* dgates, int64_t N, int64_t G, const Run& x_side, const Run& h_side,
                void* db_ih, void* db_hh, const Runtime& rt) {
  const Dims& n = a.n;
  const int64_t rows = n.T * n.B, width = N * n.H;
  with_type(a.dtype, [&](auto type) {
    using T = decltype(type);
    const int64_t chunks = std::max<int64_t>(1, std::min<int64_t>(256, ceil_div(rows, 64)));
    Acc<T>* partial = rt.take<Acc<T>>(chunks * width);
    const dim3 grid(static_cast<unsigned>(ceil_div(width, kThreads)), static_cast<unsigned>(chunks));
    launch("bias sums", column_sums<T>, grid, kThreads, 0, rt.stream, static_cast<const T*>(dgates), partial, rows,
           ceil_div(rows, chunks), width);
    launch("bias gradient", bias_reduce<T>, per_element(width), kThreads, 0, rt.stream, partial, chunks, n.H, width,
           static_cast<int>(G), x_side, h_side, static_cast<T*>(db_ih), static_cast<T*>(db_hh));
  });
}

void previous_hidden(const ForwardArgs& a, int d, void* previous, const Runtime& rt) {
  const Dims& n = a.n;
  with_type(a.dtype, [&](auto type) {
    using T = decltype(type);
    launch("previous hidden", shift_hidden<T>, per_element(n.T * n.B * n.P), kThreads, 0, rt.stream,
           static_cast<const T*>(a.y), static_cast<const T*>(a.h0), Rows::of(a), n.P, n.D, d,
           static_cast<T*>(previous));
  });
}

const void* without_padding(const ForwardArgs& a, const Runtime& rt) {
  const int64_t rows = a.n.T * a.n.B, bytes = a.n.I * static_cast<int64_t>(size_of(a.dtype));
  void* const to = rt.alloc(rt.ctx, static_cast<size_t>(rows * bytes));
  const auto copy = [&](auto unit) {
    using Unit = decltype(unit);
    launch("copy without padding", copy_valid<Unit>, per_element(rows * 32), kThreads, 0, rt.stream,
           static_cast<const Unit*>(a.x), static_cast<Unit*>(to), Rows::of(a), bytes / int64_t(sizeof(Unit)));
  };
  if (bytes % 16 == 0 && reinterpret_cast<uintptr_t>(a.x) % 16 == 0)
    copy(float4{});
  else
    copy(uint16_t{});
  return to;
}

void round_to(DType dtype, const void* from, void* to, int64_t count, const Runtime& rt) {
  with_type(dtype, [&](auto type) {
    using T = decltype(type);
    launch("convert", convert<T>, per_element(count), kThreads, 0, rt.stream, static_cast<const Acc<T>*>(from),
           static_cast<T*>(to), count);
  });
}

}  // namespace fusedrnn::cuda
