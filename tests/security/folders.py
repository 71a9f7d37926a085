"""Good presets, runs and prepared folders, to copy and to damage; and what is done to
them. Everything is tiny and made once."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import keras_hub

from kbert.files import write_json, write_text
from kbert.presets import load_backbone, resolve_preset
from kbert.runs import open_run
from kbert.tasks import TextClassification
from kbert.workflows.predictor import open_predictor
from tests.preset_folders import write_hugging_face_preset, write_keras_hub_preset
from tests.pretrained import write_pretrained_run
from tests.tiny import VOCABULARY, build_model

LABELS = ("neg", "pos")


def write_run(folder: Path) -> Path:
    """A run as fine-tuning leaves it, with random weights."""
    keras.utils.set_random_seed(5)
    task = TextClassification(LABELS)
    tokenizer = keras_hub.models.BertTokenizer(list(VOCABULARY), lowercase=True)
    folder.mkdir(parents=True)
    task.save_model(
        build_model(task), str(folder / "model"), tokenizer=tokenizer, max_length=16
    )
    write_json(
        folder / "task.json",
        {
            **task.to_dict(),
            "columns": {"text": "text", "text_pair": None, "label": "label"},
            "is_paired": False,
            "max_length": 16,
            "truncation": "head",
            "lowercase": True,
            "strip_accents": True,
        },
    )
    write_text(folder / "config.toml", '[model]\npreset = "sample"\n')
    write_json(folder / "metrics.json", {"test": {"accuracy": 0.5}})
    write_json(folder / "kbert.json", {"status": "finished", "data": {}})
    return folder


WRITERS: dict[str, Callable[[Path], object]] = {
    "keras_hub": write_keras_hub_preset,
    "hugging_face": write_hugging_face_preset,
    "run": write_run,
    "pretrained": write_pretrained_run,
}


def use(kind: str, folder: Path, *, ask: bool = False) -> None:
    """Loads a folder, and asks a run if it is to, as a command would."""
    if kind in ("run", "pretrained"):
        run = open_run(folder)
        run.read_info()
        run.read_metrics()
        if kind == "run":
            run.read_config()
        predictor = open_predictor(folder)
        if not ask:
            return
        text = "a good [MASK]" if kind == "pretrained" else "a good film"
        (answer,) = predictor.answers([text])
        assert answer["text"] == text
        return
    load_backbone(resolve_preset(str(folder)))


@contextmanager
def nothing_changes(folder: Path) -> Iterator[None]:
    """Checks that no file of a folder is made, changed or removed."""
    before = _snapshot(folder)
    yield
    assert _snapshot(folder) == before


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        status = os.lstat(path)
        found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


# What may stand in place of any file. Each takes the path, where the good file is, and
# a folder beside the one that is loaded.

Damage = Callable[[Path, Path], object]


def _fifo(path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path, outside: Path) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def _folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def _link_to(target: str) -> Damage:
    def damage(path: Path, outside: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return damage


def _link_out(path: Path, outside: Path) -> None:
    """The good file, moved out of the folder, and a link to it."""
    shutil.move(path, outside / path.name)
    path.symlink_to(outside / path.name)


def _link_to_itself(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _sparse(path: Path, outside: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def _truncate(path: Path, outside: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _write(content: bytes) -> Damage:
    return lambda path, outside: path.write_bytes(content)


DAMAGES: dict[str, Damage] = {
    "pipe": _fifo,
    "socket": _socket,
    "folder": _folder,
    "link to a device": _link_to("/dev/zero"),
    "link out of the folder": _link_out,
    "link to itself": _link_to_itself,
    "link to nothing": _link_to("nowhere"),
    "terabyte of nothing": _sparse,
    "cut off": _truncate,
    "empty": _write(b""),
    "noise": _write(bytes(range(256)) * 40),
    "deep nesting": _write(b"[" * 200_000),
    "no UTF-8": _write(b'{"a": "\xff\xfe"}'),
}


def set_json(path: Path, keys: str, value: object) -> None:
    """Sets `a.b.c` in a JSON file."""
    content = json.loads(path.read_text("utf-8"))
    *parents, last = keys.split(".")
    target = content
    for key in parents:
        target = target[int(key) if isinstance(target, list) else key]
    target[last] = value
    path.write_text(json.dumps(content), "utf-8")
