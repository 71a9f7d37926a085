"""Taking a port early, so that a taken one is told before the model is loaded."""

import contextlib
import errno
import ipaddress
import os
import socket
from pathlib import Path

from kbert.errors import ServingError


def bind(host: str, port: int, flag: str) -> socket.socket:
    """A socket that has the port and does not listen yet: connections are refused.

    Raises:
        ServingError: the port is taken or not allowed, or the host is none of this
            machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise _unknown_host(host, error) from None
    taken = socket.socket(family, kind)
    try:
        # A restart need not wait for what the last server's connections left behind.
        # A port on which somebody listens is refused all the same.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise port_error(host, port, flag, error) from None
    return taken


def check_free(host: str, port: int, flag: str) -> None:
    """Checks that a port can be taken; raises ServingError as `bind` does."""
    bind(host, port, flag).close()


def check_socket_free(path: Path) -> None:
    """Checks that nobody answers on a Unix socket; a dead server's is left to gRPC.

    Raises:
        ServingError: somebody does.
    """
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe,
    ):
        probe.connect(os.fspath(path))
        raise ServingError(
            f"--grpc_socket_path {path} is in use by another server. Stop that one, "
            "or choose another path."
        )


def join_address(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_host(host: str) -> str:
    """A host by which a client on this machine reaches a server that listens on it."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def port_error(
    host: str, port: int, flag: str, error: OSError | None = None
) -> ServingError:
    """The error for a port that cannot be listened on, with its mend."""
    number = error.errno if error is not None else errno.EADDRINUSE
    if number == errno.EACCES:
        return ServingError(
            f"--{flag} {port} may only be used by root. Choose one from 1024 on."
        )
    if number == errno.EADDRINUSE:
        return ServingError(
            f"Port {port} on {host} is in use. Stop the program that listens there, or "
            f"choose another with --{flag} (0 turns it off)."
        )
    return _unknown_host(host, error)


def _unknown_host(host: str, error: OSError | None) -> ServingError:
    reason = error.strerror if error is not None else "it cannot be listened on"
    return ServingError(
        f"--host is an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all "
        f"of them. Received: {host!r} ({reason})."
    )
