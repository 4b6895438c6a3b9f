"""The actionlet of a clip: where it differs from the static anchor (Lin et al. 2023, section 3.1).

No network is run here: these functions take its feature maps and gradients. `...` is any leading shape, such as
[N,M] for N clips with M bodies; T' and V are the time steps and the joints of a feature map.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.augment.region import part_of_joint
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout

__all__ = ["actionlet", "difference_activation", "smoothed", "to_frames"]

SMOOTHINGS = ("adjacency", "parts", "none")
SIGMAS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "abs": torch.abs, "sigmoid": torch.sigmoid}


def difference_activation(
    features: Tensor, gradient: Tensor, *, inner: bool = False, sigma: str = "relu"
) -> Tensor:
    """Return sigma(sum over c of a_c h_ctv), [...,T',V]: the map of eq. 5 before it is smoothed.

    `features` are h [...,D,T',V]. `gradient` is d(-sim)/dh, sim the similarity to the anchor: [...,D,T',V], or
    [...,D,1,1] where it is the same at all positions, as after average pooling. a_c is its mean over t
    and v; with `inner`, the mean of sigma of it, as eq. 4 is printed. The paper does not name the activation
    function: `sigma` is "relu", "abs" or "sigmoid" (divergence `actclr-activation`).
    """
    if sigma not in SIGMAS:
        raise UsageError(f"the activation function of eq. 4 and 5 is one of {', '.join(SIGMAS)}, not {sigma!r}")
    function = SIGMAS[sigma]
    weights = (function(gradient) if inner else gradient).mean((-2, -1))
    flat = weights[..., None, :].to(features.dtype) @ features.flatten(-2)
    return function(flat).view(*flat.shape[:-2], *features.shape[-2:])


def actionlet(
    activation: Tensor,
    layout: Layout,
    *,
    variant: str = "paper",
    smoothing: str | None = None,
    threshold: float = 0.0,
    soft: bool = False,
) -> Tensor:
    """Return the mask A [...,T',V], float32 in 0..1, of a difference activation [...,T',V].

    `paper`: the activation is smoothed by the skeleton's adjacency and divided by its maximum over t and v. The
    mask is 1 where the result is above `threshold`, else 0; with `soft` it is the result itself. It is 0 where
    nothing is active. The threshold's value is ours: divergence `actclr-mask-threshold`. `released`: divided by
    1e-8, averaged inside each body part and clipped to 1, so that a part is on in a time step if any of its joints
    is active; `threshold` and `soft` have no effect. `smoothing` ("adjacency", "parts", "none") overrides the
    variant's.
    """
    if variant not in ("paper", "released"):
        raise UsageError(f"an actionlet is that of the 'paper' or as 'released', not {variant!r}")
    activation = activation.float()
    if variant == "released":
        return smoothed(activation / 1e-8, layout, smoothing or "parts").clamp(0, 1)
    activation = smoothed(activation, layout, smoothing or "adjacency")
    peak = activation.amax((-2, -1), keepdim=True)
    relative = activation / torch.where(peak > 0, peak, 1.0)
    return relative if soft else (relative > threshold).float()


def smoothed(activation: Tensor, layout: Layout, smoothing: str) -> Tensor:
    """Spread activation [...,T',V] over neighbouring joints.

    "adjacency" is A G of eq. 5: G has the bones in both directions and the identity, each column divided by its
    sum, so that the result is the mean over a joint and its neighbours. "parts" is the mean over the joint's body
    part (docs/conventions.md).
    """
    if smoothing not in SMOOTHINGS:
        raise UsageError(f"there is no smoothing {smoothing!r}; there are: {', '.join(SMOOTHINGS)}")
    if smoothing == "none":
        return activation
    if smoothing == "parts":
        part = part_of_joint(layout, activation.device)
        spread = (part[:, None] == part).to(activation.dtype)
    else:
        spread = _neighbours(layout.edges, len(layout), activation.device).to(activation.dtype)
    # Not a matrix product: that may be rounded to TF32, and a threshold follows.
    return (activation[..., None] * (spread / spread.sum(0))).sum(-2)


def to_frames(mask: Tensor, frames: int, mode: str = "linear") -> Tensor:
    """Resize a mask [...,T',V] in time to [...,frames,V].

    "linear" interpolates with aligned ends, as in the released code: a border in time becomes a slope. "nearest"
    keeps binary masks binary. A mask that already has that many frames is returned unchanged.
    """
    steps, joints = mask.shape[-2:]
    if steps == frames:
        return mask
    if mode == "nearest":
        source = torch.arange(frames, device=mask.device) * steps // frames
        return mask.index_select(mask.dim() - 2, source)
    if mode != "linear":
        raise UsageError(f"a mask is stretched by 'linear' or 'nearest', not {mode!r}")
    flat = mask.float().reshape(-1, 1, steps, joints)
    if len(flat) == 0:
        return mask.new_zeros(*mask.shape[:-2], frames, joints)
    wide = F.interpolate(flat, (frames, joints), mode="bilinear", align_corners=True)
    return wide.to(mask.dtype if mask.is_floating_point() else torch.float32).view(
        *mask.shape[:-2], frames, joints
    )


@cache
def _neighbours(edges: tuple[tuple[int, int], ...], joints: int, device: torch.device) -> Tensor:
    adjacency = torch.eye(joints)
    for child, parent in edges:
        adjacency[child, parent] = adjacency[parent, child] = 1
    return adjacency.to(device)
