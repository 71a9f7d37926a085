"""Whatever a client sends, it gets JSON and never a 500.

KBERT_FUZZ_EXAMPLES=10000 looks longer.
"""

import gzip
import json
import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kbert.serving.gate import Gate
from kbert.serving.metrics import Metrics
from kbert.serving.rest import RestApp, RestOptions
from tests.serving.asgi import Response, ask
from tests.serving.fake_models import FakeManager

SIGNATURES = [
    "serving_default",
    "two",
    "classify",
    "regress",
    "texts",
    "half",
    "init_op",
]
KEYS = ["instances", "inputs", "examples", "context", "signature_name", "b64", "x", "a"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([*SIGNATURES, "YQ==", 10**400, -0.0, 1e39])
)
keys = st.sampled_from([*KEYS, "b", "text"]) | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(lambda text: {"b64": text}, st.text("YQ=+/ \n-ü", max_size=6))
    ),
    max_leaves=12,
)
documents = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
calls = st.sampled_from(["predict", "classify", "regress"])


@pytest.fixture(scope="module")
def app():
    app = RestApp(FakeManager(), RestOptions(), Metrics(), Gate(4))
    yield app
    app.close()


def check(response: Response) -> None:
    assert response.status != 500
    assert response.status < 600
    document = response.json()
    assert isinstance(document, dict)
    assert (response.status == 200) == ("error" not in document)


FUZZ = settings(
    max_examples=int(os.environ.get("KBERT_FUZZ_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(documents, calls, st.booleans())
@example({"instances": [{"b64": "YQ=="}], "signature_name": "two"}, "predict", False)
@example({"inputs": [[], [[]]]}, "predict", True)
@example({"instances": [[10**400]]}, "predict", True)
@example({"instances": [{}]}, "predict", True)
@example({"examples": [{"x": [1e300, 10**30]}]}, "classify", True)
def test_documents(app: RestApp, document: dict, call: str, ascii_only: bool):
    text = json.dumps(document, ensure_ascii=ascii_only)
    body = text.encode("utf-8", "surrogatepass")
    check(ask(app, "POST", f"/v1/models/toy:{call}", body))


@FUZZ
@given(values, st.sampled_from(SIGNATURES), st.sampled_from(["instances", "inputs"]))
def test_values(app: RestApp, value: object, signature: str, key: str):
    document = {key: value, "signature_name": signature}
    check(ask(app, "POST", "/v1/models/toy:predict", document))


@FUZZ
@given(st.binary(max_size=80), calls, st.booleans(), st.booleans())
def test_bytes(app: RestApp, body: bytes, call: str, packed: bool, marked: bool):
    body = gzip.compress(body) if packed else body
    headers = {"Content-Encoding": "gzip"} if marked else {}
    check(ask(app, "POST", f"/v1/models/toy:{call}", body, headers))


@FUZZ
@given(
    documents,
    st.lists(st.tuples(st.integers(0, 10**4), st.binary(max_size=3)), max_size=4),
)
def test_damaged_documents(app: RestApp, document: dict, changes: list):
    body = bytearray(json.dumps(document).encode())
    for position, piece in changes:
        at = position % (len(body) + 1)
        body[at : at + len(piece)] = piece
    check(ask(app, "POST", "/v1/models/toy:predict", bytes(body)))


@FUZZ
@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "PATCH"]),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=9),
    st.sampled_from(["", "models/", "models/toy/versions/", "models/toy/labels/"]),
    st.sampled_from(["", ":predict", "/metadata"]),
)
def test_paths(app: RestApp, method: str, name: str, before: str, after: str):
    check(ask(app, method, f"/v1/{before}{name}{after}", {"instances": [1]}))
