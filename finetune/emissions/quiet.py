"""Keep codecarbon from printing, and keep what it warns of."""

import logging
import threading


class Capture(logging.Filter):
    """Keep codecarbon from printing, and its warnings for the record."""

    # What these say is in the record already, as the component's method and detail.
    KNOWN = (
        "Multiple instances of codecarbon",
        "No CPU tracking mode found",
        "We saw that you have a",
        "We will use the",
    )

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []
        self._last = ""
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Take a record out of the log, and keep what it warns of."""
        if record.levelno >= logging.WARNING:
            message = " ".join(record.getMessage().split())
            with self._lock:
                if record.exc_info and record.exc_info[1] is not None:
                    self._last = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
                if not message.startswith(self.KNOWN) and len(self.warnings) < 20:
                    self.warnings.append(f"codecarbon: {message}")
                    self.warnings = list(dict.fromkeys(self.warnings))
        return False

    def last(self) -> str:
        """Return the last exception that codecarbon swallowed, or ""."""
        return self._last
