// Elman, "Finding Structure in Time", 1990: h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), f =
// tanh or relu. See lstm.h for what the members mean.
#pragma once
#include "math.h"

namespace fusedrnn::cells {

struct ElmanTanh {
  static constexpr const char* name = "elman_tanh";
  static constexpr int G = 1, S = 0, N = 1;
  static constexpr bool has_cell = false, reads_h_prev = false;
  static constexpr int x_first = 0, h_first = 0;
  static constexpr int x_gate(int) { return 0; }
  static constexpr int h_gate(int) { return 0; }
  static constexpr bool h_bias_apart(int) { return false; }

  template <class V>
  FUSEDRNN_FN static void forward(const V* x, const V* a, V, V, V& h, V&, V*) {
    h = tanh(x[0] + a[0]);
  }
  template <class V>
  FUSEDRNN_FN static void backward(const V*, V h, V, V, V, V dh, V&, V&, V* d) {
    d[0] = dh * (splat<V>(1) - h * h);
  }
};

struct ElmanRelu {
  static constexpr const char* name = "elman_relu";
  static constexpr int G = 1, S = 0, N = 1;
  static constexpr bool has_cell = false, reads_h_prev = false;
  static constexpr int x_first = 0, h_first = 0;
  static constexpr int x_gate(int) { return 0; }
  static constexpr int h_gate(int) { return 0; }
  static constexpr bool h_bias_apart(int) { return false; }

  template <class V>
  FUSEDRNN_FN static void forward(const V* x, const V* a, V, V, V& h, V&, V*) {
    h = relu(x[0] + a[0]);
  }
  // As in torch, the gradient at 0 is 0 and it passes where h is NaN.
  template <class V>
  FUSEDRNN_FN static void backward(const V*, V h, V, V, V, V dh, V&, V&, V* d) {
    d[0] = select(h <= V{}, V{}, dh);
  }
};

}  // namespace fusedrnn::cells
