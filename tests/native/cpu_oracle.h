// A recurrent layer in plain scalar float64, written from the equations: one row, one step, one unit at a time. Shares
// no code with the kernels.
#pragma once
#include <cstdint>
#include <vector>

#include "../../csrc/layer.h"

namespace oracle {

using Values = std::vector<double>;

enum Cell { elman_tanh, elman_relu, lstm, gru };  // the order of csrc/cells/all.h
inline int gates(int cell) { return cell == lstm ? 4 : cell == gru ? 3 : 1; }

struct Weights {  // torch.nn's layout; empty where absent
  Values ih, hh, b_ih, b_hh, hr;
};

struct Layer {
  int cell;
  fusedrnn::Dims n;
  Values x;       // [T, B, I], one-hot rows for token ids
  Values h0, c0;  // [D, B, P], [D, B, H]; zeros where absent
  Weights w[2];
  std::vector<int64_t> lengths;  // [B]
  std::vector<char> resets;      // [T, B]
  double (*round)(double);       // h_t is rounded to the storage type
};

struct Output {
  Values y, h_n, c_n;
};
struct Gradients {
  Values dx, dh0, dc0;
  Weights dw[2];
};

Output forward(const Layer& layer);
// How near to 0 the argument of any relu comes; 1 for other cells. In float, one that is all but 0 may open in one
// order of summation and not in another, which no tolerance covers.
double nearest_kink(const Layer& layer);
// The gradients of sum(dy * y) + sum(dhn * h_n) + sum(dcn * c_n), rounding taken as the identity.
Gradients backward(const Layer& layer, const Values& dy, const Values& dhn, const Values& dcn);

}  // namespace oracle
