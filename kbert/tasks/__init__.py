"""The tasks, by the name that `task.json` keeps."""

from collections.abc import Mapping
from typing import Any

from kbert.bounded import shown
from kbert.errors import RunError
from kbert.tasks.base import Task
from kbert.tasks.masked_lm import MaskedLM
from kbert.tasks.text_classification import TextClassification

TASKS: dict[str, type[Task]] = {TextClassification.name: TextClassification}


def task_from_dict(values: Mapping[str, Any], source: str) -> Task:
    """The task that a run's `task.json` describes.

    Raises:
        RunError: `source` names a task this version does not know, or is of a run that
            was pretrained only, which has no labels.
    """
    name = values.get("task")
    if is_pretrained(values):
        raise RunError(
            f"{source} is of a pretrained run, which fills masks and knows no labels. "
            "Fine-tune it first: kbert finetune --preset RUN --data DATA"
        )
    if not isinstance(name, str) or name not in TASKS:
        raise RunError(
            f"{source} holds the task {shown(name)}, which this version of kbert does "
            f"not know. It knows: {', '.join(TASKS)}."
        )
    return TASKS[name].from_dict(values)


def is_pretrained(values: Mapping[str, Any]) -> bool:
    """Whether a run's `task.json` is of one that was pretrained only."""
    return values.get("task") == MaskedLM.name


__all__ = [
    "TASKS",
    "MaskedLM",
    "Task",
    "TextClassification",
    "is_pretrained",
    "task_from_dict",
]
