"""Backbones whose rows are bodies, and how bodies that are absent are computed."""

from typing import ClassVar

from torch import Tensor

from skelpipe.models.absent_bodies import Computed, computed_rows, mean_of_present, present_bodies
from skelpipe.models.backbone import Backbone
from skelpipe.models.batch_norm import Repeats, Weights

__all__ = ["BodyBackbone"]


class BodyBackbone(Backbone):
    """A backbone in which each body of a clip is a row (row n * M + m) that passes by itself.

    A subclass defines `rows` and `maps`, and `draws` where it draws random numbers for each row.

    Absent bodies, which are zeros throughout, are rows that are all alike. One is computed for all, with the same
    outcome except for rounding: in evaluation mode, and in training where no random numbers are drawn. Where they
    are, `absent_bodies` decides. With "as-papers" each row has its own draws, as in the papers' code; with "once"
    the absent rows of a batch share one row and its draws. With "masked", always, absent rows are left out of the
    statistics of batch normalisation and of the mean over bodies, and their maps are zeros: another network.

    On other devices than a CPU all rows are computed where it is not known beforehand which are absent (see
    `tell_present`): to look would mean to wait for the device.
    """

    joint_map: ClassVar[bool] = True
    absent_bodies: str = "as-papers"

    @property
    def draws(self) -> bool:
        """Whether random numbers are drawn for each row in the present mode."""
        return False

    def rows(self, x: Tensor) -> Tensor:
        """Return clips [N, C, T, V, M] as rows [N*M, ...]; UsageError where their shape does not fit."""
        raise TypeError(f"{type(self).__name__} has no `rows`")

    def maps(self, rows: Tensor, repeats: Repeats | Weights | None = None) -> Tensor:
        """Return the feature maps [R, D, T', V'] of rows [R, ...], of which some count several times or not."""
        raise TypeError(f"{type(self).__name__} has no `maps`")

    def features(self, x: Tensor) -> Tensor:
        """Return the feature maps of clips [N, C, T, V, M] as [N*M, D, T', V']."""
        rows = self.rows(x)
        computed = self._computed(x)
        if computed is not None:
            return computed.spread(self.maps(computed.of(rows), computed.repeats))
        if self.absent_bodies != "masked":
            return self.maps(rows)
        present = present_bodies(x).flatten()
        return self.maps(rows, Weights(present)) * present[:, None, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """Return h [N, D] of clips [N, C, T, V, M]."""
        computed = self._computed(x)
        if computed is None:
            return mean_of_present(self, self.pool(self.features(x), x.shape[4]), x)
        maps = self.maps(computed.of(self.rows(x)), computed.repeats)
        h = computed.spread(maps.mean(dim=(2, 3)))  # pooled first: whole maps need not be copied
        return mean_of_present(self, h.unflatten(0, (-1, x.shape[4])).mean(dim=1), x)

    def _computed(self, x: Tensor) -> Computed | None:
        return computed_rows(x, self.absent_bodies, random=self.draws)
