"""A plug-in for skelpipe: SimSiam-like learning of five joints, from files of its own form (docs/plugins.md)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch.nn.functional as F
from torch import nn

from skelpipe.models import Backbone, BackboneSettings, Method, ProjectionSettings, Step
from skelpipe.raw.recording import Recording
from skelpipe.settings import Count, Share


@dataclass(frozen=True)
class Scale:
    """Make each clip larger or smaller by a factor of 1 - `strength` to 1 + `strength`."""

    strength: Share = 0.1

    def sample(self, draws, shape):
        return {"factor": 1 + self.strength * (2 * draws.uniform(1)[:, 0] - 1)}  # [N]

    def apply(self, x, params):
        return x * params["factor"].to(x)[:, None, None, None, None]


class PoseNet(Backbone):
    """A network that sees one pose at a time; h is its mean over frames and bodies."""

    @dataclass(frozen=True, kw_only=True)
    class Settings(BackboneSettings):
        name: Literal["posenet"] = "posenet"
        width: Count = 32

    def __init__(self, layout, in_channels=3, width=32):
        super().__init__()
        self.layout, self.feature_dim = layout, width
        self.pose = nn.Sequential(nn.Linear(in_channels * len(layout), width), nn.ReLU(), nn.Linear(width, width))

    def features(self, x):  # [N, C, T, V, M] -> [N * M, D, T, 1]
        return self.pose(x.permute(0, 4, 2, 1, 3).flatten(0, 1).flatten(2)).mT.unsqueeze(3)


class TinySiam(Method):
    """Two views predict each other (Chen & He 2021): no queue, no key network, no temperature."""

    @dataclass(frozen=True, kw_only=True)
    class Settings(ProjectionSettings):
        hidden: Count = 16  # units of the predictor

    name = "tinysiam"
    view_chains = {"query": "scaled", "key": "scaled"}

    def __init__(self, parts, settings):
        super().__init__()
        self.encoder, self.head = parts.encoder(), parts.head()
        sizes = parts.dim, settings.hidden
        self.predictor = nn.Sequential(nn.Linear(*sizes), nn.ReLU(), nn.Linear(*reversed(sizes)))

    def forward(self, batch):
        z, k = (self.head(self.encoder(batch.views[name])) for name in self.view_chains)
        pairs = (self.predictor(z), k.detach()), (self.predictor(k), z.detach())
        loss = -sum(F.cosine_similarity(p, target).mean() for p, target in pairs) / 2
        return Step(loss, embeddings=F.normalize(z.detach(), dim=1), logs={"loss": loss.detach()})


def read_tiny(content, file, form):
    """Read one frame per line: x, y and z of each joint of one body, in metres."""
    xyz = np.loadtxt(content.tobytes().decode().splitlines(), ndmin=2).reshape(-1, form.joints, 3)
    return Recording(np.ones(len(xyz), np.int32), np.zeros(len(xyz), np.int64), xyz)


def register(registry):
    """Add everything: `--plugin tiny_skeletons` calls this."""
    arms, legs = ["left hand", "right hand"], ["left foot", "right foot"]
    layout = {"joints": ["hip", *arms, *legs], "centre": "hip", "bones": dict.fromkeys([*arms, *legs], "hip")}
    layout |= {"shoulders": dict(zip(("left", "right"), arms, strict=True)), "mirror": [arms, legs]}
    registry.layout("tiny-5", layout | {"parts": {"trunk": ["hip"], "arms": arms, "legs": legs}})
    registry.reader("tiny-text", read_tiny)
    registry.operator("scale", Scale, "strength")
    registry.chain("scaled", ["crop", {"scale": 0.2}])
    registry.backbone(PoseNet)
    registry.method(TinySiam, recipe={"encoder": {"name": "posenet"}, "batch_size": 32, "frames": 64})
