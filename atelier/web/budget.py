"""A hard limit on how many requests may leave, whoever sends them and whatever is killed. Knows nothing of HTTP."""

import fcntl
import os
import threading
from pathlib import Path

from atelier.errors import AtelierError
from atelier.settings.messages import counted


class BudgetSpent(AtelierError):
    """Nothing more may be asked."""


class Budget:
    """At most `limit` requests (None: counted only), over all threads, and over all processes that share `ledger`.

    The ledger is a file that grows by one byte a request, before the request leaves: a kill may cost a request
    that was paid for and never sent, but no kill gives one back. Without a ledger the count is this object's own.
    """

    def __init__(self, limit: int | None, ledger: Path | None) -> None:
        self.limit, self.ledger = limit, ledger
        self._unwritten = 0
        self._lock = threading.Lock()
        if ledger:
            ledger.parent.mkdir(parents=True, exist_ok=True)

    @property
    def spent(self) -> int:
        """How many requests have been counted."""
        if self.ledger is None:
            return self._unwritten
        try:
            return self.ledger.stat().st_size
        except FileNotFoundError:
            return 0

    def spend(self) -> None:
        """Count one request that is about to leave. Raises BudgetSpent where it may not."""
        if self.ledger is None:
            with self._lock:
                self._check(self._unwritten)
                self._unwritten += 1
            return
        # opened each time: a lock belongs to one opening of the file, so it holds between threads as well
        ledger = os.open(self.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            self._check(os.fstat(ledger).st_size)
            os.write(ledger, b".")
        finally:
            os.close(ledger)

    def _check(self, spent: int) -> None:
        if self.limit is not None and spent >= self.limit:
            raise BudgetSpent(
                f"the budget of {counted(self.limit, 'request')} is spent; what has arrived is kept: "
                "raise scrape.wikiart.max_requests and run again to go on"
            )
