#include "cuda_plan.h"

#include <string>

#include "../cuda/plan.h"

namespace py = pybind11;

namespace fusedrnn {
namespace {

py::dict device_dict(const cuda::Device& d) {
  py::dict out;
  out["arch"] = d.arch;
  out["sms"] = d.sms;
  out["smem_block"] = d.smem_block;
  out["smem_sm"] = d.smem_sm;
  out["regs_sm"] = d.regs_sm;
  out["threads_sm"] = d.threads_sm;
  out["max_cluster"] = d.max_cluster;
  out["cooperative"] = d.cooperative;
  return out;
}

cuda::Device device_of(const py::dict& d) {
  return {d["arch"].cast<int>(),        d["sms"].cast<int>(),         d["smem_block"].cast<int>(),
          d["smem_sm"].cast<int>(),     d["regs_sm"].cast<int>(),     d["threads_sm"].cast<int>(),
          d["max_cluster"].cast<int>(), d["cooperative"].cast<bool>()};
}

DType dtype_of(const std::string& name) {
  if (name == "float64") return DType::f64;
  if (name == "float32") return DType::f32;
  if (name == "bfloat16") return DType::bf16;
  if (name == "float16") return DType::f16;
  throw py::value_error("dtype: expected float64, float32, bfloat16 or float16, got " + name);
}

py::dict plan_dict(const cuda::Plan& p) {
  py::dict out;
  out["family"] = cuda::name(p.family);
  out["cluster"] = p.cluster;
  out["blocks"] = p.blocks;
  out["threads"] = p.threads;
  out["shared_memory"] = p.smem;
  out["tile_batch"] = p.tile_batch;
  out["tile_units"] = p.tile_units;
  out["workspace"] = p.workspace;
  out["step_us"] = p.step_us;
  out["why"] = p.why;
  return out;
}

py::dict plan(int cell, const std::string& dtype, int64_t steps, int64_t batch, int64_t input, int64_t hidden,
              int64_t projection, int64_t directions, const py::dict& device) {
  const Dims n{steps, batch, input, hidden, projection ? projection : hidden, directions};
  const cuda::Problem p{cell, dtype_of(dtype), false, n, projection != 0, false, false, true};
  const cuda::Device dev = device_of(device);
  py::dict out;
  out["forward"] = plan_dict(cuda::plan_forward(p, dev));
  out["backward"] = plan_dict(cuda::plan_backward(p, dev));
  return out;
}

}  // namespace

void bind_cuda_plan(py::module_& m) {
  m.def(
      "cuda_device", [](int arch) { return device_dict(cuda::known_device(arch)); }, py::arg("arch"),
      "Facts of a device that the plan knows without it: 80, 90 or 100.");
  m.def("largest_cluster", &cuda::largest_cluster, py::arg("arch"),
        "Blocks of the largest cluster of an architecture, 0 without clusters.");
  m.def("cuda_plan", &plan, py::arg("cell"), py::arg("dtype"), py::arg("steps"), py::arg("batch"), py::arg("input"),
        py::arg("hidden"), py::arg("projection"), py::arg("directions"), py::arg("device"),
        "The plans of forward and backward of a layer call on a device.");
}

}  // namespace fusedrnn
