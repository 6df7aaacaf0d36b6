"""Early stopping (Prechelt 1998): a run ends when its loss on the dev split has stopped falling."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Patience:
    """The measurements on the dev split so far."""

    best: float | None = None
    """The lowest loss; None before the first finite one."""
    since: int = 0
    """Measurements after it, none of them lower."""

    def updated(self, loss: float) -> "Patience":
        """After one more measurement. A loss that is not finite is no lower one."""
        if math.isfinite(loss) and (self.best is None or loss < self.best):
            return Patience(loss)
        return replace(self, since=self.since + 1)

    def is_over(self, limit: int | None) -> bool:
        """Whether `limit` measurements in a row, or more, brought no lower loss; never where it is None."""
        return limit is not None and self.since >= limit

    @property
    def reason(self) -> str:
        """What to say of a run that has ended early."""
        lowest = "no finite loss" if self.best is None else f"no loss below {self.best:.4f}"
        return f"ended early: {lowest} in {self.since} measurements on dev"
