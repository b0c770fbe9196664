// The step family on the emulator: every cell, option and dtype against the float64 reference. Prints one line for each
// wrong output and exits with 1 where there is any. Arguments: "small", "ids", "tiny" for shorter runs.
#define SIMT_MAIN
#include <string>

#include "cuda_poison_case.h"

namespace {

using emulated::Case;
using emulated::LayerRun;
using fusedrnn::DType;

int runs = 0, bad = 0;

template <class Run = LayerRun>
void run(const Case& c) {
  runs++;
  try {
    bad += Run(c).check();
  } catch (const std::exception& e) {
    bad++;
    std::printf("BAD %s in %s\n", e.what(), c.text().c_str());
  }
}

// All products of the options for one cell and dtype; `every` thins them out.
void options(int cell, DType dtype, int every) {
  for (unsigned bits = 0; bits < 256; bits++) {
    if (bits % every != unsigned(cell) % every) continue;
    Case c;
    c.cell = cell;
    c.dtype = dtype;
    c.D = bits & 1 ? 2 : 1;
    c.bias = bits & 2;
    c.state = bits & 4;
    c.lengths = bits & 8;
    c.resets = bits & 16;
    c.ids = bits & 32;
    c.all_cotangents = bits & 64;
    c.P = bits & 128 ? 2 : 0;
    if (c.P && cell != reference::lstm) continue;
    c.seed = bits + 1;
    simt::schedule.order = simt::kOrders[bits % 5];
    simt::schedule.seed = bits;
    run(c);
  }
}

// Shapes at the edges: one step, one row, one unit, more columns than a block has threads, ids in several chunks.
void shapes(int every) {
  const int64_t sizes[][5] = {{1, 1, 1, 1, 0},  {1, 3, 2, 4, 2}, {3, 1, 5, 1, 0},
                              {2, 2, 1, 70, 0}, {7, 2, 4, 3, 1}, {2, 2, 66, 2, 0}};
  int i = 0;
  for (int cell = 0; cell < 4; cell++)
    for (const auto& s : sizes)
      for (bool ids : {false, true}) {
        if (i++ % every) continue;
        Case c;
        c.cell = cell;
        c.T = s[0], c.B = s[1], c.I = s[2], c.H = s[3];
        c.P = cell == reference::lstm ? s[4] : 0;
        c.D = 2;
        c.ids = ids;
        c.lengths = s[1] > 1;
        c.resets = true;
        if (c.H > 60) c.all_cotangents = false;
        run(c);
      }
}

// Ids enough for several chunks and for a walk over several rounds of 256.
void many_ids() {
  Case c;
  c.cell = reference::elman_tanh;
  c.T = 60, c.B = 45, c.I = 3, c.H = 2;
  c.ids = true;
  for (unsigned seed = 0; seed < 40; seed++) {
    simt::schedule.order = seed < 5 ? simt::kOrders[seed] : simt::Order::starve;
    simt::schedule.seed = seed;
    c.save = true;
    run(c);
  }
  c.T = 1, c.B = 2, c.I = 9, c.H = 2;  // fewer rows than ids: the gather without a transpose
  run(c);
}

// A state that is not finite, and a reset after it.
void poisoned() {
  for (int cell = 0; cell < 4; cell++)
    for (unsigned bits = 0; bits < 8; bits++) {
      Case c;
      c.cell = cell;
      c.T = 6;
      c.D = 1 + (bits & 1);
      c.lengths = bits & 2;
      c.P = cell == reference::lstm && bits & 4 ? 2 : 0;
      c.resets = true;
      c.seed = bits + 1;
      run<emulated::PoisonRun>(c);
    }
}

void not_saved() {
  for (int cell = 0; cell < 4; cell++) {
    Case c;
    c.cell = cell;
    c.save = false;
    c.D = 2;
    c.P = cell == reference::lstm ? 3 : 0;
    run(c);
  }
}

void empty_batch() {
  Case c;
  c.B = 0;
  c.lengths = true;
  run(c);
}

}  // namespace

int main(int argc, char** argv) {
  setenv("FUSEDRNN_CUDA_FAMILY", "step", 1);
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "tiny" || mode == "ids") {
    Case c;  // ThreadSanitizer pays for every fiber
    c.T = 2, c.B = 2, c.H = 2;
    c.ids = true;
    if (mode == "tiny")
      run(c);
    else
      many_ids();
    std::printf("%d runs, %d wrong outputs\n", runs, bad);
    return bad != 0;
  }
  const bool small = mode == "small";
  for (int cell = 0; cell < 4; cell++) {
    options(cell, DType::f64, small ? 37 : 3);
    options(cell, DType::f32, small ? 61 : 13);
    options(cell, DType::bf16, small ? 61 : 13);
    options(cell, DType::f16, small ? 61 : 13);
  }
  shapes(small ? 7 : 1);
  many_ids();
  poisoned();
  not_saved();
  empty_batch();
  std::printf("%d runs, %d wrong outputs\n", runs, bad);
  return bad != 0;
}
