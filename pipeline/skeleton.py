"""Skeleton layouts: joints, bones, mirror pairs and parts; the only table of bones in the code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.front.arguments import given
from skelpipe.front.descriptions import described_safely
from skelpipe.plugins import Table, suggestion
from skelpipe.untrusted import described
from skelpipe.yaml_reader import Section, parse_yaml, read_yaml

__all__ = ["Layout", "layout", "named_layout", "parse_layout"]

KEYS = ("name", "source", "joints", "centre", "shoulders", "bones", "mirror", "parts", "levels")
PLAIN = ("name", "joints", "parents", "centre", "left_shoulder", "right_shoulder", "mirror", "parts", "levels")
# Older cards have the order of MSR Action3D's files under the name that is the Kinect SDK's now.
RENAMED = {"kinect-v1-20": "msr-action3d-20"}


@dataclass(frozen=True)
class Layout:
    """A skeleton: V named joints and the tree of their bones. All indices count from 0 (docs/conventions.md).

    `parents[v]` is the joint from which the bone of v starts; the centre is its own parent. `mirror` is the joint
    order of the left/right flip; applied twice it gives the original order. `source` is the address of the page
    that lists the joints; cards of datasets do not keep it.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    centre: int
    left_shoulder: int
    right_shoulder: int
    mirror: tuple[int, ...]
    parts: Mapping[str, tuple[int, ...]]
    levels: Mapping[str, Mapping[str, tuple[int, ...]]]
    source: str = field(default="", compare=False)

    def __new__(cls, *values: Any, **fields: Any) -> "Layout":
        if len(values) == 1 and not fields:
            raise UsageError(f"a layout has joints and bones; Layout.named({values[0]!r}) is a built-in one")
        return super().__new__(cls)

    @described_safely
    def __repr__(self) -> str:
        return (
            f"<Layout {self.name}: {len(self.joints)} joints, {len(self.edges)} bones, "
            f"centre {self.joints[self.centre]} ({self.centre})>"
        )

    def __len__(self) -> int:
        return len(self.joints)

    @staticmethod
    def named(name: str) -> "Layout":
        """Return a built-in layout by name, such as `kinect-v2-25`; UsageError that lists them for another."""
        if not isinstance(name, str):
            raise UsageError(f"a built-in layout has a name, such as kinect-v2-25, not {given(name)}")
        return layout(name)

    def to_plain(self) -> dict[str, Any]:
        """Return values for JSON; groups become lists of pairs, since their order matters."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "parents": list(self.parents),
            "centre": self.centre,
            "left_shoulder": self.left_shoulder,
            "right_shoulder": self.right_shoulder,
            "mirror": list(self.mirror),
            "parts": _pairs(self.parts),
            "levels": {level: _pairs(groups) for level, groups in self.levels.items()},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Layout":
        """Return the layout from the values that `to_plain` returned, in this version or an earlier one."""
        if not isinstance(plain, Mapping) or (missing := [key for key in PLAIN if key not in plain]):
            lacks = f": it lacks {missing[0]!r}" if isinstance(plain, Mapping) else ""
            raise UsageError(f"these are not the values of a layout, which to_plain returns{lacks}")
        joints = tuple(plain["joints"])
        renamed = plain["name"] in RENAMED and joints == layout(RENAMED[plain["name"]]).joints
        return cls(
            name=RENAMED[plain["name"]] if renamed else plain["name"],
            joints=joints,
            parents=tuple(plain["parents"]),
            centre=plain["centre"],
            left_shoulder=plain["left_shoulder"],
            right_shoulder=plain["right_shoulder"],
            mirror=tuple(plain["mirror"]),
            parts=_groups(plain["parts"]),
            levels={level: _groups(pairs) for level, pairs in plain["levels"].items()},
        )

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The bones as (child, parent) pairs, without the centre's pair with itself."""
        return tuple((child, parent) for child, parent in enumerate(self.parents) if child != parent)


def _pairs(groups: Mapping[str, tuple[int, ...]]) -> list[list[Any]]:
    return [[name, list(joints)] for name, joints in groups.items()]


