"""The page at `/`: what it is made of and its headers. No browser is needed."""

import asyncio
import base64
import hashlib
import html
import re
from typing import Any

import pytest

from kbert.serving.page import make_page


def get(path: str = "/", method: str = "GET", names: tuple[str, ...] = ("reviews",)):
    """Status, headers and body of the page, called without a server."""
    sent: list[dict[str, Any]] = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path}
    asyncio.run(make_page(lambda: list(names))(scope, None, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message["body"] for message in sent[1:])
    return sent[0]["status"], headers, body


def policy(headers: dict[str, str]) -> dict[str, str]:
    """The directives of the Content-Security-Policy."""
    directives = headers["content-security-policy"].split("; ")
    return dict(directive.split(" ", 1) for directive in directives)


def test_page_answers_with_html():
    status, headers, body = get()
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-length"] == str(len(body))
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert b"development server" in body


def test_policy_allows_the_pages_own_style_and_script_only():
    _, headers, body = get()
    directives = policy(headers)
    assert directives.pop("connect-src") == "'self'"
    assert directives.pop("img-src") == "data:"
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", body.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives.pop(f"{tag}-src") == f"'sha256-{digest}'"
    assert set(directives) == {
        *("default-src", "base-uri", "form-action", "frame-ancestors")
    }
    assert set(directives.values()) == {"'none'"}


def test_page_names_no_other_host_and_inserts_no_html():
    page = get()[2].decode()
    without_icon = re.sub(r'<link rel="icon"[^>]*>', "", page)
    assert "://" not in without_icon
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write", page)
    assert not re.search(r"\s(on\w+|style)=", without_icon), "the policy forbids these"


def test_head_has_the_headers_and_no_body():
    status, headers, body = get(method="HEAD")
    assert (status, body) == (200, b"")
    assert headers == get()[1]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(method: str):
    status, headers, body = get(method=method)
    assert (status, body) == (405, b"")
    assert headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/favicon.ico", "/page.html", "//", "/v2", "/../x"])
def test_other_paths_are_not_found(path: str):
    assert get(path)[::2] == (404, b"")


def test_names_of_models_are_escaped():
    name = """a"><script>alert('1')</script>&amp;"""
    page = get(names=(name, "plain"))[2].decode()
    assert "alert" in page
    assert name not in page
    options = re.findall(r'<option value="([^"]*)">([^<]*)</option>', page)
    assert [html.unescape(value) for value, _ in options] == [name, "plain"]
    assert [html.unescape(text) for _, text in options] == [name, "plain"]


def test_models_are_asked_for_at_each_request():
    names = ["one"]
    app = make_page(lambda: names)
    bodies: list[bytes] = []

    async def send(message):
        bodies.append(message.get("body", b""))

    for _ in range(2):
        asyncio.run(app({"type": "http", "method": "GET", "path": "/"}, None, send))
        names.append("two")
    assert b'"two"' not in bodies[1]
    assert b'"two"' in bodies[3]
