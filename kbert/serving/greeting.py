"""What a server says when it is ready: where it answers, and a line to try."""

import json
import shlex
from urllib.parse import quote

from kbert.serving.manager import ModelManager
from kbert.serving.options import ServerOptions
from kbert.serving.ports import is_loopback, join_address, reachable_host
from kbert.serving.status import StatusError

_EXAMPLE = {"text": "A wonderful film.", "text_pair": "I liked it."}


def greeting(options: ServerOptions, manager: ModelManager) -> list[str]:
    """The lines, in order."""
    host = reachable_host(options.host)
    lines = []
    if options.port:
        tls = " (TLS)" if options.ssl_config_file else ""
        lines.append(f"gRPC: {join_address(host, options.port)}{tls}")
    if options.grpc_socket_path is not None:
        lines.append(f"gRPC: unix:{options.grpc_socket_path}")
    if options.rest_api_port:
        root = f"http://{join_address(host, options.rest_api_port)}"
        urls = {
            name: f"{root}/v1/models/{quote(name, safe='')}"
            for name in manager.model_names()
        }
        lines += [f"REST: {url}" for url in urls.values()]
        lines.append(f"Page: {root}/")
        for name, url in urls.items():
            lines.append(f"Try:  {_example(manager, name, url)}")
            break
    if not is_loopback(options.host):
        lines.append(
            f"Warning: {options.host} can be reached from other machines, and whoever "
            "reaches it can ask it anything, over gRPC even to load other folders."
        )
    return [
        *lines,
        "This is a development server; deploy/ has TensorFlow Serving for production. "
        "Ctrl-C stops it.",
    ]


def _example(manager: ModelManager, name: str, url: str) -> str:
    """A command that asks a model, or asks what it takes where that is no text."""
    try:
        with manager.use(name) as servable:
            inputs = set(servable.signatures["serving_default"].inputs)
    except (StatusError, KeyError):
        inputs = set()
    if not inputs or not inputs <= _EXAMPLE.keys():
        return f"curl {shlex.quote(url + '/metadata')}"
    values = {key: value for key, value in _EXAMPLE.items() if key in inputs}
    instance = values if len(values) > 1 else next(iter(values.values()))
    body = json.dumps({"instances": [instance]})
    return f"curl -d {shlex.quote(body)} {shlex.quote(url + ':predict')}"
