"""Small whole files of every format, written by code: what `edits` damages."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skelpipe.skeleton import Layout

JOINTS, BODIES, FRAMES = 3, 2, 2
SMALL = Layout.from_plain(
    {
        "name": "small",
        "joints": ["hip", "left", "right"],
        "parents": [0, 0, 0],
        "centre": 0,
        "left_shoulder": 1,
        "right_shoulder": 2,
        "mirror": [0, 2, 1],
        "parts": [["all", [0, 1, 2]]],
        "levels": {},
    }
)
_rng = np.random.default_rng(3)
XYZ = _rng.normal(size=(FRAMES, BODIES, JOINTS, 3)).round(4) + np.array([0, 0, 3])


def ntu(end: bytes = b"\n") -> bytes:
    return ntu_of(XYZ, end)


def ntu_of(xyz: np.ndarray, end: bytes = b"\n") -> bytes:
    """Return positions [T,M,V,3] as `.skeleton` text."""
    lines = [str(len(xyz))]
    for frame in xyz:
        lines.append(str(len(frame)))
        for number, body in enumerate(frame):
            lines += [f"{72057594037930000 + number} 0 1 1 0 0 0 0.01 -0.02 2", str(len(body))]
            lines += [f"{x:.7g} {y:.7g} {z:.7g} 250.1 200.2 900.3 500.4 0.1 0.2 0.3 0.9 2" for x, y, z in body]
    return end.join(line.encode() for line in lines) + end


def pku() -> bytes:
    return b"".join(" ".join(f"{value:.9g}" for value in frame.ravel()).encode() + b"\r\n" for frame in XYZ)


def msr() -> bytes:
    rows = XYZ[:, 0].reshape(-1, 3)
    return b"".join(" ".join(f"{value:.6e}" for value in (*row, 1)).encode() + b"\n" for row in rows)


def nw_ucla() -> bytes:
    return json.dumps({"file_name": "a01_s01_e00", "skeletons": XYZ[:, 0].tolist()}).encode()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(*, packed: bool) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, XYZ.astype(np.float32))
    return file.getvalue()


def as_pickle(protocol: int, content: Any) -> bytes:
    return pickle.dumps(content, protocol)


PLAIN = {
    "split": {"train": ["a", "b"]},
    "annotations": [{"label": 3, "total_frames": 2, "more": (1.5, None, b"x")}],
}


def zipped(method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in {"a/one.skeleton": ntu(), "b/two.txt": pku(), "empty": b""}.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def tarred(kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in {"a/one.skeleton": ntu(), "b/" + "long" * 40: msr(), "ü": b""}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def web_shard() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for key in ("a", "b"):
            facts = json.dumps({"label": "wave", "score": 1}).encode()
            for name, content in ((f"{key}.npy", npy(XYZ)), (f"{key}.cls", b"3"), (f"{key}.meta.json", facts)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def table_columns() -> dict[str, list[Any]]:
    return {
        "id": ["a", "b", "c"],
        "label": [0, 1, None],
        "split": ["train", "test", None],
        "shard": ["000000", "000000", None],
        "row": [0, 0, None],
        "reason": [None, None, "missing"],
    }


def table(compression: str = "zstd") -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(table_columns()), file, compression=compression)
    return file.getvalue()


YAML = b"""\
name: own
title: Our recordings  # of a lab
reader: ntu-skeleton
layout: kinect-v2-25
name_pattern: '(?P<who>[a-z]+)-(?P<action>[a-z]+)'
suffix: .skeleton
classes: [jump, wave]
defaults: &d {frames: 64, bodies: 2, rate: 2.5e-3, empty: null, yes_: true}
more: {<<: *d, frames: 50, list: [1, two, [3.0]]}
when: 2020-01-02
splits:
  xsub: {field: who, test: [bob]}
"""

MANIFEST = b"""\
name: own
title: Our recordings
reader: ntu-skeleton
layout: kinect-v2-25
name_pattern: '(?P<who>[a-z]+)-(?P<action>[a-z]+)'
suffix: .skeleton
classes: [jump, wave]
splits:
  xsub: {field: who, test: [bob]}
"""

LAYOUT = b"""\
name: mine
joints: [hip, neck, left_arm, right_arm]
bones: {neck: hip, left_arm: neck, right_arm: neck}
centre: hip
shoulders: {left: left_arm, right: right_arm}
mirror: [[left_arm, right_arm]]
parts: {trunk: [hip, neck], arms: [left_arm, right_arm]}
"""

LABELS_CSV = b"id,label,subject\na,0,1\nb,1.0,2\nc,wave,3\n"
LABELS_JSON = b'[{"id": "a", "label": 0}, {"id": "b", "label": "wave", "more": null}]'
SEGMENTS = b"1,1,20,1\n2, 30,45,1\r\n3,50,60\n"
FRAME_LINE = json.dumps({"bodies": XYZ[0].tolist(), "ids": [1, 2]}).encode()


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def flat(points: np.ndarray) -> list[float]:
    return np.column_stack([points[:, :2], np.full(len(points), 0.5)]).reshape(-1).tolist()


def poses() -> dict[str, bytes]:
    """One small file for each pose format, by the name of its reader."""
    points = XYZ[:, 0] * 100
    instances = [{"keypoints": each[:, :2].tolist(), "keypoint_scores": [0.5] * JOINTS} for each in points]
    rows = [[0, 0.5, 0.5, 0.1, 0.1, *flat(each / 1000)] for each in points]
    content: dict[str, Any] = {
        "openpose": {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": flat(points[0])}]},
        "alphapose": [
            {"image_id": f"{t}.jpg", "category_id": 1, "keypoints": flat(each), "score": 3, "idx": 1}
            for t, each in enumerate(points)
        ],
        "mmpose": {
            "meta_info": {},
            "instance_info": [{"frame_id": t, "instances": [one]} for t, one in enumerate(instances)],
        },
        "mmpose-frames": instances[:1],
        "ultralytics-video": [
            [{"keypoints": {"x": each[:, 0].tolist(), "y": each[:, 1].tolist(), "visible": [0.5] * JOINTS}}]
            for each in points
        ],
        "azure-kinect": {
            "frames": [
                {"frame_id": t, "num_bodies": 1, "bodies": [{"body_id": 1, "joint_positions": each.tolist()}]}
                for t, each in enumerate(points)
            ]
        },
    }
    texts = {
        "ultralytics": " ".join(f"{v:.9g}" for v in rows[0]),
        "utkinect-text": "\n".join(
            " ".join(f"{v:.9g}" for v in (10 + t, *each.ravel())) for t, each in enumerate(points)
        ),
        "table": "\n".join(";".join(f"{v:.9g}" for v in each.ravel()) for each in points),
    }
    found = {name: json.dumps(each).encode() for name, each in content.items()}
    found |= {name: text.encode() for name, text in texts.items()}
    found["mediapipe"] = npy(np.concatenate([XYZ[:, 0] / 4, np.full((FRAMES, JOINTS, 1), 0.5)], axis=2))
    return found
