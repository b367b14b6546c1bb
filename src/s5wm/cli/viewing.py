"""The verb that shows an episode in the browser."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from s5wm.cli.common import DONE, Verb, arg
from s5wm.cli.evaluating import Policy
from s5wm.errors import ConfigError, WriteError
from s5wm.runs.console import print_line


@dataclass(frozen=True)
class View(Verb):
    """Show an episode and its imagined futures in the browser.

    The page shows what happened, and what the world model predicted at any moment of it.  A drone flies its track
    in three dimensions with the fan of imagined futures ahead of it; every task has curves of observations,
    actions, rewards and values.  Several policies of one task are shown together.  The page is one file that works
    without a network; without --html it is served on 127.0.0.1 until Ctrl-C.
    Example: s5wm view pretrained/split-s --html flight.html
    """

    runs: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="RUN ...", help="Run directories or pretrained/NAME, of one task."),
    ]
    html: Annotated[
        Path | None, arg(metavar="PATH", help="Write the page to this file instead of serving it.")
    ] = None
    policy: Policy = "latest"
    seed: Annotated[int, arg(help="Random seed of the episode.")] = 0
    horizon: Annotated[int, arg(help="Steps to imagine at each moment.")] = 50
    samples: Annotated[int, arg(help="Futures to imagine at each moment.")] = 8
    port: Annotated[int, arg(help="Port on 127.0.0.1; 0: any free port.")] = 0
    no_browser: Annotated[bool, arg(help="Serve the page without opening a browser.")] = False

    def run(self) -> int:
        """Run the episodes and show them."""
        self._check()
        from s5wm.viewer.content import view_content
        from s5wm.viewer.futures import FuturesConfig
        from s5wm.viewer.page import page_of
        from s5wm.viewer.server import serve

        config = FuturesConfig(horizon=self.horizon, samples=self.samples)
        page = page_of(
            view_content(self.runs, config=config, which=self.policy, seed=self.seed, log=print_line)
        )
        if self.html is None:
            try:
                serve(page, port=self.port, opens=not self.no_browser, log=print_line)
            except OSError as error:
                raise ConfigError(
                    f"--port {self.port} cannot be used: {error.strerror}; take 0 for a free one"
                ) from error
            return DONE
        try:
            self.html.parent.mkdir(parents=True, exist_ok=True)
            self.html.write_text(page, encoding="utf-8")
        except OSError as error:
            raise WriteError(f"cannot write {self.html}: {error.strerror}") from error
        print_line(f"written: {self.html} ({len(page.encode()) / 1e6:.1f} MB); open it in a browser")
        return DONE

    def _check(self) -> None:
        if not self.runs:
            raise ConfigError("no run was given to view; name at least one, such as pretrained/split-s")
        for name, value in (("horizon", self.horizon), ("samples", self.samples)):
            if value < 1:
                raise ConfigError(f"--{name} is {value}; it must be at least 1")
        if not 0 <= self.port < 65536:
            raise ConfigError(f"--port is {self.port}; it must lie in [0, 65535]")
