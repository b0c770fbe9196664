// fusedrnn._C: everything native that is not a tensor op. Binds to no torch version: it sees tensors by DLPack's C
// functions alone (tensor_view.h).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../cells/all.h"
#include "../cpu/backend.h"
#include "cuda_plan.h"
#include "direct_layer.h"
#include "encode_module.h"
#include "fma_peak.h"
#include "line_exchange.h"
#include "stream_step.h"
#include "torch_objects.h"

namespace py = pybind11;

namespace {

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const char* const* p = fusedrnn::cpu::available_isas(); *p; p++) names.emplace_back(*p);
  return names;
}

py::list cell_list() {
  py::list out;
  for (const auto& cell : fusedrnn::cells::kCells) {
    py::dict d;
    d["name"] = cell.name;
    d["gates"] = cell.G;
    d["slots"] = cell.S;
    d["has_c"] = cell.has_cell;
    out.append(d);
  }
  return out;
}

py::dict fma_peak(int threads, double seconds, const std::string& isa) {
  fusedrnn::FmaPeak peak;
  {
    py::gil_scoped_release release;
    peak = fusedrnn::fma_peak(threads, seconds, isa);
  }
  py::dict d;
  d["isa"] = peak.isa;
  d["gflops"] = peak.gflops;
  d["fastest"] = peak.fastest;
  d["mean"] = peak.mean;
  return d;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Facts about the native build of fusedrnn, and the text encoder.";
  m.def(
      "isa", [] { return std::string(fusedrnn::cpu::kernels().isa); },
      "Instruction set of the CPU kernels in use (FUSEDRNN_ISA forces one).");
  m.def("available_isas", &available_isas,
        "Instruction sets that were compiled in and run on this machine, worst first.");
  m.def("cells", &cell_list, "The cells, in index order: name, gates, saved slots, cell state.");
  m.def("fma_peak", &fma_peak, py::arg("threads"), py::arg("seconds"), py::arg("isa") = "",
        "The machine's measured float32 peak: 1e9 FLOP/s of each thread, median and fastest slice, and mean.");
  m.def("line_exchange", &fusedrnn::line_exchange, py::arg("seconds"), py::call_guard<py::gil_scoped_release>(),
        "Nanoseconds in which a cache line goes from one thread to another and back.");
  fusedrnn::text::bind_encoder(m);
  fusedrnn::bind_cuda_plan(m);
  m.attr("cuda_build") = FUSEDRNN_CUDA_BUILD;
  using namespace fusedrnn::python;
  for (auto add : {add_torch_setup, add_stream_step, add_direct_layer})
    if (add(m.ptr()) < 0) throw py::error_already_set();
}