def _groups(pairs: list[list[Any]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(joints) for name, joints in pairs}


def layout(name: str) -> Layout:
    """Return a layout by name, such as `kinect-v2-25`: a built-in one, or that of a plug-in."""
    return LAYOUTS[name] if name in LAYOUTS else _built_in(name)


def named_layout(said: str) -> Layout:
    """Return the layout that a command names: that of a YAML file, whose name may be missing in it, or by name."""
    if not said.endswith((".yaml", ".yml")):
        return layout(said)
    content = read_yaml(Path(said))
    return parse_layout({"name": Path(said).stem, **content} if isinstance(content, Mapping) else content, said)


@cache
def _built_in(name: str) -> Layout:
    try:
        return parse_layout(parse_yaml(manifests.read_text("layouts", name), f"{name}.yaml"))
    except KeyError as error:
        more = f", {', '.join(LAYOUTS)}" if LAYOUTS else ""
        raise UsageError(f"{error.args[0]}{more}{suggestion()}") from None


def _accept(name: str, content: Mapping[str, Any] | str | Path) -> Layout:
    """Return the layout of a plug-in."""
    if name in manifests.names("layouts"):
        raise UsageError("there is a built-in layout of this name")
    read = content if isinstance(content, Mapping) else read_yaml(Path(content))
    return parse_layout({**read, "name": name} if isinstance(read, Mapping) else read, f"layout {name}")


LAYOUTS: Final[Table[Layout]] = Table("layout", {}, _accept)  # of plug-ins; the built-in ones are files


def parse_layout(content: Mapping[str, Any], where: str = "") -> Layout:
    """Build a `Layout` from the content of a layout file (see `manifests/layouts`), and check every name.

    `where` begins error messages; it is given if the content is part of another file.
    """
    named = content.get("name", "") if isinstance(content, Mapping) else ""
    top = Section(content, where or f"layout {named}".strip(), KEYS)
    name = top.get("name", str)
    joints = tuple(top.texts("joints"))
    index = {joint: v for v, joint in enumerate(joints)}
    if len(index) < len(joints) or not joints:
        raise UsageError(f"{top.at('joints')}: names are expected, each once")

    def at(joint: Any, key: str) -> int:
        joint = joint if isinstance(joint, str) else repr(joint)
        if joint not in index:
            raise UsageError(f"{top.where}: {key} names the unknown joint {described(joint)}")
        return index[joint]

    def groups(section: Section, name: str) -> dict[str, tuple[int, ...]]:
        found = {key: tuple(at(joint, f"{name}.{key}") for joint in section.texts(key)) for key in section.content}
        if sorted(v for group in found.values() for v in group) != list(range(len(joints))):
            raise UsageError(f"{top.where}: {name} must name every joint exactly once")
        return found

    centre = at(top.text("centre"), "centre")
    parents = list(range(len(joints)))
    for child, parent in top.get("bones", dict).items():
        parents[at(child, "bones")] = at(parent, "bones")
    _check_tree(top.where, joints, parents, centre)
    shoulders = top.section("shoulders", ("left", "right"))
    levels = top.section("levels", None, {})
    return Layout(
        name=name,
        joints=joints,
        parents=tuple(parents),
        centre=centre,
        left_shoulder=at(shoulders.text("left"), "shoulders.left"),
        right_shoulder=at(shoulders.text("right"), "shoulders.right"),
        mirror=_mirror(top, joints, at),
        parts=groups(top.section("parts"), "parts"),
        levels={level: groups(levels.section(level), f"levels.{level}") for level in levels.content},
        source=top.get("source", str, ""),
    )


def _mirror(top: Section, joints: tuple[str, ...], at: Callable[[Any, str], int]) -> tuple[int, ...]:
    mirror = list(range(len(joints)))
    for pair in top.get("mirror", list, []):
        if not isinstance(pair, list) or len(pair) != 2:
            raise UsageError(f"{top.at('mirror')}: pairs of joints are expected, found {described(pair)}")
        left, right = pair
        a, b = at(left, "mirror"), at(right, "mirror")
        if a == b or mirror[a] != a or mirror[b] != b:
            raise UsageError(f"{top.where}: mirror names {described(left)} or {described(right)} twice")
        mirror[a], mirror[b] = b, a
    return tuple(mirror)


def _check_tree(where: str, joints: tuple[str, ...], parents: list[int], centre: int) -> None:
    if parents[centre] != centre:
        raise UsageError(f"{where}: the centre {described(joints[centre])} must have no parent")
    for start in range(len(joints)):
        v = start
        for _ in joints:
            v = parents[v]
        if v != centre:
            raise UsageError(f"{where}: the bones from {described(joints[start])} do not lead to the centre")
