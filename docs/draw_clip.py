"""Draw clip.webp: a synthetic clip, and the same clip augmented as AimCLR's extreme view.

python docs/draw_clip.py

Text is drawn large enough for a phone, on which the picture is half as wide.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from skelpipe.drawing.augmented import Choice
from skelpipe.drawing.colours import part_colours
from skelpipe.drawing.compared import compared_raw_scene
from skelpipe.drawing.gif import frame_times
from skelpipe.drawing.scene import Scene
from skelpipe.drawing.svg import Camera
from skelpipe.manifest_file import load_manifest

RECORDING = "S002C002P001R001A010.skeleton"
AUGMENTATION, SEED = "aimclr-extreme", 3
WIDTH, HEIGHT, HEAD = 390, 364, 84  # pixels of each drawing, and of the words above it
NEAR = 1.2  # the camera leaves room for every joint of both bodies, which these do not need
FINE = 3  # drawn this many times as large, then reduced: smooth lines
BONE, JOINT = 9, 6
COLOURS = 24  # few colours make a small file without loss
INK, GREY, PAPER, FLOOR = "#222222", "#606060", "#ffffff", "#eef1f4"
WORDS = (("a clip", "64 frames, 25 joints"), ("its augmented twin", "another one in every epoch"))


def synthetic_scene() -> Scene:
    """The recording as `prepare` makes a clip of it, before and after augmentation."""
    with TemporaryDirectory() as folder:
        sizes = ["--subjects", "1", "--actions", "20", "--repeats", "1", "--seed", "0"]
        command = [sys.executable, "-m", "skelpipe", "synth", "--dataset", "ntu60", "--out", folder, *sizes]
        subprocess.run(command, check=True, capture_output=True)
        (path,) = Path(folder).rglob(RECORDING)
        choice = Choice(AUGMENTATION, seed=SEED)
        return compared_raw_scene(str(path), load_manifest("ntu60"), "joint", choice)


def images(scene: Scene) -> Iterator[Image.Image]:
    camera = Camera(scene)
    scale = FINE * NEAR * WIDTH / camera.size
    colours = part_colours(scene.layout)
    parts = {v: colours[part] for part, joints in scene.layout.parts.items() for v in joints}
    large, small = (ImageFont.load_default(FINE * size) for size in (30, 22))
    for frame in range(scene.frames):
        whole = Image.new("RGB", (FINE * WIDTH * len(scene.panels), FINE * (HEAD + HEIGHT)), PAPER)
        draw = ImageDraw.Draw(whole)
        for column, panel in enumerate(scene.panels):
            title, said = WORDS[column]
            middle = FINE * (column * WIDTH + WIDTH // 2)
            corner = np.array([middle, FINE * (HEAD + HEIGHT // 2 - 5)]) - scale * camera.size / 2
            draw.text((middle, FINE * 10), title, INK, large, anchor="ma")
            draw.text((middle, FINE * 48), said, GREY, small, anchor="ma")
            draw.polygon([tuple(p) for p in scale * camera(camera.floor) + corner], fill=FLOOR)
            for body in panel.points[:, frame]:
                points = scale * camera(body) + corner
                if not np.isfinite(points).all():
                    continue
                for child, parent in scene.layout.edges:
                    ends = [tuple(points[parent]), tuple(points[child])]
                    draw.line(ends, fill=parts[child], width=FINE * BONE)
                    for x, y in ends:
                        reach = FINE * JOINT
                        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=parts[child])
        yield whole.reduce(FINE)


def main() -> None:
    scene = synthetic_scene()
    drawn = list(images(scene))
    palette = drawn[len(drawn) // 2].quantize(COLOURS)
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB") for image in drawn)
    times = frame_times(scene.frames, scene.rate)
    path = Path(__file__).with_name("clip.webp")
    first.save(path, save_all=True, append_images=others, duration=times, loop=0, lossless=True, quality=50)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
