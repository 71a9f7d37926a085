"""The URLs of models."""

import pytest

from kbert.errors import ServingError
from kbert.serving.addresses import parse_url


@pytest.mark.parametrize(
    ("url", "full", "path"),
    [
        ("http://h:8501/v1/models/m", "http://h:8501/v1/models/m", "/v1/models/m"),
        ("http://h/v1/models/m/", "http://h:80/v1/models/m", "/v1/models/m"),
        ("HTTPS://H/v1/models/m", "https://h:443/v1/models/m", "/v1/models/m"),
        (
            "http://[::1]:1/a/b/v1/models/m/versions/07",
            "http://[::1]:1/a/b/v1/models/m/versions/7",
            "/a/b/v1/models/m/versions/7",
        ),
        (
            "http://h:1/v1/models/a%20b/labels/%C3%A4",
            "http://h:1/v1/models/a%20b/labels/%C3%A4",
            "/v1/models/a%20b/labels/%C3%A4",
        ),
        ("grpc://h/m", "grpc://h:8500/m", "/v1/models/m"),
        ("grpcs://h:1/m/labels/l", "grpcs://h:1/m/labels/l", "/v1/models/m/labels/l"),
    ],
)
def test_a_url_in_full(url, full, path):
    address = parse_url(url)
    assert str(address) == full
    assert address.path == path
    assert parse_url(full) == address


def test_the_parts():
    address = parse_url("grpcs://example.org/a%20b/versions/12")
    assert (address.model, address.version, address.label) == ("a b", 12, None)
    assert address.netloc == "example.org:8500"
    assert address.is_grpc
    assert address.is_secure
    assert not parse_url("http://h/v1/models/m/labels/x").is_secure


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8501/v1/models/m",
        "http://localhost:8501",
        "http://localhost:8501/v1/models/",
        "http://localhost:8501/v1/models/m:predict",
        "http://localhost:8501/v1/models/m/versions/x",
        "http://localhost:8501/v1/models/m/metadata",
        "http://localhost:99999/v1/models/m",
        "http://[::1/v1/models/m",
        "http:///v1/models/m",
        "http://me:secret@h/v1/models/m",
        "http://h/v1/models/m?a=b",
        "ftp://h/v1/models/m",
        "grpc://h/v1/models/m",
        "runs/sample",
    ],
)
def test_what_is_no_url_of_a_model(url):
    with pytest.raises(ServingError) as caught:
        parse_url(url)
    message = str(caught.value)
    assert "http://HOST:8501/v1/models/NAME[/versions/N|/labels/LABEL]" in message
    assert f"Received: {url!r}" in message
