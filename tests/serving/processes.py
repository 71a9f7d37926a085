"""`kbert serve` as a process of its own."""

import json
import queue
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.serving.ports import free_port

_READY = "development server; deploy/"
# Of this machine; a proxy in the environment is for others.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_COMMAND = "from kbert_cli.main import main; main()"


class Process:
    """A server on free ports; its log is read line by line.

    Args:
        arguments: of `kbert serve`, ports left out.
    """

    def __init__(self, *arguments: object) -> None:
        self.port, self.rest_api_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.rest_api_port}"
        self.lines: list[str] = []
        self._new_lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _COMMAND, "serve", *map(str, arguments)),
                *(f"--port={self.port}", f"--rest_api_port={self.rest_api_port}"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, part: str = _READY, seconds: float = 120) -> str:
        """Reads the log up to a line with `part` in it; by default, until it serves."""
        while (line := self._new_lines.get(timeout=seconds)) is not None:
            self.lines.append(line)
            if part in line:
                return line
        raise AssertionError(f"it ended without {part!r}: {self.log}")

    def wait(self, seconds: float = 60) -> int:
        """The exit code; the rest of the log is read."""
        code = self.process.wait(seconds)
        self._reader.join()
        while (line := self._new_lines.get()) is not None:
            self.lines.append(line)
        return code

    def stop(self) -> None:
        """Ends it at once, if it has not ended yet."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()

    def post(self, model: str, body: Any, method: str = "predict") -> Any:
        """POSTs to a model; returns the parsed answer, whatever its status."""
        return self.ask(f"/v1/models/{model}:{method}", json.dumps(body).encode())[1]

    def ask(self, path: str, data: bytes | None = None) -> tuple[int, Any]:
        """Status and body of an answer; a body that is JSON is parsed."""
        try:
            with _OPENER.open(self.url + path, data, timeout=60) as response:
                status, body, kind = response.status, response.read(), response.headers
        except urllib.error.HTTPError as error:
            status, body, kind = error.code, error.read(), error.headers
        is_json = kind["content-type"].startswith("application/json")
        return status, json.loads(body) if is_json else body.decode()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                self._new_lines.put(line.rstrip("\n"))
        self._new_lines.put(None)


def write_config(file: Path, models: dict[str, Path]) -> Path:
    """A model config file, renamed into its place."""
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{folder}" '
        'model_platform: "tensorflow" }\n'
        for name, folder in models.items()
    )
    unfinished = file.with_suffix(".new")
    unfinished.write_text(f"model_config_list {{ {entries} }}")
    return unfinished.rename(file)
