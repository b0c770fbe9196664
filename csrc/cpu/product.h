// Products of rows with packed panels, and what both time loops share: the cutting of units into panels, the packing of
// weights, roles of threads.
#pragma once
#include "convert.h"
#include "schedule.h"
#include "step.h"
#include "team.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

// `blocks` blocks of units in near-equal panels of at most `most` blocks, at least `least` panels if there are blocks
// enough.
struct Panels {
  int64_t blocks, count;
  Panels() : blocks(0), count(0) {}
  Panels(int64_t blocks_, int most, int64_t least) : blocks(blocks_) {
    count = ceil_div(ceil_div(blocks, most), least) * least;
    if (count > blocks) count = blocks;
  }
  Panel at(int64_t p) const {
    const int64_t b = blocks * p / count;
    return {b, int(blocks * (p + 1) / count - b)};
  }
};

struct Range {
  int64_t begin, end;
};
// Share i of n of [0, total), its bounds multiples of `unit` but for the end.
FUSEDRNN_INLINE Range share(int64_t total, int64_t i, int64_t n, int64_t unit = 1) {
  const int64_t units = ceil_div(total, unit);
  return {min64(units * i / n * unit, total), min64(units * (i + 1) / n * unit, total)};
}

// Longest run of k for which a panel is sure to stay in the private cache while the rows pass.
constexpr int64_t kLongestRun = 1024;

// A panel of nv vectors is multiplied in strips of at most `columns` of them, and stored strip by strip: f(first
// vector, vectors) for each. A strip of K rows begins at its first vector * K * L.
template <class F>
FUSEDRNN_INLINE void each_strip(int nv, int columns, F&& f) {
  for (int v = 0; v < nv; v += columns) f(v, nv - v < columns ? nv - v : columns);
}

// A panel of weights times rows first .. first+count-1 of `a`, tile by tile: f(tile's products, first row, rows) gets
// [rows][nv * L]. before(first row, rows) runs before the tile that completes these rows is multiplied. Long sums are
// cut into runs of k; sums that are not complete wait in `wait` [count][nv * L].
template <class T, class Before, class F>
FUSEDRNN_INLINE void multiply_panel(const Tiles<T>& tile, const RowView<const T>& a, int64_t first, int64_t count,
                                    const T* w, int nv, int columns, int64_t K, T* wait, Before&& before, F&& f) {
  constexpr int L = kLanes<T>;
  const int64_t width = nv * L, runs = max64(1, ceil_div(K, kLongestRun));
  const bool once = runs == 1 && nv <= columns;
  for (int64_t i = 0; i < runs; i++) {
    const int64_t k = K * i / runs, length = K * (i + 1) / runs - k;
    each_strip(nv, columns, [&](int v, int vectors) __attribute__((always_inline)) {
      const bool last = i == runs - 1 && v + vectors == nv;
      const T* strip = w + (v * K + k * vectors) * L;
      split_rows(count, max_rows(vectors), [&](int64_t r, int rows) __attribute__((always_inline)) {
        const T* row[kMaxRows];
        T* c[kMaxRows];
        T* sums = once ? wait : wait + r * width;
        for (int m = 0; m < rows; m++) {
          row[m] = length > 0 ? a.at(first + r + m) + k : nullptr;
          c[m] = sums + m * width + v * L;
        }
        if (last) before(first + r, rows);
        tile.rows[vectors - 1][rows - 1](row, strip, length, c, nullptr, i > 0);
        if (last) f(sums, first + r, rows);
      });
    });
  }
}

// c(i)[0 .. width) = (add ? c(i) : bias or 0) + a(i)[0 .. K) * w for the rows i < count, where a(i) = a[i] + a_offset
// and c(i) = c[i] + c_offset. Only the first `width` columns of the panel are written, width <= nv * L. spare:
// [kMaxRows][nv * L].
template <class T>
FUSEDRNN_INLINE void rows_times_panel(const Tiles<T>& tile, const T* const* a, int64_t a_offset, T* const* c,
                                      int64_t c_offset, int64_t count, const T* w, int nv, int64_t K, int64_t width,
                                      const T* bias, bool add, T* spare) {
  constexpr int L = kLanes<T>;
  const bool whole = width == nv * L;
  split_rows(count, max_rows(nv), [&](int64_t r, int rows) __attribute__((always_inline)) {
    const T* row[kMaxRows];
    T* out[kMaxRows];
    for (int m = 0; m < rows; m++) {
      row[m] = a[r + m] + a_offset;
      out[m] = whole ? c[r + m] + c_offset : spare + m * nv * L;
    }
    tile.rows[nv - 1][rows - 1](row, w, K, out, bias, add && whole);
    if (whole) return;
    for (int m = 0; m < rows; m++) {
      T* to = c[r + m] + c_offset;
      for (int64_t j = 0; j < width; j++) to[j] = add ? to[j] + out[m][j] : out[m][j];
    }
  });
}

