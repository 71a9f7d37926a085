"""Where a served model is: the URLs that a client takes."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from kbert.errors import ServingError

REST_FORM = "http://HOST:8501/v1/models/NAME[/versions/N|/labels/LABEL]"
GRPC_FORM = "grpc://HOST:8500/NAME[/versions/N|/labels/LABEL]"

_DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 8500, "grpcs": 8500}
_MODEL = (
    r"(?P<name>[^/:]+)(/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?/?"
)
# A proxy may serve the API below a path of its own.
_REST_PATH = re.compile(rf"(?P<prefix>.*)/v1/models/{_MODEL}", re.IGNORECASE)
_GRPC_PATH = re.compile(rf"(?P<prefix>)/{_MODEL}")


@dataclass(frozen=True)
class Address:
    """One model of one server, and which of its versions.

    Attributes:
        scheme: http, https, grpc or grpcs.
        netloc: host and port, an IPv6 host in brackets.
        prefix: what comes before `/v1/models` in the path; "" as a rule.
        model: the model's name, not escaped.
        version: a version's number; None for the newest, or the one with `label`.
        label: a version's label.
    """

    scheme: str
    netloc: str
    prefix: str
    model: str
    version: int | None
    label: str | None

    @property
    def is_grpc(self) -> bool:
        """Whether the server is asked over gRPC."""
        return self.scheme.startswith("grpc")

    @property
    def is_secure(self) -> bool:
        """Whether TLS is used."""
        return self.scheme in ("https", "grpcs")

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def path(self) -> str:
        """The path of the model in REST."""
        return f"{self.prefix}/v1/models/{self._selection}"

    def __str__(self) -> str:
        path = f"/{self._selection}" if self.is_grpc else self.path
        return self.origin + path

    @property
    def _selection(self) -> str:
        selection = quote(self.model, safe="")
        if self.version is not None:
            selection += f"/versions/{self.version}"
        if self.label is not None:
            selection += f"/labels/{quote(self.label, safe='')}"
        return selection


def parse_url(url: str) -> Address:
    """Reads the URL of a model.

    Raises:
        ServingError: it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong(url) from None
    pattern = _GRPC_PATH if parts.scheme.startswith("grpc") else _REST_PATH
    match = pattern.fullmatch(parts.path)
    superfluous = parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or superfluous:
        raise _wrong(url)
    if match is None:
        raise _wrong(url)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    version, label = match["version"], match["label"]
    return Address(
        scheme=parts.scheme,
        netloc=f"{host}:{_DEFAULT_PORTS[parts.scheme] if port is None else port}",
        prefix=match["prefix"],
        model=unquote(match["name"]),
        version=None if version is None else int(version),
        label=None if label is None else unquote(label),
    )


def _wrong(url: str) -> ServingError:
    return ServingError(
        f"The URL of a model is {REST_FORM} (https:// for TLS), or over gRPC "
        f"{GRPC_FORM} (grpcs:// for TLS). Received: {url!r:.200}"
    )
