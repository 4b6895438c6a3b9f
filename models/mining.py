"""Cross-view mining: views learn from each other's nearest neighbours (CrosSCLR, Li et al. 2021; spec D2)."""

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor

from skelpipe.errors import UsageError

__all__ = ["JOINED", "cross_view", "refuse_derived"]

# The views trained together, by their number. The first is the one a run is named after.
JOINED: Mapping[int, tuple[str, ...]] = {2: ("joint", "motion"), 3: ("joint", "motion", "bone")}


def cross_view(logits: Mapping[str, Tensor], top_k: int, temperature: float, *, context: bool = True) -> Tensor:
    """Return sum_u mean_{v != u} L_{u<-v} for the logits [N, 1 + K] of two views or more, by view.

    logits^u = [z^u.k^u ; z^u.Q^u] / temperature; row i of all queues is of one clip. View u takes for positives
    its key and the `top_k` of the queue that view v finds nearest:
    L_{u<-v} = -1/|pos| sum_{j in pos} log softmax(logits^{uv})_j. With `context` the similarities that both views
    agree on, s^u_i s^v_i / temperature, stand beside view u's own, as K more entries with the same positives;
    gradients flow into both views through them.
    """
    found = {}
    for view, each in logits.items():
        queue = each.detach()[:, 1:]
        found[view] = queue.topk(min(top_k, queue.shape[1]), dim=1).indices
    whole = {view: each.logsumexp(dim=1) for view, each in logits.items()}
    losses = []
    for u, v in permutations(logits, 2):
        near = found[v]
        positives, total = [logits[u][:, :1], logits[u][:, 1:].gather(1, near)], whole[u]
        if context:
            shared = logits[u][:, 1:] * logits[v][:, 1:] * temperature
            positives.append(shared.gather(1, near))
            total = torch.logaddexp(total, shared.logsumexp(dim=1))
        losses.append((total - torch.cat(positives, dim=1).mean(dim=1)).mean())
    return torch.stack(losses).sum() / (len(logits) - 1)


def refuse_derived(method: str, shown: str) -> None:
    """Raise UsageError where the clips shown are not joints, from which several views could be derived."""
    if shown != "joint":
        raise UsageError(
            f"{method} trains its views together and derives them from the joints: use --view joint, not {shown}"
        )
