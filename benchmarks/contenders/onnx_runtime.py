"""ONNX Runtime's RNN, GRU and LSTM operators on its CPU provider: inference alone.

ONNX orders the gates otherwise (LSTM i,o,f,c; GRU z,r,h) and keeps both biases in one vector; see
the operators' definitions at https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.contenders import Call, Problem, Unsupported

NAME = "ONNX Runtime"
ORDER = {"rnn": [0], "gru": [1, 0, 2], "lstm": [0, 3, 1, 2]}


def missing() -> str | None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        return f"not installed: {error}"
    return None


def _reordered(weight: Tensor, cell: str) -> Tensor:
    gates = weight.detach().chunk(len(ORDER[cell]))
    return torch.cat([gates[k] for k in ORDER[cell]])


def _weights(problem: Problem, layer: int) -> dict[str, Tensor]:
    """W [D, G*H, I], R [D, G*H, H] and B [D, 2*G*H] of one layer."""
    state = problem.module.state_dict()
    w, r, b = [], [], []
    for suffix in ("", "_reverse")[: problem.case.directions]:

        def get(name: str, end: str = f"_l{layer}{suffix}") -> Tensor:
            return _reordered(state[name + end], problem.case.cell)

        w.append(get("weight_ih"))
        r.append(get("weight_hh"))
        b.append(torch.cat([get("bias_ih"), get("bias_hh")]))
    return {"W": torch.stack(w), "R": torch.stack(r), "B": torch.stack(b)}


def model(problem: Problem) -> bytes:
    """The layers as an ONNX model: x [T, B, I] to y [T, B, D*H]."""
    from onnx import TensorProto, checker, helper, numpy_helper

    case = problem.case
    nodes, constants, x = [], [], "x"
    shape = numpy_helper.from_array(torch.tensor([0, 0, -1]).numpy(), "shape")
    options = {"hidden_size": case.hidden}
    options |= {"direction": "bidirectional"} if case.directions == 2 else {}
    options |= {"linear_before_reset": 1} if case.cell == "gru" else {}
    for layer in range(case.layers):
        weights = {f"{k}{layer}": v.numpy() for k, v in _weights(problem, layer).items()}
        constants += [numpy_helper.from_array(v, k) for k, v in weights.items()]
        outs = [f"{k}{layer}" for k in ("raw", "moved", "y")]
        nodes += [
            helper.make_node(case.cell.upper(), [x, *weights], outs[:1], **options),
            helper.make_node("Transpose", outs[:1], outs[1:2], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [outs[1], "shape"], outs[2:]),
        ]
        x = outs[2]
    float32, first = TensorProto.FLOAT, [case.steps, case.batch]
    graph = helper.make_graph(
        nodes, "layers",
        [helper.make_tensor_value_info("x", float32, [*first, case.inputs])],
        [helper.make_tensor_value_info(x, float32, [*first, case.directions * case.hidden])],
        [*constants, shape],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(made)
    return made.SerializeToString()


def build(problem: Problem) -> Call:
    import onnxruntime

    if problem.training:
        raise Unsupported("inference only")
    if problem.case.ragged or problem.case.dtype != "float32":
        raise Unsupported("only float32 without lengths")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = problem.threads
    options.inter_op_num_threads = 1
    # Its threads spin during a run as they do by default, but not on, into the next contender's time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        model(problem), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": problem.x.numpy()}
    return lambda: session.run(None, feed)
