// Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, with the forget gate of Gers et al.,
// 2000:
//   i, f, o = sigmoid(x + a),  g = tanh(x + a),  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t).
#pragma once
#include "math.h"

namespace fusedrnn::cells {

// What a cell tells the loops. A "unit" is one of the H elements of the state; forward and backward
// are the maths of one unit (V = float) or of one register full of units (V = a vector).
struct Lstm {
  static constexpr const char* name = "lstm";
  static constexpr int G = 4;  // gates: W_ih, W_hh and the biases are G blocks of H rows, in torch's order (i f g o)
  static constexpr int S = 4;  // values saved for backward per unit and step, beside h_t and c_t
  static constexpr int N = 4;  // gradients backward yields per unit and step
  static constexpr bool has_cell = true;       // a state c_t that is not an output
  static constexpr bool reads_h_prev = false;  // h_{t-1} enters also unit by unit; such a cell cannot project
  // Of the N gradients the run x_first .. x_first+G-1 belongs to W_ih x + b_ih, in the order of
  // gates x_gate(0) .. x_gate(G-1); the run h_first .. h_first+G-1 to W_hh h + b_hh, in the order
  // h_gate(0) .. h_gate(G-1).
  static constexpr int x_first = 0, h_first = 0;
  static constexpr int x_gate(int i) { return i; }
  static constexpr int h_gate(int i) { return i; }
  // Whether b_hh of a gate must be added to a[gate]; where not, x[gate] may hold both biases.
  static constexpr bool h_bias_apart(int) { return false; }

  // x[G]: W_ih x_t + b_ih; a[G]: W_hh h_{t-1} + b_hh, both by gate. h_prev, c_prev: the state
  // before the step; read only where reads_h_prev, has_cell. h, c: the new state. saved[S]: out.
  template <class V>
  FUSEDRNN_FN static void forward(const V* x, const V* a, V /*h_prev*/, V c_prev, V& h, V& c, V* saved) {
    const V i = sigmoid(x[0] + a[0]);
    const V f = sigmoid(x[1] + a[1]);
    const V g = tanh(x[2] + a[2]);
    const V o = sigmoid(x[3] + a[3]);
    c = f * c_prev + i * g;
    h = o * tanh(c);
    saved[0] = i;
    saved[1] = f;
    saved[2] = g;
    saved[3] = o;
  }

  // saved, h, h_prev, c, c_prev: as forward left them (h before a projection). dh: the whole
  // gradient of h_t. dc: in, the gradient of c_t that comes from step t+1; out, that of c_{t-1}.
  // Only where has_cell. dh_prev: out, the gradient of h_{t-1} that does not pass through W_hh.
  // Only where reads_h_prev. d[N]: out, the gradients of the gates' arguments, ordered as said
  // above.
  template <class V>
  FUSEDRNN_FN static void backward(const V* saved, V /*h*/, V /*h_prev*/, V c, V c_prev, V dh, V& dc, V& /*dh_prev*/,
                                   V* d) {
    const V one = splat<V>(1);
    const V i = saved[0], f = saved[1], g = saved[2], o = saved[3];
    const V t = tanh(c);  // computed again: one value less to save per unit and step
    const V dct = dc + dh * o * (one - t * t);
    d[0] = dct * g * i * (one - i);
    d[1] = dct * c_prev * f * (one - f);
    d[2] = dct * i * (one - g * g);
    d[3] = dh * t * o * (one - o);
    dc = dct * f;
  }
};

}  // namespace fusedrnn::cells
