"""The REST application, in this process, with stand-ins for the models."""

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kbert.serving.gate import Gate
from kbert.serving.metrics import Metrics
from kbert.serving.rest import RestApp, RestOptions
from tests.serving.asgi import Exchange, Response, ask, exchange, http_scope
from tests.serving.fake_models import FakeManager, wait_until

PREDICT = "/v1/models/toy:predict"
ROW = {"instances": [1.0, 2.0]}


class Server:
    """An application with what it was made of."""

    def __init__(self, manager: FakeManager, limit: int, **settings: Any) -> None:
        page = settings.pop("page", None)
        self.manager = manager
        self.metrics, self.gate = Metrics(), Gate(limit)
        self.app = RestApp(
            manager, RestOptions(**settings), self.metrics, self.gate, page
        )

    def ask(self, *arguments: Any, **keywords: Any) -> Response:
        return ask(self.app, *arguments, **keywords)

    def count(self, model: str, status: str) -> bool:
        line = f'request_count{{model_name="{model}",status="{status}"}} 1\n'
        return line in self.metrics.exposition()


@pytest.fixture
def make() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make_server(
        manager: FakeManager | None = None, limit: int = 4, **settings: Any
    ) -> Server:
        servers.append(Server(manager or FakeManager(), limit, **settings))
        return servers[-1]

    yield make_server
    for server in servers:
        server.app.close()


@pytest.fixture
def server(make) -> Server:
    return make()


@pytest.mark.parametrize(
    ("target", "body", "expected"),
    [
        (PREDICT, ROW, {"predictions": [2.5, 3.0]}),
        (PREDICT, {"inputs": [1]}, {"outputs": [2.5]}),
        ("/V1/Models/toy/Versions/002:predict", ROW, {"predictions": [2.5, 3.0]}),
        ("/v1/models/toy/labels/stable:predict", ROW, {"predictions": [2.5, 3.0]}),
        ("/v1/models/%74oy/labels/st%61ble:predict", ROW, {"predictions": [2.5, 3.0]}),
        (
            PREDICT,
            {"signature_name": "two", "instances": [{"a": [1, 2], "b": "x"}]},
            {"predictions": [{"b_bytes": {"b64": "eA=="}, "sums": 3}]},
        ),
        (
            "/v1/models/toy:classify",
            {"signature_name": "classify", "examples": [{"text": "x"}]},
            {"results": [[["neg", 0.25], ["pos", 0.75]]]},
        ),
        (
            "/v1/models/toy:regress",
            {"signature_name": "regress", "examples": [{}, {}], "context": {}},
            {"results": [0.0, 0.0]},
        ),
    ],
)
def test_calls(server: Server, target: str, body: dict, expected: dict):
    response = server.ask("POST", target, body)
    assert response.json() == expected
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.body))


def test_status(server: Server):
    states = server.ask("GET", "/v1/models/toy").json()["model_version_status"]
    assert [state["version"] for state in states] == ["2", "1"]
    for which in ("versions/1", "VERSIONS/01"):
        (state,) = server.ask("GET", f"/v1/models/toy/{which}").json().popitem()[1]
        assert state == {
            "version": "1",
            "state": "END",
            "status": {"error_code": "NOT_FOUND", "error_message": "gone"},
        }
    (state,) = server.ask("GET", "/v1/models/toy/labels/stable").json().popitem()[1]
    assert (state["version"], state["state"]) == ("2", "AVAILABLE")


