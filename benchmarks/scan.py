"""Times the forms of the linear recurrence: alone and inside a two-layer S5, forward plus gradient.

Writes ``results/scan/<platform>.json`` with every raw sample, the device, the versions and the commit:

    python benchmarks/scan.py [--samples 20] [--output results/scan/cpu.json]
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from checkout import ROOT

from s5wm.bench.uncached import uncached
from s5wm.nn.s5 import S5Config
from s5wm.ops import recurrence
from s5wm.ops.pairs import ComplexPair
from s5wm.ops.recurrence import FORMS, ScanMethod, linear_recurrence
from s5wm.runs.provenance import provenance

UNROLLS = (1, 4, 8)  # a full unroll of 64 steps compiled for a minute on CPU and ran slower still
WARM_UP = 3
SIZES = ((64, 32), (256, 128))  # width, state size
BATCHES = ((16, 64), (32, 32))  # B, T


@dataclass(frozen=True, kw_only=True)
class Case:
    """One timed program."""

    name: str
    settings: dict[str, Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    unroll: int


def recurrence_cases(states: int, batch: int, length: int) -> list[Case]:
    """Value and gradient of the recurrence alone, with its own reverse rule and with plain autodiff."""
    k_b, k_x, k_first = jr.split(jr.key(0), 3)
    decay = ComplexPair(jnp.full(states, 0.9), jnp.full(states, 0.3))
    b = ComplexPair(*jr.normal(k_b, (2, batch, length, states)))
    x0 = ComplexPair(*jr.normal(k_x, (2, batch, states)))
    first = jr.bernoulli(k_first, 0.02, (batch, length))

    def program(form: Callable[..., ComplexPair]) -> Callable[..., Any]:
        def loss(decay: ComplexPair, b: ComplexPair, x0: ComplexPair) -> jax.Array:
            x = jax.vmap(form, (None, 0, 0, 0))(decay, b, x0, first)
            return jnp.sum(jnp.sin(x.re)) + jnp.sum(jnp.sin(x.im))

        return jax.value_and_grad(loss, argnums=(0, 1, 2))

    def custom(method: ScanMethod) -> Callable[..., ComplexPair]:
        return lambda decay, b, x0, first: linear_recurrence(decay, b, x0, first, method)

    rules = {"custom": custom, "autodiff": FORMS.__getitem__}
    return [
        Case(
            name="recurrence value_and_grad",
            settings={
                "B": batch,
                "T": length,
                "P": states,
                "method": method.value,
                "vjp": rule,
                "unroll": unroll,
            },
            function=program(make(method)),
            arguments=(decay, b, x0),
            unroll=unroll,
        )
        for rule, make in rules.items()
        for method, unroll in _methods(length)
    ]


def stack_cases(width: int, state_size: int, batch: int, length: int) -> list[Case]:
    """Value and gradient of a two-layer S5."""
    k_model, k_u, k_first = jr.split(jr.key(0), 3)
    u = jr.normal(k_u, (batch, length, width))
    first = jr.bernoulli(k_first, 0.02, (batch, length))

    def make(method: ScanMethod, unroll: int) -> Case:
        config = S5Config(width=width, state_size=state_size, layers=2, scan=method)
        model = config.build(width, key=k_model)

        def loss(model: eqx.Module, u: jax.Array) -> tuple[jax.Array, jax.Array]:
            memories, y = jax.vmap(model.scan, (None, 0, 0))(model.initial(), u, first)
            return jnp.mean(jnp.sin(y)), memories

        settings = {"width": width, "state": state_size, "B": batch, "T": length}
        return Case(
            name="S5 value_and_grad",
            settings={**settings, "method": method.value, "unroll": unroll},
            function=jax.value_and_grad(loss, argnums=(0, 1), has_aux=True),
            arguments=(model, u),
            unroll=unroll,
        )

    return [make(method, unroll) for method, unroll in _methods(length)]


def _methods(length: int) -> list[tuple[ScanMethod, int]]:
    loops = [(ScanMethod.SEQUENTIAL, unroll) for unroll in UNROLLS if unroll <= length]
    return [*loops, (ScanMethod.ASSOCIATIVE, 1), (ScanMethod.DOUBLING, 1)]


def measure(cases: list[Case], samples: int) -> list[dict[str, Any]]:
    """Compile all, then time them in turn, so that a busy moment of the machine falls on every case alike."""
    programs = [_compile(case) for case in cases]
    raw: list[list[float]] = [[] for _ in cases]
    for sample in range(samples + WARM_UP):
        for case, (program, _), times in zip(cases, programs, raw, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(program(*case.arguments))
            if sample >= WARM_UP:
                times.append(time.perf_counter() - start)
    return [
        {
            "name": case.name,
            **case.settings,
            "compile_s": round(compile_s, 3),
            "median_ms": round(1e3 * statistics.median(times), 4),
            "min_ms": round(1e3 * min(times), 4),
            "samples_s": [round(sample, 7) for sample in times],
        }
        for case, (_, compile_s), times in zip(cases, programs, raw, strict=True)
    ]


def _compile(case: Case) -> tuple[Callable[..., Any], float]:
    recurrence.UNROLL = case.unroll
    start = time.perf_counter()
    program = jax.jit(case.function).lower(*case.arguments).compile()
    return program, time.perf_counter() - start


def environment() -> dict[str, Any]:
    """What the figures were measured on."""
    return {**provenance(), "cores": len(os.sched_getaffinity(0)), "load_average": os.getloadavg()}


def main() -> None:
    """Run every case and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--output", type=Path, default=ROOT / f"results/scan/{jax.default_backend()}.json")
    options = parser.parse_args()
    groups = [recurrence_cases(64, *batch) for batch in BATCHES]
    groups += [stack_cases(*size, *batch) for size in SIZES for batch in BATCHES]
    before = environment()
    results = []
    for group in groups:
        with uncached():
            measured = measure(group, options.samples)
        for result in measured:
            results.append(result)
            print({k: v for k, v in result.items() if k != "samples_s"}, flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"environment": before, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
