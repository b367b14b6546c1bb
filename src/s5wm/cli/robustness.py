"""Output and files of ``s5wm eval --perturb``."""

from pathlib import Path
from typing import Any

from s5wm.cli.common import print_json, table
from s5wm.runs.console import print_line


def report_perturbed(metrics: dict[str, Any], out: Path | None, *, as_json: bool) -> None:
    """Success by suite and strength; with a folder, ``perturb.json`` and a heat map go there."""
    if as_json:
        print_json(metrics)
    else:
        heads = ["as trained", *(f"{strength:g} x" for strength in metrics["strengths"])]
        rows = {name: [metrics["nominal"], *cells] for name, cells in metrics["suites"].items()}
        shown = [(n, "".join(f"{c['success_rate']:>12.0%}" for c in cells)) for n, cells in rows.items()]
        table([("success", "".join(f"{head:>12}" for head in heads)), *shown])
    if out is not None:
        _keep(metrics, out)


def _keep(metrics: dict[str, Any], out: Path) -> None:
    from s5wm.plots.robustness import draw_robustness
    from s5wm.plots.style import house_style, save_figure
    from s5wm.runs.files import write_json

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "perturb.json", metrics)
    with house_style():
        for picture in save_figure(draw_robustness(metrics), out / "plots" / "robustness"):
            print_line(f"drawn: {picture}")
