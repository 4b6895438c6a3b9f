"""Reports in a headless browser: nothing is fetched or refused, and the page fits narrow and wide windows."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.outcome import Scores, write_outcome
from skelpipe.train.evaluation.scatter_plot import draw_scatter
from skelpipe.train.reporting.report import write_report

NASTY = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
WIDTHS = (360, 768, 1440)
# Becomes the browser, which reads from descriptor 3 and answers on 4; both are copied out of the way first.
CONNECTED = """
import os, sys
pipes = [os.dup(os.dup(int(number))) for number in sys.argv[1:3]]
for wanted, held in zip((3, 4), pipes):
    os.dup2(held, wanted)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A headless Chromium, controlled by the DevTools protocol through pipes."""

    def __init__(self, program: str, profile: Path) -> None:
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()

        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        command = [program, *options, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", CONNECTED, str(to_child), str(from_child), *command],
            pass_fds=(to_child, from_child),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = None
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command; events that arrive before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def open(self, page: Path, width: int, *, dark: bool = False, still: bool = False) -> None:
        """Show a page in a window of that width and wait until it has loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> np.ndarray:
        """Return the whole page as pixels [H,W,3]."""
        from PIL import Image

        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        with Image.open(io.BytesIO(base64.b64decode(shot["data"]))) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    def close(self) -> None:
        os.close(self._write)
        self._process.kill()
        self._process.wait()
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has gone"
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(line))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no browser is installed: chromium or google-chrome")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        running = Browser(program, Path(profile))
        yield running
        running.close()


