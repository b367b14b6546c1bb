"""The README of an export: inputs, outputs, frames, rates, and how to run it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from s5wm.deploy.c_calls import literal
from s5wm.deploy.card import FlightCard, ObservationCard
from s5wm.deploy.graph import Graph
from s5wm.deploy.parity import FLOWN_TOLERANCE, Errors

DRONE = {
    "card_holds": "everything below as JSON, the track, the quadrotor and the limits",
    "golden": "a simulated flight",
    "frames": """
## Frames

SI units. World: z up. Body: x forward, y left, z up (FLU). Quaternions: w first, body to world.
""",
    "an_episode": "a flight",
    "episode": "flight",
    "body": "vehicle",
    "refuse": "refuse_to_arm",
    "safety": """\
The policy was trained and tested in simulation only. It knows nothing of your drone's limits, of people, or of a lost
position estimate. Check the signs of every axis on the bench without propellers, keep a pilot with a switch that takes
over, and let the flight controller cut the motors. `s5wm fly` shows one set of input checks and fallbacks.""",
}
"""Words for a policy that flies a quadrotor."""

ENVIRONMENT = {
    "card_holds": "everything below as JSON",
    "golden": "episodes in the environment",
    "frames": "",
    "an_episode": "an episode",
    "episode": "episode",
    "body": "environment that runs",
    "refuse": "refuse_to_start",
    "safety": """\
