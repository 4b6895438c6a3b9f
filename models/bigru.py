"""BIGRU, a backbone of SkeAttnCLR: layers of gated recurrent units in both directions."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.backbone import Backbone
from skelpipe.models.batch_norm import BatchNorm1d
from skelpipe.models.settings.bigru import BIGRUSettings
from skelpipe.skeleton import Layout

__all__ = ["BIGRU"]

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of a layer and direction, as `nn.GRU` names them


class BIGRU(Backbone):
    """Each clip of [N, C, T, V, M] is one sequence of T poses of V*C*M numbers (joint, then axis, then body).

    Bodies are not rows of their own: `features` has one row per clip. `persons` is the largest number of bodies in
    a clip; clips of fewer are padded with zeros, as in datasets. h is the output at the last frame, where the
    second direction of the last layer has read that frame only, or with `output` "mean" the mean over time.

    `variant` "paper" reads in both directions. In "released" the second direction runs forward in time too
    (divergence `bigru-direction`).
    """

    Settings: ClassVar[type] = BIGRUSettings
    joint_map: ClassVar[bool] = False
    free_frames: ClassVar[bool] = False  # a traced graph is unrolled over its frames

    def __init__(
        self,
        layout: Layout,
        hidden: int = 1024,
        layers: int = 3,
        persons: int = 2,
        in_channels: int = 3,
        output: str = "last",
        variant: str = "paper",
    ) -> None:
        super().__init__()
        self.layout = layout
        self.joints = len(layout)
        self.persons = persons
        self.in_channels = in_channels
        self.output = output
        self.variant = variant
        self.feature_dim = 2 * hidden
        size = len(layout) * in_channels * persons
        self.input_norm = BatchNorm1d(size)
        self.gru = nn.GRU(size, hidden, num_layers=layers, bidirectional=True, batch_first=True)
        for name, weight in self.gru.named_parameters():
            if name.startswith("weight"):
                nn.init.xavier_uniform_(weight)

    def features(self, x: Tensor) -> Tensor:
        """Return the outputs at every frame of clips [N, C, T, V, M] as [N, D, T, 1], D = 2 * hidden."""
        clips, channels, frames, joints, bodies = x.shape
        if channels != self.in_channels or joints != self.joints or bodies > self.persons:
            raise UsageError(
                f"the encoder was built for {self.layout.name} ({len(self.layout)} joints,"
                f" {self.in_channels} channels) and at most {self.persons} bodies; the clips have {joints} joints,"
                f" {channels} channels, {bodies} bodies (batch of shape {list(x.shape)}, expected [N, C, T, V, M])"
            )
        x = F.pad(x, (0, self.persons - bodies))
        poses = x.permute(0, 2, 3, 1, 4).reshape(clips * frames, -1)
        y = self.input_norm(poses).view(clips, frames, -1)
        y = self._forward_in_time(y) if self.variant == "released" else self.gru(y)[0]
        return y.transpose(1, 2).unsqueeze(3)

    def pool(self, features: Tensor, bodies: int) -> Tensor:
        """Return h [N, D] of outputs [N, D, T, 1]; `bodies` has no effect: all are in one row."""
        outputs = features.squeeze(3)
        return outputs.mean(dim=2) if self.output == "mean" else outputs[:, :, -1]

    def _forward_in_time(self, y: Tensor) -> Tensor:
        """Run both directions of every layer from the first frame to the last: [N, T, I] -> [N, T, D].

        Frame by frame and layer by layer give the same sums; this takes one call per direction.
        """
        start = y.new_zeros(1, y.shape[0], self.gru.hidden_size)
        for layer in range(self.gru.num_layers):
            outputs = []
            for direction in ("", "_reverse"):
                names = (
                    f"{kind}_l{layer}{direction}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )
                weights = [getattr(self.gru, name) for name in names]
                outputs.append(torch.gru(y, start, weights, True, 1, 0.0, self.training, False, True)[0])
            y = torch.cat(outputs, dim=2)
        return y