def test_metadata(server: Server):
    found = server.ask("GET", "/v1/models/toy/versions/1/metadata").json()
    assert found["model_spec"]["version"] == "1"
    assert "serving_default" in found["metadata"]["signature_def"]["signature_def"]


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("POST", "/v1/models/no:predict", 404, "Servable not found for request: Lat"),
        (
            "POST",
            "/v1/models/toy/versions/7:predict",
            404,
            "Servable not found for request: Specific(toy, 7)",
        ),
        (
            "POST",
            "/v1/models/toy/labels/x:predict",
            400,
            "Unrecognized servable version label: x",
        ),
        ("GET", "/v1/models/no", 404, "Could not find any versions of model no"),
        ("GET", "/v1/models/no/metadata", 404, "Servable not found for request: "),
        ("GET", "/v1/models/toy?a=b", 404, "any versions of model toy?a=b"),
        ("GET", "/v1/models/ü", 404, "any versions of model ü"),
        ("GET", "/v1/models/%C3%BC", 404, "any versions of model ü"),
        ("GET", "/v1/models/%ff", 404, "any versions of model \ufffd"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/metadata/metadata", 404, "Latest(metadata)"),
        ("POST", "/v1/models/toy", 400, "Malformed request: POST /v1/models/toy"),
        ("POST", "/v1/models/toy:PREDICT", 400, "Malformed request: POST /v1/"),
        ("POST", "/v1/models/toy:explain", 400, "Malformed request: POST /v1/"),
        ("POST", PREDICT + "?x=1", 400, "Malformed request: POST " + PREDICT + "?x=1"),
        ("POST", "/v1/models/a/b:predict", 400, "Malformed request: POST /v1/"),
        ("GET", PREDICT, 400, "Malformed request: GET /v1/"),
        ("GET", "/v1/", 400, "Malformed request: GET /v1/"),
        ("PUT", PREDICT, 400, "Malformed request: PUT /v1/"),
        ("DELETE", "/v1/models/toy", 400, "Malformed request: DELETE /v1/"),
        (
            "GET",
            "/v1/models/toy/versions/9223372036854775808",
            400,
            "Failed to convert version: 9223372036854775808 to numeric.",
        ),
        ("GET", "/v1/models/toy/versions/" + "9" * 9000, 400, "Failed to convert vers"),
        ("GET", "/v1/models/toy/versions/9223372036854775807/metadata", 404, "Specif"),
        ("GET", "/v1/<script>", 400, "<script>"),
    ],
)
def test_paths_that_lead_nowhere(
    server: Server, method: str, target: str, status: int, message: str
):
    response = server.ask(method, target, ROW if method == "POST" else b"")
    assert message in response.error
    assert response.status == status
    assert response.headers["content-type"] == "application/json"
    assert b"<" not in response.body


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "JSON Parse error: The document is empty"),
        (b"{", 400, "JSON Parse error: "),
        (b'{"instances": ["\xff"]}', 400, "JSON Parse error: Invalid encoding"),
        (b'{"instances":' + b"[" * 100_000, 400, "JSON Parse error: "),
        ({"inputs": [1], "signature_name": 3}, 400, "must be a string value"),
        (
            {"inputs": [1], "signature_name": "no"},
            400,
            'Serving signature name: "no" not found in signature def',
        ),
        ({"inputs": {}, "signature_name": "init_op"}, 400, "Failed to get input map"),
        ({"inputs": {"y": 1}}, 400, "Missing named input: x in 'inputs' object."),
        ({"inputs": ["a"]}, 400, "is not of expected type: float"),
        ({"inputs": 1.0}, 400, "x: rank 0"),
        ({"instances": [[1]]}, 400, "x: rank 2"),
        ({"inputs": [1], "signature_name": "half"}, 501, "to type: half"),
        (
            {"inputs": [1], "signature_name": "to_half"},
            400,
            "Failed to write JSON value for tensor type: half",
        ),
    ],
)
def test_bodies(server: Server, body: Any, status: int, message: str):
    response = server.ask("POST", PREDICT, body)
    assert response.status == status
    assert message in response.error


def test_the_syntax_is_checked_before_the_model(server: Server):
    assert server.ask("POST", "/v1/models/no:predict", b"{").status == 400


