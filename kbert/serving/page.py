"""The page at `/` where a person types a text and sees its labels.

The page is one HTML file with its style and script inside, and asks the same server's
REST interface. Its Content-Security-Policy names that style and that script by their
hashes and nothing else, so that no outside resource and no text can add to it.
"""

import base64
import hashlib
import html
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from kbert.serving.rest_body import Message, Receive, Send

AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

_TEMPLATE = Path(__file__).with_name("page.html").read_text("utf-8")
_MODELS = "<!-- models -->"
_METHODS = ("GET", "HEAD")


def make_page(model_names: Callable[[], list[str]]) -> AsgiApp:
    """An ASGI application that answers `GET /` with the page.

    Args:
        model_names: gives the names of the models served now; it is asked at each
            request, and the page lets a person choose where there are several.

    Returns:
        The application. It answers 404 for every other path, and 405 for other methods
        than GET and HEAD.
    """

    async def page(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] != "/":
            await _respond(send, 404, {}, b"")
        elif scope["method"] not in _METHODS:
            await _respond(send, 405, {"allow": ", ".join(_METHODS)}, b"")
        else:
            body = _render(model_names()).encode("utf-8")
            await _respond(send, 200, _HEADERS, body, scope["method"] == "HEAD")

    return page


def _render(model_names: list[str]) -> str:
    options = "".join(
        f'<option value="{html.escape(name)}">{html.escape(name)}</option>'
        for name in model_names
    )
    return _TEMPLATE.replace(_MODELS, options)


def _content_hashes(tag: str) -> str:
    """The hashes of all elements `tag`, as a Content-Security-Policy writes them."""
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", _TEMPLATE, re.DOTALL)
    digests = (hashlib.sha256(content.encode("utf-8")) for content in contents)
    return " ".join(
        f"'sha256-{base64.b64encode(digest.digest()).decode('ascii')}'"
        for digest in digests
    )


_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_content_hashes('script')}",
            f"style-src {_content_hashes('style')}",
            "img-src data:",  # the icon
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",  # the list of models changes
}


async def _respond(
    send: Send,
    status: int,
    headers: dict[str, str],
    body: bytes,
    only_headers: bool = False,
) -> None:
    everything = {**headers, "content-length": str(len(body))}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (name.encode("ascii"), value.encode("ascii"))
                for name, value in everything.items()
            ],
        }
    )
    await send({"type": "http.response.body", "body": b"" if only_headers else body})