@pytest.fixture(scope="module")
def page(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an evaluation in which a class and the method have names that are HTML."""
    folder = tmp_path_factory.mktemp("browser")
    labels, names = tiny_dataset.labels("test"), list(tiny_dataset.classes)
    names[59] = NASTY
    scores = np.random.default_rng(1).normal(size=(len(labels), len(names))).astype(np.float32)
    about = {"protocol": "linear", "dataset": "ntu60-xsub", "digest": tiny_dataset.digest, "split": "test"}
    about |= {"view": "joint", "what": NASTY, "classes": json.dumps(names)}
    result = {**about, "figures": {"top1": 12.5, "top5": 50.0}, "chance": 33.3, "a long name " * 9: "x" * 300}
    log = [{"epoch": e, "loss": 4 / e} for e in range(1, 20)]
    settings = {"key" * 30: "value " * 60, "name": NASTY}
    scored = Scores(tiny_dataset.ids("test"), labels, scores, about)
    write_outcome(folder, scored, result, log=log, settings=settings)
    return write_report(folder, tiny_dataset)


def complaints(browser: Browser) -> list[dict[str, Any]]:
    """The browser's complaints: content that was refused or failed, errors of scripts, broken rules."""
    wrong = ("Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded")
    return [event for event in browser.events if event.get("method") in wrong]


def test_nothing_is_fetched_refused_or_broken(browser: Browser, page: Path) -> None:
    browser.open(page, 1024)
    browser.value("new Promise(done => setTimeout(done, 300))")
    asked = [
        e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"
    ]
    assert asked == [page.as_uri()]
    assert complaints(browser) == []
    assert "owned" not in browser.value("document.title")
    assert browser.value("document.querySelectorAll('img').length") == 0


def test_the_picture_of_an_embedding_is_shown(browser: Browser, tmp_path: Path) -> None:
    places = np.random.default_rng(0).normal(size=(30, 2))
    assert draw_scatter(places, np.arange(30) % 2, ["a", "b"], "title", tmp_path / "embedding.png")
    (tmp_path / "result.json").write_text(json.dumps({"protocol": "embed", "figures": {"nmi": 0.5}}))
    browser.open(write_report(tmp_path), 360)
    assert complaints(browser) == []
    assert browser.value("document.querySelector('img').naturalWidth") > 500
    assert browser.value("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_the_window_and_wide_tables_scroll(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    # Only elements that may scroll have content wider than themselves.
    wide = (
        "[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth"
    )
    inside = " && !e.closest('svg') && !['auto', 'scroll'].includes(getComputedStyle(e).overflowX))"
    assert browser.value(f"{wide}{inside}.map(e => e.tagName + e.className)") == []


def test_clips_play_until_the_button_is_pressed(browser: Browser, page: Path) -> None:
    browser.open(page, 1024)
    button = "document.getElementById('still')"
    playing = "[...document.querySelectorAll('svg.clip')].map(e => !e.animationsPaused())"
    assert browser.value(f"{button}.textContent") == "Pause the clips"
    assert browser.value(playing)
    assert all(browser.value(playing))
    # The visible path changes from frame to frame: a clip of 8 frames at 20 per second repeats after 0.4 s.
    moving = """(async () => {
      const clip = document.querySelector('svg.clip'), seen = new Set();
      clip.pauseAnimations();
      for (let i = 0; i < 8; i++) {
        clip.setCurrentTime(i * 0.05 + 0.01);
        await new Promise(requestAnimationFrame);
        seen.add([...clip.querySelectorAll('path')].map(e => getComputedStyle(e).d).join());
      }
      return seen.size;
    })()"""
    assert browser.value(moving) == 8
    browser.value(f"{button}.click()")
    assert not any(browser.value(playing))
    assert browser.value(f"{button}.textContent") == "Play the clips"


def test_clips_do_not_move_if_the_system_asks_for_reduced_motion(browser: Browser, page: Path) -> None:
    browser.open(page, 1024, still=True)
    assert browser.value("[...document.querySelectorAll('svg.clip')].every(e => e.animationsPaused())")
    assert browser.value("document.getElementById('still').getAttribute('aria-pressed')") == "true"


def test_a_cell_of_the_matrix_is_described_under_the_pointer(browser: Browser, page: Path) -> None:
    browser.open(page, 1024)
    data = browser.value("JSON.parse(document.getElementById('matrix').textContent)")
    counts = np.array(data["counts"])
    row, column = map(int, np.argwhere(counts - np.diag(counts.diagonal()) > 0)[0])
    frame = "document.querySelector('.matrix .frame')"
    browser.value(f"{frame}.scrollIntoView({{block: 'center'}})")
    box = browser.value(f"(b => [b.x, b.y, b.width, b.height])({frame}.getBoundingClientRect())")
    x, y = (box[i] + (cell + 0.5) * box[2 + i] / len(counts) for i, cell in enumerate((column, row)))
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    share = 100 * counts[row, column] / counts[row].sum()
    assert browser.value("document.getElementById('cell').textContent") == (
        f"{data['names'][row]} predicted as {data['names'][column]}: "
        f"{counts[row, column]} of {counts[row].sum()} clips ({share:.1f} %)"
    )


def contrast(a: np.ndarray, b: np.ndarray) -> float:
    """The contrast of two colours as WCAG 2 defines it."""

    def light(colour: np.ndarray) -> float:
        part = colour / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    bright, dim = sorted((light(a), light(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_legible_in_light_and_dark(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, 1024, dark=dark)
    colours = """['h1', 'section p', 'nav a', 'thead th', 'tbody td'].map(name => {
      const element = document.querySelector(name);
      const numbers = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
      let under = element;
      while (getComputedStyle(under).backgroundColor === 'rgba(0, 0, 0, 0)') under = under.parentElement;
      return [numbers(getComputedStyle(element).color), numbers(getComputedStyle(under).backgroundColor)];
    })"""
    for ink, ground in browser.value(colours):
        assert contrast(np.array(ink), np.array(ground)) >= 4.5
    image = browser.picture()
    assert 1000 <= image.shape[1] <= 1024  # with or without a scroll bar
    assert (image[:40].mean() < 80) == dark
    drawn = np.unique(image.reshape(-1, 3), axis=0)
    assert len(drawn) > 100  # text, curves, matrix and clips


def test_anchors_lead_to_sections(browser: Browser, page: Path) -> None:
    browser.open(page, 1024)
    lost = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.getAttribute('href')))"
    assert browser.value(f"{lost}.length") == 0
    assert browser.value("document.querySelectorAll('nav a').length") >= 6


def test_every_picture_has_a_name(browser: Browser, page: Path) -> None:
    browser.open(page, 1024)
    pictures = "[...document.querySelectorAll('svg:not([aria-hidden]), button')]"
    nameless = f"{pictures}.filter(e => !(e.getAttribute('aria-label') || e.textContent.trim()))"
    assert browser.value(f"{nameless}.map(e => e.outerHTML)") == []
