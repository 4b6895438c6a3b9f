"""Features of the actionlet or of the rest, by the networks of an ActCLR run (Lin et al. 2023, fig. 3)."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.mats import mats
from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.models import build_method
from skelpipe.models.absent_bodies import mean_of_present
from skelpipe.models.actclr import ActCLR
from skelpipe.models.encoders import Encoder
from skelpipe.models.pooling import safp
from skelpipe.models.statefile import is_torch_file
from skelpipe.train.running.checkpoint import newest_checkpoint, read_checkpoint
from skelpipe.train.running.provenance import Provenance
from skelpipe.train.running.run_folder import RunFolder

__all__ = ["REGIONS", "REGIONS_OF", "RegionFeatures", "region_features"]

REGIONS = ("actionlet", "non-actionlet")
REGIONS_OF = ("features", "clips")


class RegionFeatures(nn.Module):
    """The map from clips [N,C,T,V,M] to features h [N,D], or z [N,dim] through `head`, of one of `REGIONS`.

    The actionlet is that of the clip by the method's key network. With `of` "features" the query encoder's map is
    pooled over the region alone (SAFP, eq. 8, with A or 1 - A); with "clips" the clip is the static anchor outside
    the region before it is embedded. The paper does not say which (divergence `actclr-region`).
    """

    def __init__(self, method: ActCLR, region: str, of: str, head: nn.Module | None = None) -> None:
        super().__init__()
        self.method, self.region, self.of = method, region, of
        self.head = nn.Identity() if head is None else head

    def forward(self, clips: Tensor) -> Tensor:
        mask = self.method.actionlet(clips).movedim(3, 1)  # [N,M,T',V]
        mask = mask if self.region == "actionlet" else 1 - mask
        encoder = cast(Encoder, self.method.moco.encoder)
        if self.of == "clips":
            absent = (clips == 0).all(dim=(1, 2, 3))[:, :, None, None]  # no body is made up
            inside = to_frames(mask, clips.shape[2]).masked_fill(absent, 1.0).movedim(1, 3)
            found: Tensor = self.head(encoder(mats(clips, self.method.static(clips).expand_as(clips), inside)))
            return found
        maps = encoder.features(clips).unflatten(0, mask.shape[:2])
        pooled: Tensor = self.head(mean_of_present(encoder, safp(maps, mask).mean(dim=1), clips))
        return pooled


def region_features(
    source: str, provenance: Provenance, dataset: Dataset, view: str, *, region: str, of: str, head: bool
) -> RegionFeatures:
    """Return the features of a region by an ActCLR run, or by a checkpoint of one; h, or with `head` z.

    The static anchor is that of the dataset. Raises UsageError for other methods, and where only the exported
    query network is there.
    """
    recipe = provenance.pretraining
    if recipe.method != ActCLR.name or recipe.variant == "released":
        raise UsageError(
            f"{source}: --region needs a run of actclr, whose key network finds actionlets as the paper has them; "
            f"this is {recipe.method} with variant {recipe.variant}"
        )
    path = Path(source)
    found = newest_checkpoint(RunFolder(path).checkpoints, lambda text: None) if path.is_dir() else None
    if found is None and (path.is_dir() or not is_torch_file(path)):
        raise UsageError(
            f"{source}: --region needs the key network, which only checkpoints have: name the run with its "
            f"folder {RunFolder(path).checkpoints.name}, or one of its checkpoints"
        )
    checkpoint = read_checkpoint(path) if found is None else found[1]
    method = build_method(
        recipe, dataset.layout, view, lambda: torch.from_numpy(dataset.anchor(view)), len(dataset.channels)
    )
    method.load_state_dict(checkpoint.model)
    assert isinstance(method, ActCLR)
    return RegionFeatures(method, region, of, method.moco.head if head else None)
