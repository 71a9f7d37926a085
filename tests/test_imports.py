"""The house rules that a program can check, over the source of kbert and its CLI."""

import ast
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for folder in ("kbert", "cli") for path in (ROOT / folder).rglob("*.py")
)

# A room is a module or a package directly under kbert/, or the command line. It
# imports rooms of lower ranks, and those of its own rank as long as no circle arises.
RANKS = {
    "kbert_cli": 6,
    "kbert": 6,  # kbert/__init__.py: the Python API, which imports lazily
    **dict.fromkeys(["workflows", "serving"], 5),
    **dict.fromkeys(["exporting", "tasks", "training"], 4),
    **dict.fromkeys(["data", "encoder", "new_runs", "preset_heads", "runs"], 3),
    **dict.fromkeys(["layers", "models", "presets", "tokenization"], 2),
    **dict.fromkeys(
        [
            "hugging_face",
            "preset_cache",
            "preset_files",
            "preset_weights",
            "saved_tasks",
            "stored_tensors",
            "vocabulary_training",
        ],
        2,
    ),
    **dict.fromkeys(["config", "pretrain_settings", "settings"], 1),
    # Leaves: each does one small thing and knows nothing of BERT's training.
    **dict.fromkeys(
        [
            "bounded",
            "checksums",
            "disk_errors",
            "display",
            "errors",
            "files",
            "metrics",
            "plot_text",
            "plots",
            "progress",
            "protos",
            "run_lock",
            "toml_files",
            "vocabulary",
        ],
        0,
    ),
}
# Names of kbert/__init__.py that any room may import: constants, not functions.
CONSTANTS = {"__version__"}
# The one module of kbert that writes to the terminal.
MAY_PRINT = {"kbert/progress.py"}
MAX_LINES = 350
HEAVY = ("keras", "keras_hub", "tensorflow", "tensorflow_datasets", "tensorflow_text")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def module_name(path: Path) -> list[str]:
    """kbert/data/sources.py -> [kbert, data, sources]; cli/kbert_cli/... likewise."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return parts[1:] if parts[0] == "cli" else parts


def room_of(name: list[str]) -> str:
    if name[0] == "kbert_cli":
        return "kbert_cli"
    return name[1] if len(name) > 1 and name[1] != "__init__" else "kbert"


ROOMS = {room_of(module_name(path)) for path in SOURCES}


def imports(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and full name of each import in a file, those inside functions included."""
    package = module_name(path)[:-1]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = start + (node.module.split(".") if node.module else [])
            for alias in node.names:
                yield node.lineno, [*base, alias.name]


def rooms_imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of each import of kbert or its command line."""
    for line, name in imports(path):
        if name[0] not in ("kbert", "kbert_cli"):
            continue
        if name[0] == "kbert" and len(name) == 2 and name[1] in CONSTANTS:
            continue
        room = room_of(name)
        # What is no room is a function of the Python API, in kbert/__init__.py.
        yield line, room if room in ROOMS else "kbert"


def test_every_module_has_a_place_in_the_house():
    unknown = sorted(ROOMS - RANKS.keys())
    assert unknown == [], (
        f"enter {unknown} in RANKS of tests/test_imports.py: whom may they import, "
        "and who may import them?"
    )


def test_imports_point_downward():
    wrong = []
    for path in SOURCES:
        room = room_of(module_name(path))
        for line, imported in rooms_imported(path):
            # A room without a rank is the matter of the test above.
            if RANKS.get(imported, 0) > RANKS.get(room, 6):
                wrong.append(f"{relative(path)}:{line}: {room} imports {imported}")
    assert wrong == []


def test_rooms_import_each_other_in_no_circle():
    graph = defaultdict(set)
    for path in SOURCES:
        room = room_of(module_name(path))
        graph[room] |= {item for _, item in rooms_imported(path)} - {room}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_library_never_imports_click():
    wrong = [
        f"{relative(path)}:{line}"
        for path in SOURCES
        for line, name in imports(path)
        if name[0] == "click" and module_name(path)[0] == "kbert"
    ]
    assert wrong == []


def test_layers_and_models_never_see_a_config():
    wrong = [
        f"{relative(path)}:{line}: imports {room}"
        for path in SOURCES
        for line, room in rooms_imported(path)
        if room_of(module_name(path)) in ("layers", "models", "encoder", "tokenization")
        and room in ("config", "pretrain_settings", "settings")
    ]
    assert wrong == []


def test_library_neither_prints_nor_exits():
    wrong = []
    for path in SOURCES:
        if module_name(path)[0] != "kbert" or relative(path) in MAY_PRINT:
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("print", "exit", "quit", "sys.exit", "os._exit"):
                    wrong.append(f"{relative(path)}:{node.lineno}: {called}(...)")
    assert wrong == []


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches all; tidying up and raising again is no catching."""
    if handler.type is None:
        return True
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    last = handler.body[-1]
    raises_again = isinstance(last, ast.Raise) and last.exc is None
    return "Exception" in names or ("BaseException" in names and not raises_again)


def test_no_handler_catches_everything():
    wrong = [
        f"{relative(path)}:{node.lineno}"
        for path in [*SOURCES, *(ROOT / "tests").rglob("*.py")]
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ExceptHandler) and catches_everything(node)
    ]
    assert wrong == []


def test_no_function_is_rewritten_by_autograph():
    """It would take seconds of every start, and leave files in the temporary folder."""
    wrong = []
    for path in SOURCES:
        nodes = list(ast.walk(parse(path)))
        told = {
            id(node.func)
            for node in nodes
            if isinstance(node, ast.Call)
            and any(
                keyword.arg == "autograph" and ast.unparse(keyword.value) == "False"
                for keyword in node.keywords
            )
        }
        wrong += [
            f"{relative(path)}:{node.lineno}: tf.function without autograph=False"
            for node in nodes
            if isinstance(node, ast.Attribute)
            and ast.unparse(node) == "tf.function"
            and id(node) not in told
        ]
    assert wrong == []


def test_files_stay_short():
    lengths = {
        relative(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES
    }
    assert lengths
    long = {path: count for path, count in lengths.items() if count > MAX_LINES}
    assert long == {}, f"over {MAX_LINES} lines: look for what wants its own name"


LIGHT_STATEMENTS = {
    "import kbert": "import kbert",
    "import kbert.config": "import kbert.config, kbert.errors",
    "import kbert.serving": "from kbert.serving import Client",
    **{
        " ".join(["kbert", *arguments]): (
            "import sys; from kbert_cli.main import main; "
            f"sys.argv = {['kbert', *arguments]}; main()"
        )
        for arguments in (
            ["--help"],
            ["--version"],
            ["finetune", "--help"],
            ["pretrain", "--help"],
            ["export", "--help"],
            ["serve", "--help"],
            ["evaluate", "--help"],
            ["predict", "--help"],
            ["bench", "--help"],
            ["bench", "finetune", "--help"],
            ["presets", "--help"],
            ["vocab", "--help"],
            ["config", "show"],
        )
    },
}


@pytest.mark.parametrize("name", LIGHT_STATEMENTS)
def test_light_command_imports_neither_tensorflow_nor_keras(name: str):
    report = (
        "import atexit, json, sys; "
        f"atexit.register(lambda: print(json.dumps([m for m in {HEAVY} "
        "if m in sys.modules]), file=sys.stderr)); "
    )
    done = subprocess.run(
        [sys.executable, "-c", report + LIGHT_STATEMENTS[name]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1]) == []
