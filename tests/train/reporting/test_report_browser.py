"""Reports in a headless browser: nothing is fetched or refused, and the page fits narrow and wide windows."""

import json
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, complaints

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.outcome import Scores, write_outcome
from skelpipe.train.evaluation.scatter_plot import draw_scatter
from skelpipe.train.reporting.report import write_report

NASTY = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
WIDTHS = (360, 768, 1440)


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
