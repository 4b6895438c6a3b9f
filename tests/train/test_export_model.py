"""Trained networks as files of ONNX and torch.export, run by the programs of others."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from skelpipe.dataset import Dataset
from skelpipe.skeleton import layout
from skelpipe.train.export_model import main
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.running.networks import export, find_weights, initialised, load_networks, read_provenance
from skelpipe.train.running.provenance import ClipFacts, Provenance
from skelpipe.train.running.run_folder import RunFolder


def call(*options: object) -> Result:
    return CliRunner().invoke(main, [*map(str, options)])


@pytest.fixture(scope="module")
def trained(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with the backbone that is exported fastest."""
    changes = (
        "encoder.name=bigru",
        "encoder.hidden=4",
        "encoder.layers=1",
        "head.hidden=8",
        "head.dim=8",
        "queue=8",
    )
    recipe = with_overrides(load_recipe("skeletonclr"), changes)
    folder = RunFolder(tmp_path_factory.mktemp("runs"))
    clips = ClipFacts.of(tiny_dataset)
    provenance = Provenance(clips=clips, view="joint", views=("joint",), recipe=recipe)
    export(folder, initialised(recipe, tiny_dataset.layout, 0), provenance, 3)
    return folder.path


@pytest.fixture(scope="module")
def exported(trained: Path, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    path = tmp_path_factory.mktemp("exported") / "encoder.onnx"
    result = call(trained, "--to", "onnx", "--out", path, "--shards", tiny_dataset.path, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return path, json.loads(result.stdout)


def test_onnxruntime_gives_the_networks_features(
    exported: tuple[Path, dict], trained: Path, tiny_dataset: Dataset
) -> None:
    session = onnxruntime.InferenceSession(exported[0], providers=["CPUExecutionProvider"])
    provenance, _ = read_provenance(find_weights(str(trained)))
    networks = load_networks(find_weights(str(trained)), provenance, layout("kinect-v2-25"), "joint").eval()
    clips = tiny_dataset.reader("test", "joint").gather(np.arange(6))
    for batch in (clips, clips[:1]):
        with torch.no_grad():
            h = networks.encoder(torch.from_numpy(batch))
            z = networks.head(h)
        found = session.run(["h", "z"], {"clips": batch})
        for want, got in zip((h, z), found, strict=True):
            np.testing.assert_allclose(got, want.numpy(), atol=1e-5)
            assert got.dtype == np.float32


def test_the_file_says_how_its_clips_are_made(exported: tuple[Path, dict], trained: Path) -> None:
    about = onnxruntime.InferenceSession(exported[0]).get_modelmeta().custom_metadata_map
    assert about["layout"] == "kinect-v2-25"
    assert json.loads(about["joints"]) == list(layout("kinect-v2-25").joints)
    assert (about["profile"], about["frames"], about["bodies"]) == ("crosclr", "8", "1")
    assert json.loads(about["views"]) == ["joint"]
    assert json.loads(about["outputs"]) == ["h", "z"]
    assert about["skelpipe"]
    assert len(about["weights_sha256"]) == 64
    checked = exported[1]["checked"]
    assert checked["by"].startswith("onnxruntime")
    assert checked["clips"].startswith("16 clips of")
    assert checked["difference"] < 1e-5


def test_torch_export_holds_the_same_facts(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "encoder.pt2"
    result = call(trained, "--to", "torch-export", "--out", path)
    assert result.exit_code == 0, result.output
    assert "drawn clips" in result.stdout
    with zipfile.ZipFile(path) as archive:
        inside = next(name for name in archive.namelist() if name.endswith("skelpipe.json"))
        about = json.loads(archive.read(inside))
    assert about["layout"] == "kinect-v2-25"
    extra = {"skelpipe.json": ""}
    module = torch.export.load(path, extra_files=extra).module()
    assert json.loads(extra["skelpipe.json"]) == about
    h, z = module(torch.zeros(3, 3, 8, 25, 1))
    assert (h.shape, z.shape) == ((3, 8), (3, 8))
    weights = load_file(find_weights(str(trained)))
    stored = {name.removeprefix("module."): value for name, value in module.state_dict().items()}
    assert all(torch.equal(stored[name], value) for name, value in weights.items() if name.startswith("head."))


def test_the_datasets_own_clips_check_it_where_it_is_here(
    trained: Path, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKELPIPE_SHARDS", str(tiny_dataset.path))
    result = call(trained, "--to", "torch-export", "--out", tmp_path / "encoder.pt2", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["checked"]["clips"] == f"16 clips of {tiny_dataset.path}"


def test_the_pages_example_names_actions(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example that runs an ONNX file, as docs/deployment.md has it, on a graph made by hand."""
    classes, clips = tiny_dataset.classes, tiny_dataset.reader("test", "joint").gather(np.arange(8))
    weight = np.random.default_rng(4).normal(size=(3, len(classes))).astype(np.float32)
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    axes = onnx.numpy_helper.from_array(np.array([2, 3, 4]), "axes")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["clips", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weight"], ["scores"]),
        ],
        "graph",
        [helper.make_tensor_value_info("clips", real, ["N", *tiny_dataset.shape])],
        [helper.make_tensor_value_info("scores", real, ["N", len(classes)])],
        [axes, onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"classes": json.dumps(classes)})
    monkeypatch.chdir(tmp_path)
    onnx.save(model, "model.onnx")
    page = (Path(__file__).parents[2] / "docs/deployment.md").read_text("utf-8")
    code = next(each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in each)
    exec(code.replace("data/ntu60-xsub", str(tiny_dataset.path)))
    best = (clips.mean(axis=(2, 3, 4)) @ weight).argmax(axis=1)
    expected = [f"{name} {classes[label]}" for name, label in zip(tiny_dataset.ids("test"), best, strict=False)]
    assert capsys.readouterr().out.splitlines() == expected


def test_what_cannot_be_exported_is_said_in_a_line(trained: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.onnx"
    there.write_bytes(b"x")
    for options, words in (
        ((trained, "--to", "onnx", "--out", there), "is there already"),
        ((tmp_path / "none", "--to", "onnx"), "there is no such run or file"),
        ((trained, "--to", "onnx", "--view", "bone"), "has networks for joint, not for bone"),
        ((trained, "--to", "onnx", "--frames", 9), "trained on 8, asked for 9"),
        ((trained, "--to", "onnx", "--dataset", "nw-ucla"), "is for kinect-v2-25"),
        ((trained, "--to", "onnx", "--weights", "1,1"), "--weights are those of several runs"),
        ((trained, trained, "--to", "onnx"), "name it with --out"),
        ((trained, trained, "--to", "onnx", "--out", tmp_path / "a", "--view", "joint"), "--view is for one run"),
        ((trained, trained, "--to", "onnx", "--out", tmp_path / "a"), "is an encoder"),
    ):
        result = call(*options)
        assert result.exit_code == 2, result.output
        assert words in result.stderr
        assert "Traceback" not in result.output
    assert there.read_bytes() == b"x"
