"""The page: its data, its names escaped, and how it works in a browser, narrow and wide."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from chromium import Browser, complaints

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.train.browsing.workbench import workbench, write_workbench
from skelpipe.train.reporting.record import Record


class Scripts(HTMLParser):
    """The elements of a page, and the text of its JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") == "data"

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.data += data


def test_the_data_are_clips_and_what_each_run_said(tiny_dataset: Dataset, evaluations: list[Record]) -> None:
    page = workbench([tiny_dataset], evaluations, limit=100)
    data = json.loads(Scripts(page.text).data)
    assert page.shown == page.clips == len(data["clips"]) == 48
    assert page.remarks == ("ntu60-xsub: all 48 clips.",)
    test = {clip["id"]: clip["outcomes"] for clip in data["clips"] if clip["subset"] == 1}
    labels = tiny_dataset.labels("test").tolist()
    for number, (id_, label) in enumerate(zip(tiny_dataset.ids("test"), labels, strict=True)):
        assert test[id_] == [[label, False] if number < 20 else [5, True], [label, False]]
    assert all(clip["outcomes"] == [None, None] for clip in data["clips"] if clip["subset"] == 0)


def test_what_is_left_out_is_said(tiny_dataset: Dataset) -> None:
    page = workbench([tiny_dataset], [], limit=7, seed=3)
    assert page.shown == 7
    (remark,) = page.remarks
    assert remark == (
        "ntu60-xsub: 7 of 48 clips, 2 to 3 per class, drawn by seed 3; 41 clips are left out: --clips takes more."
    )
    assert remark in re.sub("<.*?>", "", page.text)


def test_no_name_is_markup_and_nothing_is_fetched(tiny_dataset: Dataset, evaluations: list[Record]) -> None:
    text = workbench([tiny_dataset], evaluations, limit=100).text
    parsed = Scripts(text)
    assert not [tag for tag, _ in parsed.tags if tag in ("img", "link", "iframe")]
    assert not [value for _, attributes in parsed.tags for name, value in attributes.items() if name == "src"]
    assert not [
        name for _, attributes in parsed.tags for name in attributes if name.startswith("on") or name == "style"
    ]
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert sum(tag == "script" for tag, _ in parsed.tags) == 2
    assert not re.findall(r"https?://", text)


def test_runs_of_other_clips_have_curves_and_no_mistakes(tiny_dataset: Dataset, evaluations: list[Record]) -> None:
    other = Record(Path("other"), {"digest": "0" * 64}, predicted={tiny_dataset.ids("test")[0]: (0, 1)})
    page = workbench([tiny_dataset], [other], limit=100)
    assert "other: evaluated clips of another dataset" in page.remarks[1]
    assert all(clip["outcomes"] == [None] for clip in json.loads(Scripts(page.text).data)["clips"])
    alone = workbench([], evaluations, limit=100)
    assert not Scripts(alone.text).data
    assert 'id="curves"' in alone.text


def test_equal_files_give_an_equal_page(tiny_dataset: Dataset, evaluations: list[Record]) -> None:
    assert workbench([tiny_dataset], evaluations, limit=9) == workbench([tiny_dataset], evaluations, limit=9)


def test_what_is_given_twice_or_a_folder_is_refused(
    tiny_dataset: Dataset, evaluations: list[Record], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="the dataset is given twice"):
        workbench([tiny_dataset, tiny_dataset], [], limit=9)
    with pytest.raises(UsageError, match="the run is given twice"):
        workbench([], [evaluations[0], evaluations[0]], limit=9)
    with pytest.raises(UsageError, match="is a folder"):
        write_workbench(tmp_path, [tiny_dataset], [], limit=9)


@pytest.mark.parametrize("width", [390, 1280])
def test_clips_are_filtered_and_played_by_keyboard(
    browser: Browser, tiny_dataset: Dataset, evaluations: list[Record], tmp_path: Path, width: int
) -> None:
    path = tmp_path / "page.html"
    write_workbench(path, [tiny_dataset], evaluations, limit=100)
    browser.open(path, width, dark=width == 390)
    asked = [
        e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"
    ]
    assert asked == [path.as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.title") == "Workbench"

    def choose(name: str, value: str) -> int:
        browser.value(
            f"(s => {{ s.value = {json.dumps(value)}; s.dispatchEvent(new Event('change')); }})"
            f"(document.getElementById('by-{name}'))"
        )
        return int(browser.value("document.getElementById('count').textContent").split()[0])

    assert choose("subset", "test") == 24
    assert choose("outcome", "mistaken") == 4
    assert browser.value("document.querySelectorAll('.shown').length") == 4
    assert choose("run", "1") == 24  # the outcome that the second run never had is no longer asked for
    browser.value("document.getElementById('reset').click()")
    subject = str(int(tiny_dataset.ids("train")[0][9:12]))
    assert choose("subject", subject) == sum(
        f"P{int(subject):03}" in id_ for s in ("train", "test") for id_ in tiny_dataset.ids(s)
    )

    drawn = "document.querySelector('{}').toDataURL()"
    before = json.dumps(browser.value(drawn.format(".shown canvas")))
    assert browser.comes_true(f"{drawn.format('.shown canvas')} != {before}")  # it moves

    def press(key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            browser.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                text="\r" if kind == "keyDown" and key == "Enter" else "",
            )

    browser.value("document.querySelector('.shown').focus()")
    press("Enter")
    assert browser.value("document.activeElement.id") == "large"
    press(" ")
    assert browser.value("document.getElementById('play').textContent") == "Play"
    still = browser.value(drawn.format("#large"))
    press("ArrowRight")
    assert browser.value(drawn.format("#large")) != still
    press("n")
    titles = "[...document.querySelectorAll('#large-facts dd')].map(e => e.textContent)"
    assert browser.value(titles)[0] == browser.value(
        "document.querySelectorAll('.shown')[1].querySelector('span').textContent"
    )
    browser.value("document.getElementById('close').click()")
    assert browser.comes_true("document.activeElement.className == 'shown'")

    browser.value("document.querySelector('[data-switch=\"0\"]').click()")
    hidden = "[...document.querySelectorAll('[data-run]')].map(e => [e.dataset.run, getComputedStyle(e).display])"
    assert {tuple(pair) for pair in browser.value(hidden)} == {("0", "none"), ("1", "inline")}
    assert complaints(browser) == []


def test_clips_stand_still_where_the_system_asks_for_it(
    browser: Browser, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    write_workbench(path, [tiny_dataset], [], limit=5)
    browser.open(path, 390, still=True)
    assert browser.value("document.getElementById('still').textContent") == "Play the clips"
    drawn = "document.querySelector('.shown canvas').toDataURL()"
    before = browser.value(drawn)
    assert len(before) > 1000
    browser.value("new Promise(done => setTimeout(done, 250))")
    assert browser.value(drawn) == before
