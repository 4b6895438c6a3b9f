"""Pages are parsed, run in a browser and compared with their scene."""

import json
import shutil
import subprocess

import pytest

from skelpipe.drawing.page import page
from skelpipe.drawing.scene import Panel, Scene
from skelpipe.drawing.svg import looping_svg
from skelpipe.train.reporting.markup import el

NASTY = """a<b> & "c" 'd' </script><script>x {{clip}} $1$ <!--"""


def test_page_needs_nothing_from_outside(read_page, make_scene) -> None:
    text = page(make_scene(moving=True))
    found = read_page(text)
    assert "http:" not in text
    assert "https:" not in text
    assert "import" not in text.split("<script>")[1]
    for _, attributes in found.tags:
        assert not {"src", "href", "srcset", "data", "action"} & set(attributes)
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_page_has_a_label_for_every_control(read_page, make_scene) -> None:
    tags = read_page(page(make_scene())).tags
    assert ("input", "Frame") in [(tag, attributes.get("aria-label")) for tag, attributes in tags]
    assert [tag for tag, _ in tags].count("label") == 2
    assert dict(tags)["html"] == {"lang": "en"}


CONTROLLING = "a\x1b[2J\u202eb\x9b\u2028\ud800\n"
SHOWN = r"a\x1b[2J\u202eb\x9b\u2028\ud800\n"


def test_names_that_control_something_are_shown(read_page, make_scene) -> None:
    """On the page, in its data, and in a drawing's label for screen readers."""
    scene = make_scene(class_name=CONTROLLING, id=CONTROLLING)
    scene.facts["dataset"] = CONTROLLING
    body = Panel(CONTROLLING, (CONTROLLING,), scene.panels[0].points)
    text = page(Scene(scene.id, CONTROLLING, scene.facts, scene.layout, 30, (body,)))
    found = read_page(text)
    assert found.texts["title#"] == found.texts["h1#"] == f"{SHOWN}: {SHOWN}"
    assert found.texts["dd#"].startswith(SHOWN)
    assert text.count(json.dumps(SHOWN)) == 2
    assert f'aria-label="{SHOWN}"' in looping_svg(scene, label=CONTROLLING)
    assert el("p", CONTROLLING[:-1], alt=CONTROLLING[:-1]) == f'<p alt="{SHOWN[:-2]}">{SHOWN[:-2]}</p>'


def test_nasty_names_stay_text(read_page, make_scene) -> None:
    plain = [tag for tag, _ in read_page(page(make_scene())).tags]
    scene = make_scene(class_name=NASTY, id=NASTY)
    scene.facts["dataset"] = NASTY
    body = Panel(NASTY, (NASTY,), scene.panels[0].points)
    found = read_page(page(Scene(scene.id, NASTY, scene.facts, scene.layout, 30, (body,))))
    assert found.texts["title#"] == found.texts["h1#"] == f"{NASTY}: {NASTY}"
    assert found.texts["dd#"].startswith(NASTY)
    assert found.clip["panels"][0]["bodies"] == [NASTY]
    assert [tag for tag, _ in found.tags] == plain


def test_page_of_a_long_clip_is_small(make_scene) -> None:
    assert len(page(make_scene(frames=64, bodies=2, moving=True)).encode()) < 300_000


def test_pages_script_is_sound(make_scene) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = page(make_scene()).split("<script>")[1].split("</script>")[0]
    done = subprocess.run([node, "--check", "-"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_page_runs_in_a_browser(tmp_path, read_page, make_scene) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser is installed")
    (tmp_path / "clip.html").write_text(page(make_scene(frames=6, bodies=2, moving=True)), "utf-8")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--force-prefers-reduced-motion", "--dump-dom"]
    done = subprocess.run(
        [browser, *words, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "clip.html").as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    found = read_page(done.stdout)
    assert found.texts["output#count"] == "frame 1 of 6, 0.00 s"
    assert found.texts["button#play"] == "Play"
    for name in ("trunk", "left arm", "right leg", "body 1", "body 2"):
        assert f"</span>{name}</li>" in done.stdout
