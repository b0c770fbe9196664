// The cluster family on the emulator: every schedule and every delivery of the asynchronous stores against float64.
// Prints one line for each wrong run and exits with 1 where there is any. Arguments: "small" for the sanitizers,
// "fault" for the seeded faults (cuda_faults.py): all schedules and deliveries of two cases; "options" for the products
// of all options.
#define SIMT_MAIN
#include <chrono>

#include "../../csrc/cuda/cluster_geometry.h"
#include "cuda_recurrence_case.h"

namespace {

using emulated::RecurrenceCase;
using emulated::RecurrenceRun;
using fusedrnn::DType;
using fusedrnn::cuda::Plan;

int runs = 0, bad = 0;
bool stop_at_first = false;

void report(const RecurrenceCase& c, const char* pass, const std::string& fault) {
  runs++;
  if (fault.empty()) return;
  bad++;
  std::printf("BAD %s order=%d delivery=%d: %s in %s\n", pass, int(simt::schedule.order), int(simt::schedule.delivery),
              fault.c_str(), c.text().c_str());
}

// The plan that would be made, or that of a given variant, whichever the cost would choose.
Plan plan_of(const RecurrenceCase& c, bool backward, int variant) {
  const fusedrnn::cuda::Problem p{c.cell, c.dtype,   false,    {c.T, c.B, 1, c.H, c.H, c.D},
                                  false,  c.lengths, c.resets, c.save};
  Plan plan;
  if (!plan_cluster(p, fusedrnn::cuda::known_device(90), backward, plan)) throw std::runtime_error(plan.why);
  if (variant < 0) return plan;
  fusedrnn::cuda::with_cell(c.cell, [&](auto cell) {
    int i = 0;
    const auto take = [&](auto shape) {
      using S = decltype(shape);
      if (i++ != variant) return;
      const int64_t rows = S::kTiles * fusedrnn::cuda::kTileRows;
      plan.variant = variant;
      plan.cluster = S::kR;
      plan.blocks = int((c.B + rows - 1) / rows) * S::kR;
      plan.threads = S::kThreads;
      plan.smem = S::kShared;
    };
#define FUSEDRNN_TAKE(H, R, TILES)                                           \
  if (backward)                                                              \
    take(fusedrnn::cuda::ClusterShape<decltype(cell), H, R, TILES, true>{}); \
  else                                                                       \
    take(fusedrnn::cuda::ClusterShape<decltype(cell), H, R, TILES, false>{});
    FUSEDRNN_CLUSTER_SHAPES(FUSEDRNN_TAKE)
#undef FUSEDRNN_TAKE
  });
  return plan;
}

// In the schedule that is set.
void once(const RecurrenceCase& c, RecurrenceRun& r, const Plan& forward, const Plan& backward) {
  const std::string fault = r.forward(fusedrnn::cuda::cluster_forward, forward);
  report(c, "forward", fault);
  if (c.save && fault.empty()) report(c, "backward", r.backward(fusedrnn::cuda::cluster_backward, backward));
}

// Every `every`-th pair of a schedule and a delivery. True when all was right.
bool run(const RecurrenceCase& c, int every = 1, int variant = -1) {
  RecurrenceRun r(c);
  const int before = bad;
  const Plan forward = plan_of(c, false, variant), backward = plan_of(c, true, variant);
  int i = 0;
  for (simt::Order order : simt::kOrders)
    for (simt::Delivery delivery : simt::kDeliveries) {
      simt::schedule = {order, delivery, unsigned(runs + 1)};
      if (i++ % every) continue;
      once(c, r, forward, backward);
      if (bad > before && stop_at_first) return false;
    }
  return bad == before;
}

// All products of the options, the cells and the schedules taking turns.
void options() {
  for (unsigned bits = 0; bits < 64; bits++) {
    RecurrenceCase c{"options", int((bits + bits / 4 + bits / 16) % 4), bits / 8 % 2 ? DType::f16 : DType::bf16};
    c.T = 3, c.B = 3, c.H = 38, c.D = bits & 1 ? 2 : 1;
    c.state = bits & 2, c.bias = bits & 4, c.lengths = bits & 8, c.resets = bits & 16, c.save = bits & 32;
    c.seed = bits + 1;
    simt::schedule = {simt::kOrders[bits % 5], simt::kDeliveries[bits / 5 % 5], bits + 1};
    RecurrenceRun r(c);
    once(c, r, plan_of(c, false, -1), plan_of(c, true, -1));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto start = std::chrono::steady_clock::now();
  const std::string mode = argc > 1 ? argv[1] : "";
  const auto both = [](RecurrenceCase c) {
    c.lengths = c.resets = true;
    return c;
  };
  constexpr int kTwoTiles = 1;  // the variant of H 128 with two tiles to a cluster
  if (mode == "fault") {        // one plain case, then one with everything, until something is wrong
    stop_at_first = true;
    if (run({"lstm", 2, DType::bf16, 5, 8, 128, 1})) run(both({"lstm ragged", 2, DType::bf16, 6, 11, 100, 1}));
  } else if (mode == "options") {
    options();
  } else if (mode == "small") {
    run({"lstm", 2, DType::bf16, 4, 8, 128, 1}, 6);
    run(both({"lstm ragged", 2, DType::bf16, 4, 11, 100, 1}), 12);
  } else {
    run({"lstm", 2, DType::bf16, 4, 8, 128, 1});
    run(both({"lstm ragged", 2, DType::bf16, 4, 11, 100, 1}), 4);
    run(both({"lstm two tiles", 2, DType::f16, 3, 13, 128, 1}), 7, kTwoTiles);
    run(both({"gru", 3, DType::bf16, 3, 8, 128, 2}), 11);
    run(both({"gru two tiles", 3, DType::f16, 3, 9, 78, 1}), 11, kTwoTiles);
    run(both({"elman tanh", 0, DType::f16, 3, 8, 128, 1}), 11);
    run(both({"elman relu", 1, DType::bf16, 3, 6, 102, 2}), 11);
    for (int64_t T : {1, 2, 3}) run({"short", 2, DType::bf16, T, 8, 128, 1, false, false}, 9);
    run({"inference", 2, DType::bf16, 3, 8, 128, 1, false, false, false, false, false}, 9);
    for (int cell : {2, 3}) {
      run({"H 256", cell, DType::f16, 2, 8, 256, 1}, 24);
      run({"H 300", cell, DType::bf16, 2, 3, 300, 1}, 24);
      run({"H 512", cell, DType::bf16, 2, 8, 512, 1}, 25);
      run({"H 700", cell, DType::bf16, 2, 8, 700, 1}, 25);
    }
    run({"H 1024", 2, DType::bf16, 2, 8, 1024, 1}, 25);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%d runs, %d wrong, %.0f s\n", runs, bad, seconds);
  return bad != 0;
}