// Packs the transpose of gate-major weights w [G*H, K] for one panel of unit blocks, strip by strip: vector u * G + g
// is gate g of block u.
template <class T>
void pack_gates(const T* w, int G, int64_t H, int64_t K, Panel panel, int columns, T* dst) {
  constexpr int L = kLanes<T>;
  each_strip(panel.blocks * G, columns, [&](int first, int vectors) {
    for (int v = first; v < first + vectors; v++) {
      const int64_t j = (panel.block + v / G) * L;
      pack_transposed(w + (v % G * H + j) * K, K, K, min64(L, H - j), dst + (first * K + v - first) * L, vectors * L);
    }
  });
}

// Whether a step asks for its rows of the states before it multiplies, `arrays` of them: where they are too many to
// stay in the caches and lie too far apart to be fetched unasked. Elsewhere the asking costs more than it brings
// (measured with AVX2: 2 to 4 % at H = 64).
template <class T>
FUSEDRNN_INLINE bool asks_ahead(const Dims& n, int64_t arrays) {
  const int64_t row = n.H * int64_t(sizeof(T));
  return row > 256 && n.T * n.B * row * arrays > (int64_t(4) << 20);
}

FUSEDRNN_INLINE void prefetch(const void* p, int64_t bytes, bool write) {
  const char* q = static_cast<const char*>(p);
  if (write)
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(q + i, 1, 3);
  else
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(q + i, 0, 3);
}

// Whether products are made of pairs of bf16 (tile.h): the number of elements in a cell of a factor. Pairs must not
// straddle rows or gates, so the sizes that are summed over have to be even.
template <class T>
FUSEDRNN_INLINE int cell_elements(DType storage, bool even) {
  return sizeof(T) == 4 && storage == DType::bf16 && even && bf16_tiles() ? 2 : 1;
}
template <class T>
FUSEDRNN_INLINE const Tiles<T>& tiles_of(int elements) {
  if constexpr (sizeof(T) == 4)
    if (elements == 2) return *bf16_tiles();
  return tiles<T>();
}
// Cells that hold bf16, as what they are, and the other way round.
template <class T>
FUSEDRNN_INLINE const uint16_t* as_bf16(const T* p) {
  return reinterpret_cast<const uint16_t*>(p);
}
template <class T>
FUSEDRNN_INLINE const T* as_cells(const void* bf16, int64_t element) {
  return reinterpret_cast<const T*>(static_cast<const uint16_t*>(bf16) + element);
}

// The rows of a left factor that other cores have just written: asked for all at once, they arrive together; the
// products would wait for them line by line.
constexpr int64_t kPrefetchBytes = 16 << 10;
template <class T>
FUSEDRNN_INLINE void prefetch_rows(const RowView<const T>& a, int64_t first, int64_t count, int64_t K) {
  if (count * K * int64_t(sizeof(T)) > kPrefetchBytes) return;
  for (int64_t r = first; r < first + count; r++) prefetch(a.at(r), K * sizeof(T), false);
}

template <class T>
constexpr bool is_half(DType t) {
  return sizeof(T) == 4 && t != DType::f32;
}
FUSEDRNN_INLINE int64_t size_of(DType t) { return t == DType::f64 ? 8 : t == DType::f32 ? 4 : 2; }

// Element i of an array of `storage` elements.
FUSEDRNN_INLINE const char* element(const void* p, int64_t i, DType storage) {
  return static_cast<const char*>(p) + i * size_of(storage);
}
FUSEDRNN_INLINE char* element(void* p, int64_t i, DType storage) {
  return static_cast<char*>(p) + i * size_of(storage);
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
