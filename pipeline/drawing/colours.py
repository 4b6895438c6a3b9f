"""The colour of every body part, the same in each drawing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skelpipe.skeleton import Layout

__all__ = ["MARK", "PALETTE", "joint_colours", "part_colours"]

# The colours of Okabe and Ito, which all kinds of colour vision can distinguish; grey instead of black, which is
# visible on dark backgrounds too. In the order of the layouts left limbs are warm and right limbs are cold.
PALETTE = ("#808080", "#e69f00", "#56b4e9", "#d55e00", "#0072b2", "#009e73", "#cc79a7")
MARK = "#d4007f"  # of rings around the joints of a mask: unlike the colour of any part


def part_colours(layout: "Layout") -> dict[str, str]:
    """Return the colour of each part as #rrggbb, in the order of `layout.parts`."""
    return {part: PALETTE[i % len(PALETTE)] for i, part in enumerate(layout.parts)}


def joint_colours(layout: "Layout") -> tuple[str, ...]:
    """Return the colour of each joint [V], which is also that of the bone that ends in it."""
    colours = part_colours(layout)
    of = {v: colours[part] for part, joints in layout.parts.items() for v in joints}
    return tuple(of[v] for v in range(len(layout)))
