"""A file that is not the card's shard is refused."""

import numpy as np
import pytest

from skelpipe.dataset.tar_shard import TAIL, Geometry, check_shard, new_block
from skelpipe.errors import DatasetError


def test_check_names_what_does_not_fit() -> None:
    geometry = Geometry("joint", (3, 8, 25, 2))
    content = new_block(geometry, ["A001", "A002"], [0, 1]).tobytes() + TAIL
    whole = np.frombuffer(content, np.uint8)
    check_shard(whole, geometry, ["A001", "A002"], "x.tar")
    with pytest.raises(DatasetError, match=r"x\.tar: \d+ bytes, \d+ expected"):
        check_shard(whole[:-1], geometry, ["A001", "A002"], "x.tar")
    with pytest.raises(DatasetError, match=r"sample 1 is 'A002.joint.npy', 'A003' is expected"):
        check_shard(whole, geometry, ["A001", "A003"], "x.tar")
    other = Geometry("joint", (3, 8, 25, 2), "int32")
    with pytest.raises(DatasetError, match="another shape or type"):
        check_shard(whole, other, ["A001", "A002"], "x.tar")
