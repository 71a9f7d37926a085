"""Reading --model_config_file again and again while the server serves."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kbert.errors import UserError
from kbert.serving.status import StatusError

logger = logging.getLogger(__name__)


class ConfigPoller:
    """A thread that applies a config file whenever it changes.

    A file that is broken, or that names models which cannot be loaded, is logged; what
    was served before goes on being served, and the file is tried again.

    Args:
        path: the file.
        read: parses it; raises UserError where it cannot.
        apply: serves what it says; raises StatusError or UserError.
        seconds: from one look to the next.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], Any],
        apply: Callable[[Any], None],
        seconds: float,
    ) -> None:
        self._path, self._read, self._apply = path, read, apply
        self._seconds = seconds
        self._applied: Any = None
        self._last_complaint = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="config-polling")

    def start(self, applied: Any) -> None:
        """Starts to look for anything else than what has been applied."""
        self._applied = applied
        self._thread.start()

    def announce_stop(self) -> None:
        """Looks no more; one look may still be under way."""
        self._closing.set()

    def join(self) -> None:
        """Waits until the thread has ended."""
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Looks once."""
        try:
            config = self._read(self._path)
            if config == self._applied:
                self._last_complaint = ""
                return
            # Half of it may be in force when the other half fails: next time again.
            self._applied = None
            self._apply(config)
        except (StatusError, UserError) as error:
            if self._closing.is_set():
                return
            # The same complaint every second would bury the rest of the log.
            if str(error) != self._last_complaint:
                logger.warning("%s is not applied: %s", self._path, error)
            self._last_complaint = str(error)
            return
        self._applied, self._last_complaint = config, ""
        logger.info("%s has changed and is applied", self._path)

    def _poll(self) -> None:
        while not self._closing.wait(self._seconds):
            self.look()
