"""Fixtures for drawings: scenes, recordings and their content, and readers of pages and GIFs."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli.prepare import prepare
from skelpipe.cli.show import show
from skelpipe.dataset import Dataset
from skelpipe.drawing.scene import Panel, Scene
from skelpipe.skeleton import layout


class Page(HTMLParser):
    """The tags with their attributes, the text of title and h1, and the content of scripts, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = f"{tag}#{dict(attrs).get('id', '')}"

    def handle_endtag(self, tag) -> None:
        self._inside = ""

    def handle_data(self, data) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data

    @property
    def clip(self) -> dict:
        return json.loads(self.texts["script#clip"])


def _points_of(clip: dict, what: str = "points", panel: int = 0) -> np.ndarray:
    """The poses of a page, [B,F,V,3], NaN where there is none."""
    joints = len(clip["joints"])
    absent = [float("nan")] * 3 * joints
    poses = [[pose or absent for pose in body] for body in clip["panels"][panel][what]]
    return np.array(poses).reshape(len(poses), -1, joints, 3)


def _make_scene(frames: int = 6, bodies: int = 1, class_name: str = "wave", rate: float = 30.0, **more) -> Scene:
    facts = {name: f"the {name}" for name in ("dataset", "view", "frames", "bodies", "units")}
    rng = np.random.default_rng(3)
    points = rng.normal(size=(bodies, 1, 25, 3)) * 0.4 + rng.normal(size=(bodies, frames, 25, 3)) * 0.05
    names = tuple(f"body {n + 1}" for n in range(bodies))
    panel = Panel("", names, points, np.diff(points, axis=1, append=np.nan) if more.get("moving") else None)
    return Scene(more.get("id", "S1"), class_name, facts, layout("kinect-v2-25"), rate, (panel,))


@pytest.fixture(scope="session")
def read_page() -> type[Page]:
    return Page


@pytest.fixture(scope="session")
def points_of():
    return _points_of


@pytest.fixture(scope="session")
def make_scene():
    """A maker of scenes of one or more random bodies, with motion where `moving`."""
    return _make_scene


@pytest.fixture(scope="session")
def gif_frames():
    return _gif_frames


def _gif_frames(path) -> tuple[list[np.ndarray], list[int]]:
    from PIL import Image

    with Image.open(path) as image:
        images, times = [], []
        for i in range(image.n_frames):
            image.seek(i)
            images.append(np.asarray(image.convert("RGB")).astype(int))
            times.append(image.info["duration"])
        return images, times


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `show` in an empty folder; return its result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKELPIPE_SHARDS", raising=False)
    return lambda *words: CliRunner().invoke(show, list(map(str, words)))


@pytest.fixture
def frames(moving_bodies):
    return moving_bodies(5, frames=9, bodies=2)


@pytest.fixture
def raw_file(tmp_path, skeleton_text, frames):
    """A recording of two bodies, of which frames 3 and 4 have only the first and frame 6 none."""
    frames[3], frames[4], frames[6] = frames[3][:1], frames[4][:1], []
    path = tmp_path / "S001C001P001R001A050.skeleton"
    path.write_text(skeleton_text(frames))
    return path


@pytest.fixture
def dataset(tmp_path, raw_folder, ntu_names):
    """A prepared dataset of few small recordings with two bodies."""
    raw = raw_folder(ntu_names(actions=2), bodies=2)
    words = ["--dataset", "ntu60", "--split", "xsub", "--raw", raw, "--out", tmp_path / "data" / "small"]
    done = CliRunner().invoke(prepare, [*map(str, words), "--frames", "8", "--workers", "1"])
    assert done.exit_code == 0, done.output
    return Dataset.open(tmp_path / "data" / "small")


@pytest.fixture
def expected(raw_file, frames) -> np.ndarray:
    """[B,F,V,3] of the recording in `raw_file`, its bodies in order of appearance."""
    ids = list(dict.fromkeys(identity for frame in frames for identity, _ in frame))
    points = np.full((len(ids), len(frames), 25, 3), np.nan)
    for f, frame in enumerate(frames):
        for identity, joints in frame:
            points[ids.index(identity), f] = joints
    return points