def test_deep_but_legal_nesting_is_no_server_error(server: Server):
    for depth in range(60, 1100, 40):
        body = b'{"inputs":' + b"[" * depth + b"1" + b"]" * depth + b"}"
        assert server.ask("POST", PREDICT, body).status in (200, 400)


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_bodies_in_pieces(server: Server, pieces: int):
    body = json.dumps(ROW).encode()
    step = -(-len(body) // pieces)
    chunks = [body[at : at + step] for at in range(0, len(body), step)]
    assert server.ask("POST", PREDICT, chunks).json() == {"predictions": [2.5, 3.0]}


LIMIT = 10_000


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit(make, announced: bool):
    server = make(max_body_bytes=LIMIT)
    body = b" " * LIMIT + b"{"
    headers = {"Content-Length": str(len(body))} if announced else {}
    response = server.ask("POST", PREDICT, [body[:50], body[50:], b"{"], headers)
    assert response.status == 413
    assert f"limit of {LIMIT} bytes" in response.error
    assert response.headers["connection"] == "close"
    assert server.gate.in_flight == 0
    response = server.ask("POST", PREDICT, b" " * (LIMIT - 2) + b"{}")
    assert response.status == 400


@pytest.mark.parametrize("length", ["9" * 5000, "100000"])
def test_a_client_that_asks_first_is_refused_without_its_body(make, length: str):
    server = make(max_body_bytes=LIMIT)
    headers = {"Content-Length": length, "Expect": "100-continue"}
    conversation = Exchange()  # gives no body: reading would never end
    scope = http_scope("POST", PREDICT, headers)
    asyncio.run(server.app(scope, conversation.incoming.get, conversation.send))
    assert conversation.response().status == 413


def test_gzip(server: Server):
    headers = {"Content-Encoding": "gzip"}
    body = gzip.compress(json.dumps(ROW).encode()[:9])
    body += gzip.compress(json.dumps(ROW).encode()[9:])
    response = server.ask("POST", PREDICT, body, headers)
    assert response.json() == {"predictions": [2.5, 3.0]}
    for broken, message in [
        (b"{}", "The body is no gzip"),
        (body[:-12], "The gzip body is cut off"),
        (body[:-5] + b"xxxxx", "The body is no gzip"),
        (b"", "JSON Parse error: The document is empty"),
    ]:
        response = server.ask("POST", PREDICT, broken, headers)
        assert response.status == 400
        assert message in response.error


def test_a_gzip_bomb_is_not_unpacked(make):
    server = make(max_body_bytes=1 << 20)
    bomb = gzip.compress(b" " * (1 << 26))
    assert len(bomb) < 1 << 17
    response = server.ask("POST", PREDICT, bomb, {"Content-Encoding": "gzip"})
    assert response.status == 413


def test_a_slow_body_is_given_up(make):
    server = make(timeout_seconds=0.05)
    conversation = Exchange()
    conversation.body(b'{"inst', more=True)
    scope = http_scope("POST", PREDICT)
    asyncio.run(server.app(scope, conversation.incoming.get, conversation.send))
    response = conversation.response()
    assert response.status == 408
    assert "did not arrive within 0.05 s" in response.error
    assert server.gate.in_flight == 0


def test_the_session_gets_what_is_left_of_the_time(server: Server):
    server.ask("POST", PREDICT, ROW)
    (timeout,) = server.manager.servables[2].timeouts
    assert timeout is not None
    assert 0 < timeout <= 30


def test_a_request_that_waited_too_long_is_not_run(make):
    block = threading.Event()
    server = make(FakeManager(block), num_threads=1, timeout_seconds=0.2)

    async def talk() -> list[Response]:
        requests = [
            asyncio.ensure_future(
                exchange(server.app, "POST", PREDICT, json.dumps(ROW).encode())
            )
            for _ in range(2)
        ]
        await asyncio.sleep(0.3)
        block.set()
        return await asyncio.gather(*requests)

    responses = asyncio.run(talk())
    assert [response.status for response in responses] == [504, 504]
    assert server.manager.servables[2].timeouts == []


def test_a_full_gate_is_429_and_a_closed_one_503(make):
    server = make(limit=1)
    with server.gate.enter():
        response = server.ask("POST", PREDICT, ROW)
        assert response.status == 429
        assert "limit of 1 requests" in response.error
        assert server.ask("GET", "/v1/models/toy").status == 200
    assert server.ask("POST", PREDICT, ROW).status == 200
    assert server.gate.drain(20)
    assert server.ask("POST", PREDICT, ROW).status == 503
    assert server.ask("GET", "/v1/models/toy").status == 200


def test_a_client_that_leaves_while_sending(server: Server):
    conversation = Exchange()
    conversation.body(b'{"inst', more=True)
    conversation.disconnect()
    scope = http_scope("POST", PREDICT)
    asyncio.run(server.app(scope, conversation.incoming.get, conversation.send))
    assert conversation.sent == []
    assert server.gate.in_flight == 0
    assert server.count("toy", "CANCELLED")


def test_work_for_a_client_that_left_is_not_begun(make):
    block = threading.Event()
    server = make(FakeManager(block), num_threads=1)

    async def talk() -> None:
        first, second = Exchange(), Exchange()
        for conversation in (first, second):
            conversation.body(json.dumps(ROW).encode())
        scope = http_scope("POST", PREDICT)
        running = asyncio.ensure_future(
            server.app(scope, first.incoming.get, first.send)
        )
        await asyncio.to_thread(server.manager.begun.acquire)
        waiting = asyncio.ensure_future(
            server.app(scope, second.incoming.get, second.send)
        )
        await asyncio.to_thread(wait_until, lambda: server.gate.in_flight == 2)
        second.disconnect()
        await waiting
        assert second.sent == []
        assert server.gate.in_flight == 1
        first.disconnect()
        await running
        assert first.sent == []
        assert server.gate.in_flight == 1  # it runs still, and counts still
        block.set()

    asyncio.run(talk())
    wait_until(lambda: server.gate.in_flight == 0)
    assert server.manager.num_begun == 1


def test_a_request_cancelled_by_the_server_gives_its_place_back(make):
    server = make()

    async def talk() -> None:
        conversation = Exchange()
        request = asyncio.ensure_future(
            server.app(
                http_scope("POST", PREDICT),
                conversation.incoming.get,
                conversation.send,
            )
        )
        await asyncio.to_thread(wait_until, lambda: server.gate.in_flight == 1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(talk())
    assert server.gate.in_flight == 0


def test_a_defect_is_a_500_that_tells_nothing_and_is_raised_for_the_log(make):
    server = make()
    server.manager.servables[2].functions["serving_default"] = lambda _: {}["secret"]
    conversation = Exchange()
    conversation.body(json.dumps(ROW).encode())
    with pytest.raises(KeyError, match="secret"):
        asyncio.run(
            server.app(
                http_scope("POST", PREDICT),
                conversation.incoming.get,
                conversation.send,
            )
        )
    response = conversation.response()
    assert (response.status, response.error) == (500, "Internal error")
    assert server.count("toy", "UNKNOWN")
    assert server.gate.in_flight == 0


def test_cors_is_off_unless_enabled(make):
    names = [f"access-control-allow-{name}" for name in ("origin", "methods")]
    for enabled in (False, True):
        server = make(enable_cors=enabled)
        for body, status in ((ROW, 200), (b"{", 400)):
            response = server.ask("POST", PREDICT, body)
            assert response.status == status
            assert [response.headers.get(name) for name in names] == (
                ["*", "POST, GET"] if enabled else [None, None]
            )


def test_preflight(make):
    server = make(enable_cors=True)
    response = server.ask("OPTIONS", PREDICT, headers={"Origin": "https://a.example"})
    assert (response.status, response.body) == (200, b"")
    assert response.headers["access-control-allow-headers"] == "Content-Type"
    response = server.ask("OPTIONS", PREDICT)
    assert response.status == 400
    assert response.error == "Origin header is missing in CORS preflight"


def test_metrics_page(make):
    path = "/monitoring/prometheus/metrics"
    server = make(metrics_path=path)
    server.ask("POST", PREDICT, ROW)
    server.ask("POST", "/v1/models/no:predict", ROW)
    response = server.ask("GET", path)
    text = response.body.decode()
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/plain")
    prefix = ":tensorflow:serving:request"
    assert f'{prefix}_count{{model_name="toy",status="OK"}} 1\n' in text
    assert f'{prefix}_count{{model_name="no",status="NOT_FOUND"}} 1\n' in text
    latency = (
        f'{prefix}_latency_count{{model_name="toy",API="predict",entrypoint="REST"}}'
    )
    assert f"{latency} 1\n" in text
    response = server.ask("GET", path + "?<script>")
    assert response.status == 400
    assert b"<" not in response.body
    assert server.ask("GET", path + "x").status == 404


def test_other_paths_are_bare_404_or_the_page(make):
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    for target in ("/", "/v1", "/v2/models/toy", "/monitoring/prometheus/metrics"):
        response = make().ask("GET", target)
        assert (response.status, response.body) == (404, b"")
        response = make(page=page).ask("GET", target)
        assert (response.status, response.body) == (202, b"page")


def test_websockets_are_refused(server: Server):
    conversation = Exchange()
    asyncio.run(
        server.app({"type": "websocket"}, conversation.incoming.get, conversation.send)
    )
    assert conversation.sent == [{"type": "websocket.close", "code": 1000}]
