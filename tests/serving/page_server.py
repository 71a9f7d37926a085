"""A small stand-in for a server with the page at `/`, and a way to run any such app."""

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import uvicorn

from kbert.serving.page import make_page


class FakeServer:
    """The answers of TensorFlow Serving's REST interface that the page asks for.

    `models` has each model's kind: `plain` (with :classify), `pair`, `predict` (no
    :classify), `many` (30 labels); `failure`, where set, is the status and body of
    every POST. The probability of `pos` is 0.9 where the text has "good", else 0.2.
    """

    def __init__(self) -> None:
        self.models = {"reviews": "plain"}
        self.version = 7
        self.failure: tuple[int, str] | None = None
        self.requests: list[tuple[str, Any]] = []
        self.page = make_page(lambda: list(self.models))

    async def __call__(self, scope, receive, send) -> None:
        if not scope["path"].startswith("/v1/"):
            await self.page(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        status, answer = self.answer(scope["raw_path"].decode(), scope["method"], body)
        headers = [(b"content-type", b"application/json")]
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": answer.encode()})

    def answer(self, path: str, method: str, body: bytes) -> tuple[int, str]:
        if method == "POST":
            self.requests.append((path, json.loads(body)))
        match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?[/:](\w+)", path)
        assert match, path
        name, version, verb = unquote(match[1]), match[2], match[3]
        kind = self.models[name]
        if verb == "metadata":
            return 200, json.dumps(self.metadata(name, kind))
        if self.failure:
            return self.failure
        if version != str(self.version):
            error = f"Servable not found for request: Specific({name}, {version})"
            return 404, json.dumps({"error": error})
        return 200, json.dumps(self.result(kind, verb, json.loads(body)))

    def metadata(self, name: str, kind: str) -> dict[str, Any]:
        inputs = ["text", "text_pair"] if kind == "pair" else ["text"]
        signatures = {"serving_default": {"inputs": {key: {} for key in inputs}}}
        if kind != "predict":
            signatures["classify"] = {"inputs": {"inputs": {}}}
        spec = {"name": name, "signature_name": "", "version": str(self.version)}
        definition = {"signature_def": {"signature_def": signatures}}
        return {"model_spec": spec, "metadata": definition}

    def result(self, kind: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        (example,) = body["examples" if verb == "classify" else "instances"]
        pos = 0.9 if "good" in example["text"] else 0.2
        if kind == "predict":
            row = {"label": "pos" if pos > 0.5 else "neg", "score": max(pos, 1 - pos)}
            return {"predictions": [{**row, "probabilities": [1 - pos, pos]}]}
        if kind == "many":
            return {"results": [[[f"<i>label {i}</i>", i / 435] for i in range(30)]]}
        return {"results": [[["neg", 1 - pos], ["pos", pos]]]}


class Running:
    """An ASGI application behind uvicorn, on a free port, in a thread of its own."""

    def __init__(self, app: Callable[..., Any]) -> None:
        config = uvicorn.Config(app, port=0, lifespan="off", log_level="warning")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
