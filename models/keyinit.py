"""How the released code starts key networks (spec G8)."""

from skelpipe.models.encoders import draw_weights
from skelpipe.models.moco import MoCo

__all__ = ["draw_keys"]


def draw_keys(moco: MoCo, init: str) -> None:
    """Draw the key network's weights anew, so that it starts elsewhere than the query network.

    The released code of CrosSCLR, AimCLR, SkeleMixCLR, SkeAttnCLR and MsMCLR initialises both after it copied
    one to the other (spec G8). With init="default" nothing is drawn again and the key network stays a copy.
    """
    draw_weights(moco.key_encoder, init)
    draw_weights(moco.key_head, init)
