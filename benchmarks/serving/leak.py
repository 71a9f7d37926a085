"""Memory of a server that loads and unloads versions.

Purpose: two versions of a small export are loaded in turn, each time the other one is
unloaded, and one request is answered by each. After the first cycles, in which the
allocator and TensorFlow take what they keep, memory must not grow.

    python -m benchmarks.serving.leak saved_models/tiny/1 --cycles 200

The server is told over gRPC (HandleReloadConfigRequest) which version to serve. Takes
about 2 minutes. Prints the memory as it goes and a JSON line; exits with 1 where it
grows by more than `--max-growth-kb` a cycle.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import grpc
import requests
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from benchmarks.serving.servers import (
    free_port,
    kbert_server,
    publish,
    wait_for_version,
)

NAME = "cycled"
# These cycles come before the measured ones.
WARM_SHARE = 0.25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("export", type=Path, help="saved_models/NAME/1")
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--max-growth-kb", type=float, default=50, help="a cycle")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base_path = Path(folder) / NAME
        base_path.mkdir()
        for version in (1, 2):
            publish(arguments.export, base_path, version)
        memory = cycle(base_path, Path(folder) / "log", arguments.cycles)
    measured = memory[int(len(memory) * WARM_SHARE) :]
    slope = statistics.linear_regression(range(len(measured)), measured).slope
    kept = slope * 1000 <= arguments.max_growth_kb
    figures = {
        "kept": kept,
        "cycles": arguments.cycles,
        "growth_kb_a_cycle": round(slope * 1000, 1),
        "memory_mb": [round(memory[0]), round(measured[0]), round(measured[-1])],
    }
    print(json.dumps(figures))
    return 0 if kept else 1


def cycle(base_path: Path, log: Path, num_cycles: int) -> list[float]:
    """Loads the two versions in turn; returns the memory in MB after each cycle."""
    memory = []
    port = free_port()
    options = ["--file_system_poll_wait_seconds=1"]
    with kbert_server(base_path, log, grpc_port=port, options=options) as server:
        server.wait()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            models = model_service_pb2_grpc.ModelServiceStub(channel)
            for number in range(num_cycles):
                version = number % 2 + 1
                serve_only(models, base_path, version)
                wait_for_version(server, version)
                answer = requests.post(
                    f"{server.url}:predict",
                    json={"instances": ["a good film"]},
                    timeout=60,
                )
                answer.raise_for_status()
                memory.append(server.memory_mb)
                if number % 20 == 19:
                    print(f"cycle {number + 1}: {memory[-1]:.1f} MB", flush=True)
    return memory


def serve_only(
    models: model_service_pb2_grpc.ModelServiceStub, base_path: Path, version: int
) -> None:
    """Has the server load one version and unload the other."""
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config.add()
    config.name, config.base_path = NAME, str(base_path)
    config.model_platform = "tensorflow"
    config.model_version_policy.specific.versions.append(version)
    models.HandleReloadConfigRequest(request, timeout=60)


if __name__ == "__main__":
    sys.exit(main())
