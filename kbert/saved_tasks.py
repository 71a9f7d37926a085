"""The task that keras-hub saved with a model: what kind it is, and its head's weights.

keras-hub's `from_preset` deserializes `task.json`, `config.json`, `preprocessor.json`
and `tokenizer.json`: it builds any class of Keras that they name, in any size, and what
keeps it from more is Keras's to change. A run may come from a stranger. So a few plain
values are taken from `task.json` and checked, and the model is built from them and from
the numbers of `config.json`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kbert.bounded import shown
from kbert.errors import PresetError
from kbert.preset_files import preset_file, read_json
from kbert.stored_tensors import h5_tensors, in_short

if TYPE_CHECKING:
    import keras_hub

TASK, TASK_WEIGHTS = "task.json", "task.weights.h5"


class SavedTask(NamedTuple):
    """What `task.json` says.

    Attributes:
        class_name: of keras-hub's model; None where there is none.
        num_classes: of a classifier, as it is written.
        dropout: the rate in a classifier's head.
    """

    class_name: str | None
    num_classes: Any = None
    dropout: float = 0.1


def read_saved_task(folder: Path) -> SavedTask:
    """Read a preset's `task.json`; that of a backbone alone has none.

    Raises:
        PresetError: it is damaged, or a link out of the folder.
    """
    file = preset_file(folder, TASK)
    if not file.exists():
        return SavedTask(None)
    values = read_json(file)
    config = values.get("config")
    config = config if isinstance(config, dict) else {}
    rate = config.get("dropout", 0.1)
    if type(rate) not in (int, float) or not 0 <= rate < 1:
        raise PresetError(
            f"{file}: the dropout rate must be at least 0 and below 1. "
            f"Received: {shown(rate)}."
        )
    name = values.get("class_name")
    return SavedTask(
        class_name=name if isinstance(name, str) else shown(name),
        num_classes=config.get("num_classes"),
        dropout=float(rate),
    )


def load_head(task: "keras_hub.models.Task", folder: Path) -> None:
    """Load the weights of a task's head.

    Args:
        task: keras-hub's model, with the sizes of the one that was saved.
        folder: the preset.

    Raises:
        PresetError: there are none, or they cannot be read or do not fit.
    """
    file = preset_file(folder, TASK_WEIGHTS)
    if not file.exists():
        raise PresetError(f"{folder} has no {TASK_WEIGHTS}. Copy the whole preset.")
    h5_tensors([file])
    try:
        task.load_task_weights(str(file))
    except (ValueError, LookupError, OSError, RuntimeError, TypeError) as error:
        raise PresetError(
            f"{file} cannot be loaded into the model of {folder / 'config.json'}: "
            f"{in_short(error)}"
        ) from error
