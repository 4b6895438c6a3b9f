"""Looping drawings are parsed and compared with a plain projection of the scene."""

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import numpy as np

from skelpipe.drawing.scene import Panel
from skelpipe.drawing.svg import looping_svg

SVG = "{http://www.w3.org/2000/svg}"
NASTY = """<b> & "c" </svg><script>x</script> 'd'"""
SIZE, MARGIN = 480, 24


def parse(text: str) -> ET.Element:
    """The picture, parsed; HTML does not need its namespace, XML does."""
    return ET.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def frames_of(path: ET.Element) -> list[str]:
    animate = path.find(f"{SVG}animate")
    return [path.attrib["d"]] if animate is None else animate.attrib["values"].split(";")


def lines(d: str) -> list[tuple[int, int, int, int]]:
    """The lines of a path, from and to."""
    found = re.findall(r"M(-?\d+) (-?\d+)l(-?\d+) (-?\d+)", d)
    return [(int(x), int(y), int(x) + int(u), int(y) + int(v)) for x, y, u, v in found]


def projected(scene: Any, point: np.ndarray) -> tuple[float, float]:
    """Where a point in metres is drawn: turned by 0.5 about y, tilted by 0.25, x to the left, y up."""
    low, high = scene.bounds
    x, y, z = point - (low + high) / 2
    wide, tall, deep = high - low
    x, z = -x, -z
    across = math.cos(0.5) * wide + math.sin(0.5) * deep
    up = math.cos(0.25) * tall + math.sin(0.25) * (math.sin(0.5) * wide + math.cos(0.5) * deep)
    scale = (SIZE - 2 * MARGIN) / max(across, up)
    right = x * math.cos(0.5) + z * math.sin(0.5)
    near = z * math.cos(0.5) - x * math.sin(0.5)
    return SIZE / 2 + scale * right, SIZE / 2 - scale * (y * math.cos(0.25) - near * math.sin(0.25))


def test_every_bone_is_where_its_joints_are_in_every_frame(make_scene: Any) -> None:
    scene = make_scene(frames=6, bodies=2)
    paths = [path for path in parse(looping_svg(scene)).iter(f"{SVG}path") if "stroke" in path.attrib]
    assert len(paths) == 2 * len(scene.layout.parts)
    for frame in range(6):
        drawn = sorted(line for path in paths for line in lines(frames_of(path)[frame]))
        expected = []
        for body in range(2):
            spots = [projected(scene, point) for point in scene.panels[0].points[body, frame]]
            expected += [(*spots[parent], *spots[child]) for child, parent in scene.layout.edges]
        assert len(drawn) == len(expected) == 2 * 24
        # Rounding to whole units moves an end by at most half a unit.
        for line in expected:
            assert min(np.abs(np.array(line) - np.array(other)).max() for other in drawn) <= 0.51


def test_everything_is_inside_the_picture_and_the_loop_takes_as_long_as_the_clip(make_scene: Any) -> None:
    root = parse(looping_svg(make_scene(frames=6, rate=20.0)))
    assert root.attrib["viewBox"] == f"0 0 {SIZE} {SIZE}"
    ends = [end for path in root.iter(f"{SVG}path") for d in frames_of(path) for line in lines(d) for end in line]
    assert min(ends) >= 0
    assert max(ends) <= SIZE
    loops = list(root.iter(f"{SVG}animate"))
    assert loops
    assert {(loop.attrib["dur"], loop.attrib["repeatCount"]) for loop in loops} == {("0.300s", "indefinite")}


def test_a_body_is_drawn_only_where_it_is(make_scene: Any) -> None:
    scene = make_scene(frames=4, bodies=2)
    scene.panels[0].points[1, [0, 2]] = np.nan
    paths = [path for path in parse(looping_svg(scene)).iter(f"{SVG}path") if "stroke" in path.attrib]
    second = [path for path in paths if "stroke-dasharray" in path.attrib]
    assert len(second) == len(scene.layout.parts)
    for path in second:
        assert [bool(lines(d)) for d in frames_of(path)] == [False, True, False, True]


def test_marked_joints_have_halos(make_scene: Any) -> None:
    scene = make_scene(frames=3)
    marked = np.zeros(scene.panels[0].points.shape[:3], bool)
    marked[0, 1, [3, 11]] = True
    panel: Panel = replace(scene.panels[0], marked=marked)
    halo = next(
        path
        for path in parse(looping_svg(replace(scene, panels=(panel,)))).iter(f"{SVG}path")
        if path.attrib.get("class") == "mark"
    )
    dots = [re.findall(r"M(-?\d+) (-?\d+)h0", d) for d in frames_of(halo)]
    assert [len(each) for each in dots] == [0, 2, 0]
    for joint, dot in zip((3, 11), dots[1], strict=True):
        assert np.abs(np.array(projected(scene, panel.points[0, 1, joint])) - np.array(dot, float)).max() <= 0.51


def test_names_stay_text(make_scene: Any) -> None:
    root = parse(looping_svg(make_scene(class_name=NASTY)))
    assert root.attrib["aria-label"].endswith(NASTY)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {"svg", "path", "animate"}


def test_a_clip_that_does_not_move_is_not_animated(make_scene: Any) -> None:
    assert "<animate" not in looping_svg(make_scene(frames=1))


def test_flat_poses_are_seen_from_the_front(make_scene: Any) -> None:
    scene = make_scene(frames=2)
    scene.panels[0].points[..., 2] = 0
    root = parse(looping_svg(scene))
    assert not [path for path in root.iter(f"{SVG}path") if path.attrib.get("class") == "floor"]
    points = scene.panels[0].points[0, 0]
    drawn = [line for path in root.iter(f"{SVG}path") for line in lines(frames_of(path)[0])]
    # Right in the picture is right on the page, and up is up.
    xs = {child: points[child, 0] - points[parent, 0] for child, parent in scene.layout.edges}
    assert sum(x1 > x0 for x0, _, x1, _ in drawn) == sum(step > 0 for step in xs.values())
    ys = {child: points[child, 1] - points[parent, 1] for child, parent in scene.layout.edges}
    assert sum(y1 < y0 for _, y0, _, y1 in drawn) == sum(step > 0 for step in ys.values())
