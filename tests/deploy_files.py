"""What deploy/ holds, read for the tests."""

from pathlib import Path
from typing import Any

import yaml
from tensorflow_serving.config import model_server_config_pb2

from kbert.protos import parse_text

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())


def read(name: str) -> str:
    return (DEPLOY / name).read_text("utf-8")


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def read_model_config(name: str) -> Any:
    """The one model of a config file."""
    message = model_server_config_pb2.ModelServerConfig
    (model,) = parse_text(read(name), message, name).model_config_list.config
    return model


def names(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


(COMPOSE,) = documents(DEPLOY / "compose.yaml")
(KUSTOMIZATION,) = documents(DEPLOY / "kustomization.yaml")
# Kind and name -> object, of all that kustomization.yaml lists.
KUBERNETES: dict[tuple[str, str], dict[str, Any]] = {
    (entry["kind"], entry["metadata"]["name"]): entry
    for name in KUSTOMIZATION["resources"]
    for entry in documents(DEPLOY / name)
}
POD = KUBERNETES["Deployment", "kbert-serving"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
# The server's flags, without the dashes.
FLAGS = dict(flag.removeprefix("--").split("=", 1) for flag in CONTAINER["args"])
