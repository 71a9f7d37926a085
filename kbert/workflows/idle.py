"""Settings that have no effect on the job at hand, to be said and not passed over."""

from collections.abc import Iterator

from kbert.config import DataSettings, FinetuneConfig, TrainSettings
from kbert.data.sources import source_splits
from kbert.training.loop import Plan
from kbert.workflows.datasets import Sources


def idle_settings(config: FinetuneConfig, sources: Sources) -> Iterator[str]:
    """A sentence for each setting that is given and has no effect.

    Given is what differs from its default: the config of an earlier run names every
    setting.
    """
    data, train = config.data, config.train
    idle = {}
    if sources.validation is not None:
        idle["data.validation_share"] = f"validation is {sources.validation.name}"
    specs = (data.source, data.validation or "", data.test or "")
    if not any(spec.startswith("tfds:") for spec in specs):
        idle["data.data_dir"] = "only a tfds:NAME data set has one"
    if not source_splits(data.source, data.data_dir):
        idle["data.train_split"] = f"{data.source} has no splits"
    for role in ("text", "text_pair", "label"):
        if getattr(data, role) != getattr(sources.train.columns, role):
            idle[f"data.{role}"] = f"{data.source} has no columns to choose from"
    if train.tokens_per_batch is not None:
        idle["train.batch_size"] = "train.tokens_per_batch takes its place"
    defaults = {"data": DataSettings(), "train": TrainSettings()}
    for key, reason in idle.items():
        section, _, name = key.partition(".")
        given = getattr(getattr(config, section), name)
        if given != getattr(defaults[section], name):
            yield f"{key} = {given} has no effect: {reason}."


def idle_steps(train: TrainSettings, plan: Plan, steps_per_epoch: int) -> Iterator[str]:
    """A sentence for each number of steps that the training never comes to."""
    total = plan.total_steps
    assert not isinstance(train.epochs, str), "settings are resolved"
    steps = train.epochs * steps_per_epoch
    if train.max_steps is not None and train.max_steps >= steps:
        yield (
            f"train.max_steps = {train.max_steps} has no effect: {train.epochs} epochs "
            f"are {steps} steps."
        )
    if train.eval_steps is not None and train.eval_steps >= total:
        yield (
            f"train.eval_steps = {train.eval_steps} has no effect: the training has "
            f"{total} steps, and is evaluated at its end in any case."
        )
    if train.warmup_steps is not None and train.warmup_steps >= total:
        yield (
            f"train.warmup_steps = {train.warmup_steps}: the training has {total} "
            "steps, so that the learning rate only rises."
        )
    evaluations = -(-total // plan.eval_steps)
    # The first evaluation is the best so far, and after the last one all is over.
    if train.patience is not None and train.patience >= evaluations - 1:
        yield (
            f"train.patience = {train.patience} has no effect: there are only "
            f"{evaluations} evaluations."
        )
