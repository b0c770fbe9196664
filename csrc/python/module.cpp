// fusedrnn._C: everything native that is not a tensor op. Touches no tensor, so it binds to no
// torch version.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../cells/list.h"
#include "../cpu/backend.h"

namespace py = pybind11;

namespace {

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const char* const* p = fusedrnn::cpu::available_isas(); *p; p++) names.emplace_back(*p);
  return names;
}

py::list cell_list() {
  py::list out;
  for (const auto& cell : fusedrnn::cells::list) {
    py::dict d;
    d["name"] = cell.name;
    d["gates"] = cell.gates;
    d["slots"] = cell.slots;
    d["has_c"] = cell.has_c;
    out.append(d);
  }
  return out;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Facts about the native build of fusedrnn.";
  m.def(
      "isa", [] { return std::string(fusedrnn::cpu::kernels().isa); },
      "Instruction set of the CPU kernels in use (FUSEDRNN_ISA forces one).");
  m.def("available_isas", &available_isas,
        "Instruction sets that were compiled in and run on this machine, worst first.");
  m.def("cells", &cell_list, "The cells, in index order: name, gates, saved slots, cell state.");
  m.attr("cuda_build") = FUSEDRNN_CUDA_BUILD;
}
