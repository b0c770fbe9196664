// What every backend (the CPU time loop, the CUDA kernel families) is handed: one recurrent layer, all its directions,
// the whole sequence. Torch-free.
//
// Letters: T steps, B batch, I input size, H hidden size, P size of h_t (H unless the cell projects), D directions,
// G gates and S saved slots of the cell (csrc/cells). All arrays are dense, row-major, time first, features last, and
// hold elements of `dtype` unless said otherwise. "acc" is the accumulation type: double for f64, float for the rest.
//
// Rules shared by all backends:
//  * Direction 0 runs t = 0 .. len-1, direction 1 runs t = len-1 .. 0, where len = lengths ? lengths[b] : T.
//  * Steps t >= len leave the state of row b alone and write zeros to y. A row of length 0 returns its initial state.
//  * resets[t, b] is a boundary between steps t-1 and t of row b, for both directions: the state that enters step t
//    from step t-1 (direction 0), or step t-1 from step t (direction 1), is zero, and no gradient crosses it. At t = 0
//    it discards h0 and c0 of direction 0. Entries at t >= len are ignored.
//  * Packed: where `starts` is given, so are lengths, which do not increase, and no resets. Arrays of all steps then
//    hold only what is valid: starts[T] rows in place of T*B, row b of step t at starts[t] + b. CPU only.
//  * Compact: with lengths, what is saved may end with each row while the other arrays are padded. It then has the sum
//    of the lengths in place of T*B rows, in the order of packed data: the rows of the batch sorted by length, longest
//    first, equal lengths in the order of the batch. CPU only.
//  * The same inputs give the same bits on every run: every sum has a fixed order.
#pragma once
#include <cstdint>

namespace fusedrnn {

enum class DType : int { f64 = 0, f32 = 1, bf16 = 2, f16 = 3 };

struct Dims {
  int64_t T, B, I, H, P, D;
};

// Weights of one direction, exactly as torch.nn lays them out.
struct Weights {
  const void* ih;    // [G*H, I]
  const void* hh;    // [G*H, P]
  const void* b_ih;  // [G*H] or null
  const void* b_hh;  // [G*H] or null, as b_ih
  const void* hr;    // [P, H], or null without projection
};

struct WeightGrads {  // the shapes of Weights; overwritten, never added to; null where not wanted
  void *ih, *hh, *b_ih, *b_hh, *hr;
};

struct ForwardArgs {
  int cell;  // index into the list of cells, csrc/cells/all.h
  DType dtype;
  bool tf32;  // CUDA only: float32 products may use TF32
  Dims n;
  const void* x;           // [T, B, I], or null when ids is given
  const int64_t* ids;      // [T, B], values in [0, I): row t, b of x is the one-hot row of ids[t, b]; or null
  const void* h0;          // [D, B, P] or null for zeros
  const void* c0;          // [D, B, H] or null for zeros; only for cells with a cell state
  Weights w[2];            // one per direction
  const int64_t* lengths;  // [B], values in [0, T], or null
  const bool* resets;      // [T, B] or null
  const int64_t* starts;   // [T + 1]: packed data, step t begins at row starts[t]; or null
  int64_t valid;           // the sum of the lengths where what is saved is compact (without starts), else 0
  void* y;                 // [T, B, D*P] out; direction d owns columns d*P .. (d+1)*P
  void* h_n;               // [D, B, P] out: the state after the last valid step. May not alias h0
  void* c_n;               // [D, B, H] out, or null for cells without a cell state
  // What backward needs; all null when nothing is to be saved. The contents are the backend's own affair. Compact: one
  // axis of `valid` rows in place of T, B.
  void* gates;   // [D, T, B, S*H]; acc type on the CPU, dtype on CUDA. Null also for cells with S = 0
  void* cells;   // [D, T, B, H] of acc type: c_t; only for cells with a cell state
  void* hidden;  // [D, T, B, H] of acc type: h_t before the projection; only with projection

  int64_t rows() const { return starts ? starts[n.T] : n.T * n.B; }  // of all steps
  int64_t saved_rows() const { return valid > 0 ? valid : rows(); }  // of what is saved, in one direction
};

struct BackwardArgs {
  ForwardArgs f;    // the arguments of forward; y, gates, cells, hidden are read and must not be written (a graph
                    // may be walked twice); h_n, c_n are null
  const void* dy;   // [T, B, D*P] or null for zeros; entries at t >= len are ignored
  const void* dhn;  // [D, B, P] or null for zeros
  const void* dcn;  // [D, B, H] or null for zeros
  void* dx;         // [T, B, I] out (zero at t >= len), or null where not wanted
  void* dh0;        // [D, B, P] out, or null where not wanted
  void* dc0;        // [D, B, H] out, or null where not wanted
  WeightGrads dw[2];
};

}  // namespace fusedrnn
