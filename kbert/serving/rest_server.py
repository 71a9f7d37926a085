"""REST's ASGI application on uvicorn, in a thread beside gRPC's."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

# An idle connection is kept as long as common proxies keep theirs.
_KEEP_ALIVE_SECONDS = 75


class RestServer:
    """Serves an ASGI application on a socket.

    Args:
        app: the application.
        taken: a bound socket; connections to it are refused until `start`.
        grace_seconds: how long `stop` waits for answers.
        on_end: called when the server ends, for whatever reason.
    """

    def __init__(
        self,
        app: Any,
        taken: socket.socket,
        grace_seconds: int,
        on_end: Callable[[], None],
    ) -> None:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=grace_seconds,
        )
        self._server = uvicorn.Server(config)
        self._socket = taken
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name="rest")

    def start(self) -> None:
        """Starts to listen and to answer.

        Raises:
            OSError: another program listens there meanwhile.
        """
        self._socket.listen(self._server.config.backlog)
        self._thread.start()

    def announce_stop(self) -> None:
        """Accepts no new connections, and closes those that are idle."""
        self._server.should_exit = True

    def join(self) -> None:
        """Waits until everything that was accepted is answered."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._on_end()
