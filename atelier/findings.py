"""What the doctor says of one thing. Imports nothing, so that a flow may hold it without torch."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: how it is, and where it is not well, what to do."""

    what: str
    state: State
    said: str
    mend: str = ""
