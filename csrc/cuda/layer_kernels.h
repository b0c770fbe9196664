// The small kernels around the recurrence, common to all families: token ids, transposes, sums over all steps. Each
// enqueues on rt.stream; scratch comes from rt. Shapes as in layer.h; all arrays dense unless a leading dimension is
// given.
#pragma once
#include "cell_table.h"
#include "family.h"
#include "rows.h"

namespace fusedrnn::cuda {

// gx[r, :] = w_ih[:, ids[r]] for the T*B rows r of one direction: x W_ih^T of one-hot rows. w_ih [GH, I]; gx rows are
// gx_ld apart. A row whose id lies outside [0, I) becomes NaN: it cannot be refused without waiting for the device.
void gather_ids(const ForwardArgs& a, const void* w_ih, int64_t GH, void* gx, int64_t gx_ld, const Runtime& rt);

// dw_ih[gate row, v] = sum over the rows r with ids[r] = v, in the order of r, of the x side of dgates[r]. dgates: the
// T*B rows of one direction, dg_ld apart.
void scatter_ids(const ForwardArgs& a, const void* dgates, int64_t dg_ld, const Run& x_side, int64_t G, void* dw_ih,
                 const Runtime& rt);

// Bias gradients of one direction: sums of its T*B rows of dgates over t and b, in a fixed order.
void sum_biases(const ForwardArgs& a, const void* dgates, int64_t N, int64_t G, const Run& x_side, const Run& h_side,
                void* db_ih, void* db_hh, const Runtime& rt);

// previous [T, B, P]: the state that entered each step of direction d (y one step before, h0, or zero across a reset);
// anything finite at t >= len, where the gradients it is multiplied with are zero.
void previous_hidden(const ForwardArgs& a, int d, void* previous, const Runtime& rt);

// A copy of x [T, B, I] with zeros at t >= len. What padding holds must not matter, and in a product over all steps it
// would, although its gradients are zero: 0 * NaN is NaN.
const void* without_padding(const ForwardArgs& a, const Runtime& rt);

// to[i] = from[i] rounded from the accumulation type to dtype, i < count.
void round_to(DType dtype, const void* from, void* to, int64_t count, const Runtime& rt);

}  // namespace fusedrnn::cuda
