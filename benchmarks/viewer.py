"""Times a frame of the page that ``s5wm view`` makes, in a headless browser, and writes ``results/viewer/cpu.json``:

    python benchmarks/viewer.py [pretrained/split-s]

A frame is what the page's own thread does for one picture while the flight plays: its script and its layout.  Drawing
follows in other threads: on a graphics card, or, as here where there is none, by software on the same cores.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from checkout import ROOT
from selenium import webdriver

from s5wm.cli import main as s5wm
from s5wm.runs.files import write_json
from s5wm.runs.provenance import provenance

SECONDS = 12.0
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1280,800",
)
TIMED = """
window.frameTimes = [];
const plain = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (act) => plain((now) => {
  const begin = performance.now();
  act(now);
  document.body.offsetHeight;  // lays out what has changed
  window.frameTimes.push(performance.now() - begin);
});
"""


def time_frames(page: Path) -> tuple[list[float], str]:
    """Milliseconds of each frame while the flight plays, and the browser's version."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for option in OPTIONS:
        options.add_argument(option)
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": TIMED})
        browser.get(page.as_uri())
        time.sleep(5.0)
        browser.execute_script("window.frameTimes = []; document.getElementById('play').click()")
        time.sleep(SECONDS)
        times = browser.execute_script("return window.frameTimes")
        return [float(value) for value in times], browser.capabilities["browserVersion"]


def main() -> None:
    """Make the page, play it, write what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("policy", nargs="?", default="pretrained/split-s")
    policy = parser.parse_args().policy
    with tempfile.TemporaryDirectory() as temporary:
        page = Path(temporary) / "page.html"
        try:
            s5wm(["view", policy, "--html", str(page)])
        except SystemExit as end:
            if end.code:
                raise
        size = page.stat().st_size
        times, version = time_frames(page)
    if not times:
        raise SystemExit(f"the page drew no frame in {SECONDS:g} s, so there is nothing to write")
    found = {
        "policy": policy,
        "page_mb": size / 1e6,
        "frames": len(times),
        "frame_ms": {"p50": float(np.median(times)), "p95": float(np.quantile(times, 0.95))},
        "samples_ms": times,
        "browser": f"Chromium {version}",
        "load": os.getloadavg(),
        "cpus": len(os.sched_getaffinity(0)),
        **provenance(),
    }
    folder = ROOT / "results/viewer"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "cpu.json", found)
    print(f"a frame: {found['frame_ms']} ms, {len(times)} frames in {SECONDS:g} s")


if __name__ == "__main__":
    main()
