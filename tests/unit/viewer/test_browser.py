"""A page in a browser: it opens without an error, and what it shows follows the slider, the keys and the clock."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s5wm.viewer.page import page_of

from .pages import DT, ROWS, flying, page_content, panel, written

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="no Chromium with its driver here (Debian: apt install chromium chromium-driver)",
    ),
]

selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1280,800",
)

PIXELS = """
const from = document.querySelector(arguments[0]), pen = document.createElement("canvas").getContext("2d");
pen.canvas.width = from.width; pen.canvas.height = from.height;
pen.drawImage(from, 0, 0);
const pixels = Array.from(pen.getImageData(0, 0, from.width, from.height).data);
return pixels.reduce((sum, value, index) => (sum * 31 + value * (index % 97)) % 1e9, 7);
"""
"""A number that tells two pictures of a canvas apart."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


def errors(browser: Any) -> list[str]:
    return [
        line["message"]
        for line in browser.get_log("browser")
        if line["level"] == "SEVERE" and "GPU" not in line["message"]
    ]


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the page did not get there in time"
        time.sleep(0.05)


def frames(browser: Any) -> int:
    return int(browser.execute_script("return document.body.dataset.frames || 0"))


def open_page(browser: Any, file: Path) -> None:
    browser.get(file.as_uri())
    wait_until(lambda: frames(browser) > 0)
    # Curves out of sight are not drawn.
    browser.execute_script("document.querySelector('.panel').scrollIntoView()")
    is_drawn = "const c = document.querySelector('.panel canvas.over'); return c.style.width !== ''"
    wait_until(lambda: browser.execute_script(is_drawn))
    time.sleep(0.5)


def settle(browser: Any, act: Callable[[], object]) -> None:
    before = frames(browser)
    act()
    wait_until(lambda: frames(browser) > before)


def move_to(browser: Any, row: int) -> None:
    move = """
    const slider = document.getElementById("time");
    slider.value = arguments[0];
    slider.dispatchEvent(new Event("input"));
    """
    settle(browser, lambda: browser.execute_script(move, str(row)))


def press(browser: Any, key: str, shift: bool = False) -> None:
    event = "new KeyboardEvent('keydown', {key: arguments[0], shiftKey: arguments[1], bubbles: true})"
    settle(browser, lambda: browser.execute_script(f"document.body.dispatchEvent({event})", key, shift))


def clock(browser: Any) -> float:
    return float(browser.execute_script("return document.getElementById('clock').textContent").split()[0])


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = page_content(flying("one", 0.0), flying("other", 1.0))
    return written(tmp_path_factory.mktemp("flight"), page_of(content))


def test_the_slider_moves_scene_curves_and_camera(browser: Any, flight: Path) -> None:
    open_page(browser, flight)
    parts = ("#world", ".panel canvas.over", ".camera canvas")
    move_to(browser, 10)
    before = {part: browser.execute_script(PIXELS, part) for part in parts}
    speed = browser.execute_script("return document.querySelector('#hud td').textContent")
    move_to(browser, 90)
    assert clock(browser) == pytest.approx(90 * DT)
    after = {part: browser.execute_script(PIXELS, part) for part in parts}
    assert all(before[part] != after[part] for part in parts)
    assert browser.execute_script("return document.querySelector('#hud td').textContent") != speed
    assert errors(browser) == []


def test_imagined_futures_can_be_hidden(browser: Any, flight: Path) -> None:
    open_page(browser, flight)
    move_to(browser, 40)
    shown = [browser.execute_script(PIXELS, part) for part in ("#world", ".panel canvas.over")]
    press(browser, "f")
    hidden = [browser.execute_script(PIXELS, part) for part in ("#world", ".panel canvas.over")]
    assert shown[0] != hidden[0] and shown[1] != hidden[1]
    press(browser, "f")
    assert [browser.execute_script(PIXELS, part) for part in ("#world", ".panel canvas.over")] == shown


def test_keys_step_and_play(browser: Any, flight: Path) -> None:
    open_page(browser, flight)
    press(browser, "ArrowRight")
    press(browser, "ArrowRight", shift=True)
    assert clock(browser) == pytest.approx(11 * DT)
    press(browser, "ArrowLeft")
    assert clock(browser) == pytest.approx(10 * DT)
    press(browser, "End")
    assert clock(browser) == pytest.approx((ROWS - 1) * DT, abs=0.01)
    press(browser, " ")  # from its end it begins again
    wait_until(lambda: 0.1 < clock(browser) < (ROWS - 1) * DT)
    press(browser, " ")
    stopped = clock(browser)
    time.sleep(0.3)
    assert clock(browser) == stopped
    for _ in range(3):
        press(browser, "v")
    assert errors(browser) == []


def test_a_click_on_a_curve_moves_there(browser: Any, flight: Path) -> None:
    open_page(browser, flight)
    area = browser.find_element("css selector", ".panel .u-over")
    settle(browser, lambda: selenium.ActionChains(browser).move_to_element(area).click().perform())
    assert 0.3 * ROWS * DT < clock(browser) < 0.7 * ROWS * DT


def test_a_page_without_a_drone_has_curves_alone_at_the_width_of_a_telephone(
    browser: Any, tmp_path: Path
) -> None:
    policy = flying("pole", 0.0) | {"flight": None, "camera": None, "note": "the agent has no world model"}
    policy["panels"].append(panel("reward and value", "reward", np.ones(ROWS)))
    content = page_content(policy) | {"course": None, "task": "gymnasium:CartPole-v1"}
    browser.set_window_size(500, 900)
    try:
        open_page(browser, written(tmp_path, page_of(content)))
        move_to(browser, 50)
        seen = browser.execute_script(
            "return [getComputedStyle(document.getElementById('scene')).display,"
            "document.querySelectorAll('.panel').length, document.documentElement.scrollWidth, window.innerWidth,"
            "document.body.innerText.includes('the agent has no world model')]"
        )
        assert seen[0] == "none" and seen[1] == 3 and seen[2] <= seen[3] and seen[4]
        assert errors(browser) == []
    finally:
        browser.set_window_size(1280, 800)
