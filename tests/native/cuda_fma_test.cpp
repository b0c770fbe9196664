// The block, fma and grid families on the emulator, in every order of threads and every order of deliveries, against
// the float64 reference. Prints one line for each wrong output and exits with 1 where there is any. Arguments: "small",
// "tiny" for shorter runs, "block" for that family alone, "edges" for the edges alone.
#define SIMT_MAIN
#include <cstdlib>
#include <cstring>

#include "cuda_against_step.h"
#include "cuda_poison_case.h"

namespace {

using emulated::Case;
using emulated::LayerRun;

int runs = 0, bad = 0;

// Whether the family that the environment asks for takes the call; else the step family would, and be right.
void expect_family(const Case& c) {
  const fusedrnn::cuda::Problem p = {c.cell, c.dtype,   false,    {c.T, c.B, c.I, c.H, c.H, c.D},
                                     false,  c.lengths, c.resets, c.save};
  for (const auto& plan : {fusedrnn::cuda::plan_forward(p, c.device), fusedrnn::cuda::plan_backward(p, c.device)}) {
    if (std::string(name(plan.family)) == std::getenv("FUSEDRNN_CUDA_FAMILY")) continue;
    bad++;
    std::printf("BAD the %s family (%s) in %s\n", name(plan.family), plan.why.c_str(), c.text().c_str());
  }
}

template <class Run = LayerRun>
void run(const Case& c) {
  runs++;
  try {
    expect_family(c);
    bad += Run(c).check();
  } catch (const std::exception& e) {
    bad++;
    std::printf("BAD %s in %s\n", e.what(), c.text().c_str());
  }
}

// H that fill, or do not, the units and columns of 1 to 16 blocks; B around the tiles.
constexpr int64_t kSizes[][3] = {{4, 3, 5}, {3, 9, 12}, {5, 1, 33}, {4, 5, 70}, {1, 2, 8}, {2, 2, 16}};

// A case that walks through sizes, cells, dtypes, options and schedules as i counts.
Case walk(int i, fusedrnn::DType dtype, const int64_t (&size)[3]) {
  simt::schedule = {simt::kOrders[i % 5], simt::kDeliveries[i / 5 % 5], unsigned(i)};
  Case c;
  c.dtype = dtype;
  c.cell = i % 4;
  c.T = size[0], c.B = size[1], c.H = size[2], c.I = 2;
  c.D = 1 + i / 2 % 2;
  c.bias = i % 3 != 0;
  c.state = i % 5 != 0;
  c.lengths = i % 7 < 3 && c.B > 1;
  c.resets = i % 11 < 6;
  c.save = i % 13 != 0;
  c.seed = unsigned(i);
  if (c.H > 40) c.all_cotangents = false;
  return c;
}

// The program may be compiled with few of the kernels; then one N is what there is.
#if defined(FUSEDRNN_FEW_VARIANTS)
constexpr int kClusterRows[] = {2, 2, 2, 2}, kGridRows[] = {4, 4, 4, 4};
constexpr int kTypes = 2;
#else
constexpr int kClusterRows[] = {1, 2, 4, 8}, kGridRows[] = {1, 4, 8, 16};
constexpr int kTypes = 3;
#endif

void clusters(int count, int most) {
  int i = 0;
  for (int R = 1; R <= most; R *= 2)
    for (int k = 0; k < count; k++, i++) {
      const std::string shape = std::to_string(R) + "," + std::to_string(kClusterRows[i / 6 % 4]);
      setenv("FUSEDRNN_FMA_SHAPE", shape.c_str(), 1);
      run(walk(i, fusedrnn::DType::f32, kSizes[i % 6]));
    }
  unsetenv("FUSEDRNN_FMA_SHAPE");
}

// Sizes that fill, or do not, the padded units and the rows of a tile. Compiled here, a thread keeps at most 12 weights
// in registers and the others in shared memory.
void blocks(int count) {
  constexpr int64_t sizes[][3] = {{4, 3, 5}, {3, 9, 32}, {5, 1, 31}, {3, 5, 34}, {1, 2, 8}};
  for (int i = 0; i < count; i++) {
    const auto& size = sizes[i % 5];
    const std::string shape = (size[2] > 32 ? "64," : "32,") + std::string(i / 5 % 2 ? "1" : "4");
    setenv("FUSEDRNN_BLOCK_SHAPE", shape.c_str(), 1);
    const Case c = walk(i, fusedrnn::DType::f32, size);
    simt::schedule.order = simt::kOrders[(2 * i + 3 + i / 5) % 5];  // greedy first: it tells a missing barrier
    run(c);
  }
  unsetenv("FUSEDRNN_BLOCK_SHAPE");
}

// Teams of 1 to 5 blocks, several of them together or one after another.
void grids(int count) {
  constexpr int64_t sizes[][3] = {{4, 3, 5}, {3, 9, 12}, {5, 1, 33}, {3, 18, 9}, {1, 2, 8}};
  const fusedrnn::DType types[] = {fusedrnn::DType::f32, fusedrnn::DType::bf16, fusedrnn::DType::f16};
  for (int i = 0; i < count; i++) {
    const auto& size = sizes[i % 5];
    const int64_t units = size[2] > 20 ? 8 : 4, R = (size[2] + units - 1) / units;
    setenv("FUSEDRNN_GRID_SHAPE", (std::to_string(R) + "," + std::to_string(kGridRows[i / 5 % 4])).c_str(), 1);
    Case c = walk(i, types[i / 3 % kTypes], size);
    if (c.cell == reference::elman_relu && c.dtype != fusedrnn::DType::f32) c.cell = reference::gru;  // the kink
    c.device.sms = i % 2 ? 20 : 132;
    simt::schedule.order = simt::kOrders[(2 * i + 3) % 5];  // greedy first: it tells a missing wait
    run(c);
  }
  unsetenv("FUSEDRNN_GRID_SHAPE");
}

// Runs f(case) for one family, cut into tiles by hand.
template <class F>
void with_shape(const char* family, const char* name, const std::string& shape, F&& f) {
  setenv("FUSEDRNN_CUDA_FAMILY", family, 1);
  setenv(name, shape.c_str(), 1);
  f();
  unsetenv(name);
}

// All products of the options, the cells, families and schedules taking turns.
void products(unsigned every) {
  const char* const families[][3] = {{"block", "FUSEDRNN_BLOCK_SHAPE", "32,4"},
                                     {"fma", "FUSEDRNN_FMA_SHAPE", "2,2"},
                                     {"grid", "FUSEDRNN_GRID_SHAPE", "2,4"}};
  for (unsigned bits = 0; bits < 128; bits += every) {
    const auto& [family, name, shape] = families[(bits + bits / 3) % 3];
    with_shape(family, name, shape, [&] {
      Case c = walk(int(bits), fusedrnn::DType::f32, {3, 5, 7});
      c.cell = int((bits + bits / 4 + bits / 16) % 4);
      c.D = bits & 1 ? 2 : 1;
      c.state = bits & 2, c.bias = bits & 4, c.lengths = bits & 8, c.resets = bits & 16, c.save = bits & 32;
      c.all_cotangents = bits & 64;
      run(c);
    });
  }
}

// One unit, one row, one step; blocks without a unit, tiles without a row, teams without a step.
void edges() {
  constexpr int64_t sizes[][3] = {{1, 1, 1}, {2, 5, 1}, {1, 9, 6}, {3, 6, 9}};
  int i = 0;
  const auto all = [&](const char* family, const char* name, const std::string& shape, const int64_t (&size)[3]) {
    with_shape(family, name, shape, [&] {
      Case c = walk(i++, fusedrnn::DType::f32, size);
      c.lengths = c.one_row = c.B > 1;
      run(c);
    });
  };
  for (const auto& size : sizes) {
    for (int R : {1, 4, 16})
      all("fma", "FUSEDRNN_FMA_SHAPE", std::to_string(R) + "," + std::to_string(kClusterRows[i % 4]), size);
    all("block", "FUSEDRNN_BLOCK_SHAPE", i % 2 ? "32,1" : "32,4", size);
    all("grid", "FUSEDRNN_GRID_SHAPE", std::to_string((size[2] + 3) / 4) + "," + std::to_string(kGridRows[i % 4]),
        size);
  }
}

// Blocks that are full: all their shared memory, all their threads, several rounds of every loop.
void wide(int count) {
  struct Wide {
    const char *family, *name;
    int cell;
    int64_t H;
    int blocks, rows;
  };
  constexpr int kFew = kClusterRows[0] == kClusterRows[1];
  const Wide all[] = {{"fma", "FUSEDRNN_FMA_SHAPE", reference::lstm, 200, 8, kFew ? 2 : 8},
                      {"fma", "FUSEDRNN_FMA_SHAPE", reference::gru, 300, 16, 2},
                      {"grid", "FUSEDRNN_GRID_SHAPE", reference::gru, 330, 42, 4},
                      {"fma", "FUSEDRNN_FMA_SHAPE", reference::elman_tanh, 127, 1, 2},
                      {"grid", "FUSEDRNN_GRID_SHAPE", reference::lstm, 257, 17, 4},
                      {"fma", "FUSEDRNN_FMA_SHAPE", reference::gru, 510, 16, 2}};
  for (int i = 0; i < count; i++)
    with_shape(all[i].family, all[i].name, std::to_string(all[i].blocks) + "," + std::to_string(all[i].rows), [&] {
      Case c = walk(i, fusedrnn::DType::f32, {3, 5, all[i].H});
      c.cell = all[i].cell;
      c.lengths = c.resets = c.save = true;
      run<emulated::AgainstStep>(c);
    });
}

// A state that is not finite, and a reset after it.
void poisoned() {
  const auto cells = [] {
    for (int cell = 0; cell < 4; cell++) {
      Case c = walk(cell, fusedrnn::DType::f32, {6, 5, 12});
      c.resets = c.save = c.all_cotangents = true;
      run<emulated::PoisonRun>(c);
    }
  };
  with_shape("block", "FUSEDRNN_BLOCK_SHAPE", "32,4", cells);
  with_shape("fma", "FUSEDRNN_FMA_SHAPE", "2,2", cells);
  with_shape("grid", "FUSEDRNN_GRID_SHAPE", "3,4", cells);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const int many = mode == "tiny" || mode == "block" ? 1 : mode == "small" ? 2 : 10;
  if (mode != "block") edges();
  setenv("FUSEDRNN_CUDA_FAMILY", "block", 1);
  if (mode != "edges") blocks(mode == "block" ? 40 : many * 10);
  if (mode != "block" && mode != "edges") {
    poisoned();
    if (mode != "tiny") products(mode == "small" ? 7 : 1);
    wide(mode == "tiny" ? 1 : mode == "small" ? 3 : 6);
    setenv("FUSEDRNN_CUDA_FAMILY", "fma", 1);
    clusters(many, mode == "tiny" ? 2 : 16);
    setenv("FUSEDRNN_CUDA_FAMILY", "grid", 1);
    grids(many * 4);
  }
  std::printf("%d runs, %d wrong outputs\n", runs, bad);
  return bad != 0;
}
