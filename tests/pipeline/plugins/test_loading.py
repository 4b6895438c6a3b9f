"""Loading plug-ins: by option, variable and entry point, in worker processes; what is said of faulty ones."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from skelpipe.cli import main as skelpipe
from skelpipe.errors import UsageError
from skelpipe.models.build import METHODS
from skelpipe.models.encoders import ENCODERS
from skelpipe.plugins import MissingPlugin, installed, load, require
from skelpipe.plugins.tables import LOADED
from skelpipe.prepare.engines import workers_ready
from skelpipe.raw.readers import READERS
from skelpipe.skeleton import layout

READER = "def register(registry):\n    registry.reader('one', lambda content, file, form: None)\n"
METHOD = """
from torch import nn
from skelpipe.models.method import Method, NoSettings
class Bare(Method):
    name = "bare"
    def views(self): ...
    def forward(self, batch): ...
    def networks(self, view): ...
"""
BACKBONE = """
from torch import nn
from skelpipe.models.settings import BackboneSettings
class Bare(nn.Module):
    Settings, joint_map = type("Settings", (BackboneSettings,), {"name": "bare"}), False
    def __init__(self, layout, in_channels=3): ...
    def features(self, x): ...
    def pool(self, features, bodies): ...
    def forward(self, x): ...
"""
ADD = "def register(registry):\n    registry.reader('bare', lambda content, file, form: None)\n    "


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nosuch", "cannot be imported: No module named 'nosuch'"),
        ("def register(", "cannot be imported: SyntaxError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("x = 1", r"has no function register\(registry\)"),
        ("def register(registry): pass", "registers nothing"),
        ("def register(): pass", r"register fails: TypeError: register\(\) takes 0 positional arguments"),
        ("def register(registry): 1 / 0", "register fails: ZeroDivisionError"),
        ("def register(registry): registry.reader('npy', len)", "there is a reader 'npy' already, built in"),
        ("def register(registry): registry.reader('a b', len)", "the name of a reader has lower-case letters"),
        (ADD + "registry.reader('bare', len)", "there is a reader 'bare' already, of the plug-in failing_plugin"),
        (ADD + "registry.layout('coco-17', {})", "layout 'coco-17': there is a built-in layout of this name"),
        (ADD + "registry.layout('x', {})", "layout 'x': layout x: .*joints"),
        (ADD + "registry.chain('normal', [])", "there is a chain 'normal' already, built in"),
        (ADD + "registry.chain('x', ['nosuch'])", "chain 'x': .*nosuch"),
        (
            ADD + "registry.reader('short', lambda content: None)",
            r"reader 'short': its function cannot be called with \(content, file, form\): too many",
        ),
        (ADD + "registry.operator('x', object)", "operator 'x': it has no sample and no apply"),
        (
            "class Op:\n    def sample(self, draws): ...\n    def apply(self, x, params): ...\n"
            + ADD
            + "registry.operator('x', Op)",
            r"operator 'x': its sample cannot be called with \(self, draws, shape\)",
        ),
        (
            METHOD.replace("def views", "def others").replace("def forward", "def step")
            + "    @classmethod\n    def build(cls, parts, settings): ...\n"
            + ADD
            + "registry.method(Bare)",
            "method 'bare': it does not define views and forward",
        ),
        (
            METHOD + "    def __init__(self): ...\n" + ADD + "registry.method(Bare)",
            r"method 'bare': its __init__ cannot be called with \(parts, settings\)",
        ),
        (
            METHOD.replace("self, batch", "self")
            + "    def __init__(self, parts, settings): ...\n"
            + ADD
            + "registry.method(Bare)",
            r"method 'bare': its forward cannot be called with \(self, batch\)",
        ),
        (METHOD.replace('"bare"', '"queue"') + ADD + "registry.method(Bare)", "method 'queue': .*choose a name"),
        (
            BACKBONE.replace("features, bodies", "features") + ADD + "registry.backbone(Bare)",
            r"backbone 'bare': its pool cannot be called with \(self, features, bodies\)",
        ),
        (
            BACKBONE.replace(", in_channels=3", "") + ADD + "registry.backbone(Bare)",
            "backbone 'bare': it cannot be made of a layout, in_channels and its settings",
        ),
    ],
)
def test_a_plugin_that_fails_is_one_line_and_adds_nothing(source: str, message: str) -> None:
    Path("failing_plugin.py").write_text(source)
    before = dict(METHODS), dict(READERS), dict(ENCODERS)
    with pytest.raises(UsageError, match=f"^plug-in failing_plugin: .*{message}") as raised:
        load("failing_plugin")
    assert "\n" not in str(raised.value)
    assert (dict(METHODS), dict(READERS), dict(ENCODERS)) == before
    assert not LOADED


@pytest.mark.usefixtures("folder")
def test_a_name_belongs_to_the_plugin_that_takes_it_first() -> None:
    Path("first_plugin.py").write_text(f"__version__ = '1.5'\n{READER}")
    Path("second_plugin.py").write_text(READER)
    assert load("first_plugin") is load("first_plugin")  # which adds nothing again
    with pytest.raises(
        UsageError, match="^plug-in second_plugin: there is a reader 'one' already, of the plug-in"
    ):
        load("second_plugin")


def test_it_is_named_with_version_and_hash(folder: Path) -> None:
    (folder / "one_plugin.py").write_text(f"__version__ = '1.5'\n{READER}")
    plugin = load("one_plugin")
    assert (plugin.module, plugin.version) == ("one_plugin", "1.5")
    assert plugin.sha256 == hashlib.sha256((folder / "one_plugin.py").read_bytes()).hexdigest()


def test_an_entry_point_is_a_name_that_imports_nothing_by_itself(folder: Path) -> None:
    (folder / "one_plugin.py").write_text(READER)
    (folder / "some-2.0.dist-info").mkdir()
    (folder / "some-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: some\nVersion: 2.0\n")
    (folder / "some-2.0.dist-info" / "entry_points.txt").write_text("[skelpipe.plugins]\nsome = one_plugin\n")
    assert installed()["some"] == "one_plugin"
    with pytest.raises(
        UsageError, match=r"no layout is called 'nosuch'.*; an installed plug-in may add it: .*some"
    ):
        layout("nosuch")
    assert not LOADED
    assert load("some").module == "one_plugin"
    assert "one" in READERS


def test_options_and_the_variable_name_them(folder: Path) -> None:
    (folder / "one_plugin.py").write_text(READER)
    missing = ["info", "--layout", "coco-17", "--plugin", "nosuch_plugin"]
    refused = CliRunner().invoke(skelpipe, missing)
    assert refused.exit_code == 2
    assert "plug-in nosuch_plugin: there is no module 'nosuch_plugin'" in refused.output
    several = {"SKELPIPE_PLUGINS": "one_plugin nosuch_plugin"}
    assert "nosuch_plugin" in CliRunner().invoke(skelpipe, missing[:3], env=several).output
    assert CliRunner().invoke(skelpipe, missing[:3], env={"SKELPIPE_PLUGINS": "one_plugin"}).exit_code == 0
    assert list(LOADED) == ["one_plugin"]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_worker_processes_have_them(folder: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    (folder / "one_plugin.py").write_text(READER)
    monkeypatch.setenv("SKELPIPE_START_METHOD", method)
    load("one_plugin")
    with workers_ready(2) as pool:
        assert pool is not None
        pool.submit(require, ["one_plugin"], "the worker").result()
        with pytest.raises(MissingPlugin, match="the worker: needs the plug-in other, .* give --plugin other"):
            pool.submit(require, ["one_plugin", "other"], "the worker").result()
