"""What a training does about a collapse, and which states belong to one that does so. Decides, and does nothing."""

from collections.abc import Sequence

from atelier.errors import AtelierError
from atelier.training.monitor import Curves, Row, best, way_out

MOST_ROLLBACKS = 3  # then the settings are wrong, not the luck


def way_back(policy: str, curves: Curves, what: str, hopeless: bool) -> Row | None:
    """The snapshot to go back to, or None to go on as if nothing were.

    Raises AtelierError, which begins with `what` has happened, where the training ends there; `hopeless` where
    nothing but numbers is left.
    """
    top = best(curves.quality)
    if policy == "rollback" and top and len(curves.rollbacks) < MOST_ROLLBACKS:
        return top
    if policy == "ignore" and not hopeless:
        return None
    raise AtelierError(f"{what}. {way_out(policy, top, len(curves.rollbacks), hopeless)}")


def passes_through(policy: str, curves: Curves, kimg: float) -> bool:
    """Whether a training with this policy comes to a state at `kimg` with these curves."""
    if policy == "rollback":
        return not curves.went_past_a_collapse(kimg)
    return not curves.rollbacks


def needed(quality: Sequence[Row]) -> list[Row]:
    """The snapshots whose states a training may go back to or hand on; the first is the best.

    The one before last may have had another best, and may yet be gone back to.
    """
    return [row for row in (best(quality), best(quality[:-1])) if row]
