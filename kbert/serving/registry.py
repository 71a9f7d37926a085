"""What a server knows of its models, and how requests find a version among them.

Whoever calls holds the manager's lock: nothing in here does. Messages are those of
TensorFlow Serving's server_core.cc and get_model_status_impl.cc.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kbert.serving.lifecycle import ModelVersions, VersionRecord, VersionState
from kbert.serving.status import Code, StatusError


class Registry:
    """Models by name; those that are served no longer are kept for their states."""

    def __init__(self) -> None:
        self._models: dict[str, ModelVersions] = {}

    def models(self) -> list[ModelVersions]:
        """All models, those that were served before included."""
        return list(self._models.values())

    def configured(self) -> list[ModelVersions]:
        """The models of the config, in its order."""
        return [model for model in self.models() if model.config is not None]

    def records(self) -> Iterator[VersionRecord]:
        for model in self.models():
            yield from model.records.values()

    def take_over(self, listed: Mapping[str, Any]) -> list[ModelVersions]:
        """Puts the ModelConfigs by name in the place of the present ones.

        Returns:
            The models that are new, and others with no version available.
        """
        for present in self.configured():
            if present.name not in listed:
                present.remove()
        waiting = []
        for name, config in listed.items():
            # The order of the config is the order of the dictionary.
            model = self._models.pop(name, None)
            if model is None:
                model = ModelVersions(name)
            self._models[name] = model
            if model.config is None:
                model.wanted = None
            if model.config is None or model.latest_available() is None:
                waiting.append(model)
            model.config, model.is_outdated = config, True
        return waiting

    def check_labels(self, configs: Iterable[Any], *, allow_unavailable: bool) -> None:
        """Checks that the labels of ModelConfigs name versions that are available now.

        Args:
            allow_unavailable: whether a label that is new may name any version.

        Raises:
            StatusError: FAILED_PRECONDITION, one does not.
        """
        for config in configs:
            model = self._models.get(config.name)
            for label, version in config.version_labels.items():
                is_new = model is None or label not in model.labels
                is_available = model is not None and model.is_available(version)
                if not is_available and not (allow_unavailable and is_new):
                    raise StatusError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model "
                        f"{config.name}, which is not currently available for "
                        "inference",
                    )

    def assign_labels(self, configs: Iterable[Any]) -> None:
        """Gives each model the labels of its ModelConfig."""
        for config in configs:
            self._models[config.name].labels = dict(config.version_labels)

    def find(self, name: str, version: int | None, label: str | None) -> VersionRecord:
        """The available version that a request is for.

        Raises:
            StatusError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
        """
        if label is not None:
            version = self._version_of(name, label)
        model = self._models.get(name)
        if version is not None:
            if model is not None and model.is_available(version):
                return model.records[version]
            wanted = f"Specific({name}, {version})"
        else:
            record = None if model is None else model.latest_available()
            if record is not None:
                return record
            wanted = f"Latest({name})"
        raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")

    def states(
        self, name: str, version: int | None, label: str | None
    ) -> list[VersionState]:
        """The state of a version, or of each that is known, the newest first.

        Raises:
            StatusError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
        """
        if label is not None:
            version = self._version_of(name, label)
        model = self._models.get(name)
        records = {} if model is None else model.records
        if version is not None:
            if version in records:
                return [records[version].describe()]
            raise StatusError(
                Code.NOT_FOUND, f"Could not find version {version} of model {name}"
            )
        if not records:
            raise StatusError(
                Code.NOT_FOUND, f"Could not find any versions of model {name}"
            )
        return [records[number].describe() for number in sorted(records, reverse=True)]

    def _version_of(self, name: str, label: str) -> int:
        model = self._models.get(name)
        if model is None or label not in model.labels:
            raise StatusError(
                Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}"
            )
        return model.labels[label]


def describe_unavailable(models: Sequence[ModelVersions]) -> str:
    """Which models are not available, and why."""
    reasons = []
    for model in models:
        failures = model.failures()
        reasons += [
            f"{model.name} version {record.version}: {record.error}"
            for record in failures
        ]
        if not failures:
            what = "; ".join(model.complaints) or "still loading"
            reasons.append(f"{model.name}: {what}")
    return (
        f"{len(models)} servable(s) did not become available: "
        f"{{{'}, {'.join(reasons)}}}"
    )
