"""A graph as C99: ``policy.c`` and ``policy.h``, no heap, nothing of libm but expf, tanhf and sqrtf.

All working memory is a struct of the caller.  Where results lie in it is decided here, by how long each is needed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from s5wm.deploy.c_calls import calls_of, constant_name, literal, offset
from s5wm.deploy.golden import Golden
from s5wm.deploy.graph import Graph, Operation, Reshape, Slice, inputs_of, weights_of

ALIGNMENT = 4
"""Floats to which results in scratch memory are aligned."""

NEEDS: dict[str, tuple[str, ...]] = {
    "apply_sigmoid": ("sigmoid",),
    "apply_silu": ("sigmoid",),
    "apply_symlog": ("log1p_positive",),
}
"""Functions of ``kernels.c`` that others call."""

_CHECK = """    if (!all_finite({name}, POLICY_{NAME})) {{
        return POLICY_BAD_INPUT;
    }}
"""

_REMEMBER = """    if (!all_finite({place}, POLICY_MEMORY)) {{
        return POLICY_NOT_FINITE;
    }}
    memcpy(state->memory, {place}, POLICY_MEMORY * sizeof(float));
"""


@dataclass(frozen=True)
class CSource:
    """Two files."""

    code: str  # policy.c
    header: str  # policy.h


def to_c(graph: Graph, golden: Golden, about: str) -> CSource:
    """The files of a graph; ``golden`` becomes the self-test, ``about`` the comment on top."""
    scratch, places = _places(graph)
    calls = [call for operation in graph.operations for call in calls_of(operation, places)]
    comment = "/*\n" + "".join(f" * {line}".rstrip() + "\n" for line in about.splitlines()) + " */\n"
    values = {
        "about": comment,
        **_inputs(graph, golden),
        "actions": graph.action.size,
        "memory": graph.memory.size,
        "memory_room": max(graph.memory.size, 1),  # C has no empty arrays
        "scratch": scratch,
        "steps": len(golden.action),
        "weights": _constants(graph),
        "kernels": _kernels([call.split("(")[0] for call in calls]),
        "calls": "\n".join(f"    {call}" for call in calls),
        "action_place": places[graph.action.name],
        "remember": _REMEMBER.format(place=places[graph.next_memory.name]) if graph.memory.size else "",
        "golden_action": numbers(golden.action),
        "golden_first": numbers(golden.is_first.astype(np.uint8)),
    }
    return CSource(_filled("policy.c.in", values), _filled("policy.h.in", values))


def _inputs(graph: Graph, golden: Golden) -> dict[str, str]:
    """What the templates say of each input, one after the other."""
    arrays = {value.name: array for value, array in zip(graph.inputs, golden.inputs, strict=True)}
    types = {value.name: "uint8_t" if value.is_uint8 else "float" for value in graph.inputs}
    return {
        "input_sizes": "".join(f"#define POLICY_{x.name.upper()} {x.size}\n" for x in graph.inputs),
        "input_types": "".join(f"typedef {kind} policy_{name};\n" for name, kind in types.items()),
        "parameters": ", ".join(f"const policy_{name} {name}[POLICY_{name.upper()}]" for name in types),
        "checks": "".join(
            _CHECK.format(name=name, NAME=name.upper()) for name, kind in types.items() if kind == "float"
        ),
        "golden_inputs": "".join(
            f"static const policy_{name} golden_{name}[POLICY_SELFTEST_STEPS * POLICY_{name.upper()}] = "
            f"{numbers(array)};\n"
            for name, array in arrays.items()
        ),
        "golden_arguments": ", ".join(f"golden_{name} + t * POLICY_{name.upper()}" for name in types),
    }


def numbers(array: Shaped[np.ndarray, "..."]) -> str:
    """The elements as C writes them."""
    write = str if array.dtype == np.uint8 else literal
    words = [write(value) for value in array.reshape(-1)]
    lines = [", ".join(words[i : i + 10]) for i in range(0, len(words), 10)]
    return "{\n    " + ",\n    ".join(lines) + "\n}"


def _filled(template: str, values: Mapping[str, object]) -> str:
    """A template of this folder with every ``@name@`` replaced."""
    text = (Path(__file__).parent / template).read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), text)


def _constants(graph: Graph) -> str:
    return "\n".join(
        f"static const float {constant_name(operation, field)}[{array.size}] = {numbers(array)};\n"
        for operation in graph.operations
        for field, array in weights_of(operation).items()
    )


def _kernels(used: list[str]) -> str:
    text = (Path(__file__).parent / "kernels.c").read_text(encoding="utf-8")
    wanted = {name for call in used for name in (call, *NEEDS.get(call, ()))}
    found = re.findall(r"^//// (\w+)\n(.*?)(?=^////|\Z)", text, re.MULTILINE | re.DOTALL)
    return "".join(body for name, body in found if name in wanted)


def _places(graph: Graph) -> tuple[int, dict[str, str]]:
    """Floats of scratch memory, and the C expression for every value: results share memory once no longer needed."""
    names = {value.name: value.name for value in graph.inputs} | {graph.memory.name: "state->memory"}
    last = _last_uses(graph)
    taken: list[tuple[int, int, int]] = []  # start, size, index of the operation that reads it last
    scratch = 0
    for index, operation in enumerate(graph.operations):
        out = operation.out
        if isinstance(operation, Slice | Reshape):
            start = operation.start if isinstance(operation, Slice) else 0
            names[out.name] = offset(names[operation.x.name], start)
            continue
        taken = [each for each in taken if each[2] >= index]
        start = _first_gap(taken, out.size)
        taken.append((start, out.size, last[out.name]))
        scratch = max(scratch, start + out.size)
        names[out.name] = offset("s", start)
    return scratch, names


def _last_uses(graph: Graph) -> dict[str, int]:
    """Index of the operation that reads a value last, through views of it too."""
    last = dict.fromkeys((graph.action.name, graph.next_memory.name), len(graph.operations))
    for index, operation in reversed(list(enumerate(graph.operations))):
        until = last.setdefault(operation.out.name, index)
        until = until if _is_view(operation) else index
        for value in inputs_of(operation):
            last[value.name] = max(last.get(value.name, index), until)
    return last


def _is_view(operation: Operation) -> bool:
    return isinstance(operation, Slice | Reshape)


def _first_gap(taken: list[tuple[int, int, int]], size: int) -> int:
    start = 0
    for begin, length, _ in sorted(taken):
        if start + size <= begin:
            break
        start = max(start, -(-(begin + length) // ALIGNMENT) * ALIGNMENT)
    return start
