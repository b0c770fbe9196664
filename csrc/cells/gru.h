// Cho et al., 2014, in the form of torch and cuDNN, with the reset gate after the product:
//   r, z = sigmoid(x + a),  q = a_n,  n = tanh(x_n + r q),  h_t = n + z (h_{t-1} - n).
// See lstm.h for what the members mean. Saved: n r z q. Gradients: n(x side) r z n(h side), so that
// both runs of three are contiguous.
#pragma once
#include "math.h"

namespace fusedrnn::cells {

struct Gru {
  static constexpr const char* name = "gru";
  static constexpr int G = 3, S = 4, N = 4;  // gates in torch's order: r z n
  static constexpr bool has_cell = false, reads_h_prev = true;
  static constexpr int x_first = 0, h_first = 1;
  static constexpr int x_gate(int i) { return i == 0 ? 2 : i - 1; }
  static constexpr int h_gate(int i) { return i; }
  static constexpr bool h_bias_apart(int gate) { return gate == 2; }

  template <class V>
  FUSEDRNN_FN static void forward(const V* x, const V* a, V h_prev, V, V& h, V&, V* saved) {
    const V r = sigmoid(x[0] + a[0]);
    const V z = sigmoid(x[1] + a[1]);
    const V q = a[2];
    const V n = tanh(x[2] + r * q);
    h = n + z * (h_prev - n);
    saved[0] = n;
    saved[1] = r;
    saved[2] = z;
    saved[3] = q;
  }
  template <class V>
  FUSEDRNN_FN static void backward(const V* saved, V, V h_prev, V, V, V dh, V&, V& dh_prev, V* d) {
    const V one = splat<V>(1);
    const V n = saved[0], r = saved[1], z = saved[2], q = saved[3];
    const V dn = dh * (one - z) * (one - n * n);
    d[0] = dn;
    d[1] = dn * q * r * (one - r);
    d[2] = dh * (h_prev - n) * z * (one - z);
    d[3] = dn * r;
    dh_prev = dh * z;
  }
};

}  // namespace fusedrnn::cells