The policy was trained and tested in its environment only. It knows nothing of what that environment leaves out. Before
it moves anything real, check every number that it is given and gives, and limit what its actions can do.""",
}
"""Words for any other."""


def readme(card: FlightCard, graph: Graph, errors: Mapping[str, Errors], *, selftest_steps: int) -> str:
    """Markdown."""
    template = (Path(__file__).parent / "README.md.in").read_text(encoding="utf-8")
    origin = card.origin
    values = {
        **(ENVIRONMENT if card.vehicle is None else DRONE),
        "run": origin.run,
        "task": origin.task or "a task of its own",
        "agent": origin.agent or "an agent of its own",
        "commit": f", commit {origin.commit}" if origin.commit else "",
        "steps": "an unknown number of" if origin.env_steps is None else f"{origin.env_steps:,}",
        "imitation": _imitation(card),
        "period_ms": f"{1e3 * card.control_period:g}",
        "rate": f"{1.0 / card.control_period:g}",
        "inputs": _inputs(card),
        "onnx_inputs": _listed([*(x.name for x in graph.inputs), *(["h_in"] if card.memory else [])]),
        "onnx_outputs": _listed(["actions", *(["h_out"] if card.memory else [])]),
        "c_inputs": ", ".join(x.name for x in graph.inputs),
        "actions": str(card.actions),
        "action": _action(card),
        "memory": _memory(card),
        "memory_size": str(card.memory_size),
        "parameters": f"{graph.parameters:,}",
        "tolerance": literal(1.01 * (FLOWN_TOLERANCE * card.half_ranges + card.rounding).max()),
        "selftest_steps": str(selftest_steps),
        "errors": "\n".join(f"| {name} | {e.flown:.1e} | {e.random:.1e} |" for name, e in errors.items()),
    }
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def _imitation(card: FlightCard) -> str:
    imitation = card.imitation
    if imitation is None:
        return ""
    lines = [
        f"The network is a student of that policy: {imitation.layers} layers of {imitation.units}, no memory. Its "
        f"actions differ from the policy's by {imitation.error:.3f} (root mean square) in the states that it visits. "
        f"{imitation.episodes} episodes each:",
        "",
        "| | success | lap | return |",
        "|---|---|---|---|",
    ]
    for name, each in (("policy", imitation.teacher), ("student", imitation.student)):
        success = "" if each.success_rate is None else f"{each.success_rate:.0%}"
        lap = "" if each.lap_time_mean is None else f"{each.lap_time_mean:.3f} s"
        lines.append(f"| {name} | {success} | {lap} | {each.return_mean:.2f} |")
    return "\n".join(["", *lines, ""])


def _listed(words: Sequence[str]) -> str:
    """As names of code, with commas and an "and"."""
    *others, last = (f"`{word}`" for word in words)
    return f"{', '.join(others)} and {last}" if others else last


def _inputs(card: FlightCard) -> str:
    """A section for each input."""
    shown = card.observation
    shape = " x ".join(map(str, shown.shape))
    sections = [
        f"## Input: `obs`, {shape}, {shown.dtype}",
        _image(shown) if shown.is_image else _vector(card),
    ]
    if shown.vector_size:
        sections += [f"## Input: `vector`, {shown.vector_size}, float32", "The numbers beside the image."]
        sections += [_vector(card)]
    return "\n\n".join(sections)


def _image(shown: ObservationCard) -> str:
    channels = shown.shape[-1]
    last = "red, green and blue" if channels == 3 else f"the {channels} channels" if channels > 1 else "grey"
    return f"One image per step: rows from the top, then columns from the left, then {last}, 0 to 255."


def _vector(card: FlightCard) -> str:
    shown = card.observation
    if not shown.entries:
        return (
            "The numbers are those of the environment's own observation, flattened, in the order of its space (keys of "
            "a dictionary in its order); a choice is a one-hot."
        )
    lines = ["| numbers | quantity | divided by | frame |", "|---|---|---|---|"]
    start = 0
    for entry in shown.entries:
        unit = "" if entry.unit == "1" else f" {entry.unit}"
        lines.append(
            f"| {start} to {start + entry.size - 1} | {entry.name} | {entry.scale:g}{unit} | {entry.frame} |"
        )
        start += entry.size
    return "\n".join(lines if shown.is_image else [*lines, *_of_gates(card)])


def _of_gates(card: FlightCard) -> list[str]:
    if card.track is None:
        return []
    return [
        "",
        "The target is gate 0 at the start, and after the last one gate 0 again. The next gate becomes the target in "
        "the step after the drone's centre crossed the target's plane in the direction of passing, within its opening "
        f"less the drone's radius ({card.track.half_opening - card.track.drone_radius:g} m to each side of the axis). "
        "The track is in `card.json`.",
        "",
        "To see it fly on a simulated drone: `s5wm fly . --target sim --fast`",
    ]


def _action(card: FlightCard) -> str:
    vehicle = card.vehicle
    if card.choices:
        return f"One-hots of {len(card.choices)} choices, of {', '.join(map(str, card.choices))}: take the largest."
    if vehicle is None:
        rows = zip(card.action_low, card.action_high, strict=True)
        lines = [f"| {i} | {low:g} | {high:g} |" for i, (low, high) in enumerate(rows)]
        return "\n".join(
            [
                "The numbers are those of the environment's own action, flattened.",
                "",
                "| number | from | to |",
                "|---|---|---|",
                *lines,
            ]
        )
    p, q, r = vehicle.rate_max
    full = 4.0 * vehicle.thrust_max
    return "\n".join(
        [
            "| number | meaning | -1 | 1 |",
            "|---|---|---|---|",
            f"| 0 | collective thrust, all rotors | 0 N | {full:.4g} N ({full / vehicle.mass:.4g} m/s^2) |",
            f"| 1 | roll rate, body x forward | {-p:g} rad/s | {p:g} rad/s |",
            f"| 2 | pitch rate, body y left (positive: nose down) | {-q:g} rad/s | {q:g} rad/s |",
            f"| 3 | yaw rate, body z up (positive: nose left) | {-r:g} rad/s | {r:g} rad/s |",
        ]
    )


def _memory(card: FlightCard) -> str:
    if not card.memory:
        return "This policy has no memory: `h_in` and `h_out` do not exist."
    lines = ["| numbers | part |", "|---|---|"]
    lines += [f"| {s.start} to {s.start + s.size - 1} | {s.name} |" for s in card.memory]
    return "\n".join(lines)
