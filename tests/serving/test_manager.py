"""Models found, loaded, swapped and unloaded while they are in use."""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from tensorflow_serving.config import model_server_config_pb2

from kbert.protos import BatchingParameters, parse_text
from kbert.serving.manager import ManagerOptions, ModelManager
from kbert.serving.model_config import single_model_config
from kbert.serving.servable import LoadOptions, Servable
from kbert.serving.status import Code, StatusError
from tests.serving import models

PATIENCE = 60.0


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 to 9, whose offsets are their numbers."""
    folder = tmp_path_factory.mktemp("exported")
    for version in range(1, 10):
        models.write_half_plus_two(folder, version, offset=version)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    folder.mkdir()
    return folder


@pytest.fixture
def publish(exported: Path, base: Path) -> Callable[..., Path]:
    """Makes versions appear in a folder, each in one step."""

    def publish(*versions: int, folder: Path = base) -> Path:
        for version in versions:
            hidden = folder / f".export-{version}"
            shutil.copytree(exported / str(version), hidden)
            hidden.rename(folder / str(version))
        return folder

    return publish


@pytest.fixture
def make() -> Iterator[Callable[..., ModelManager]]:
    managers = []

    def make(**options) -> ModelManager:
        given = {"poll_seconds": 0.02, "max_load_retries": 0, **options}
        managers.append(ModelManager(ManagerOptions(**given)))
        return managers[-1]

    yield make
    for manager in managers:
        manager.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("model-")]


@pytest.fixture
def serve(make, base: Path) -> Callable[..., ModelManager]:
    """A manager of the model `m` whose first versions are available."""

    def serve(**options) -> ModelManager:
        manager = make(**options)
        manager.set_config(single_model_config("m", base), timeout=PATIENCE)
        return manager

    return serve


def configs(*fields: str) -> model_server_config_pb2.ModelServerConfig:
    text = "".join(f'config {{ model_platform: "tensorflow" {f} }}' for f in fields)
    return parse_text(
        f"model_config_list {{ {text} }}",
        model_server_config_pb2.ModelServerConfig,
        "test",
    )


def config(base: Path, fields: str = "", name: str = "m"):
    return configs(f'name: "{name}" base_path: "{base}" {fields}')


def specific(*versions: int) -> str:
    listed = " ".join(f"versions: {version}" for version in versions)
    return f"model_version_policy {{ specific {{ {listed} }} }}"


def label(name: str, version: int) -> str:
    return f'version_labels {{ key: "{name}" value: {version} }}'


def answer(manager: ModelManager, version=None, label=None, name="m") -> int:
    """Which version answers, by what it answers."""
    with manager.use(name, version, label) as servable:
        x = np.zeros(1, np.float32)
        found = servable.run("serving_default", {"x": x}, ["y"], PATIENCE)
        assert found["y"] == servable.version
        return servable.version


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.005)


def state(manager: ModelManager, version: int, name: str = "m") -> str:
    try:
        return manager.states(name, version)[0].state
    except StatusError:
        return "unknown"


def wait_for_state(manager: ModelManager, version: int, wanted: str) -> None:
    wait_until(lambda: state(manager, version) == wanted)


def wait_for_looks(manager: ModelManager, count: int = 3) -> None:
    """Until the disk has been looked at again."""
    for _ in range(count):
        with manager._changed:
            assert manager._changed.wait(PATIENCE)


# Versions.


def test_the_latest_version_is_served(serve, publish):
    publish(1, 3, 2)
    manager = serve()
    assert answer(manager) == 3
    assert answer(manager, version=3) == 3
    (only,) = manager.states("m")
    assert (only.version, only.state, only.code, only.message) == (
        3,
        "AVAILABLE",
        0,
        "",
    )
    assert manager.model_names() == ["m"]


def test_a_new_version_takes_over(serve, publish):
    publish(1)
    manager = serve()
    publish(2)
    wait_for_state(manager, 1, "END")
    assert answer(manager) == 2
    assert [(s.version, s.state, s.code) for s in manager.states("m")] == [
        (2, "AVAILABLE", 0),
        (1, "END", 0),
    ]
    with pytest.raises(StatusError, match=r"for request: Specific\(m, 1\)") as caught:
        answer(manager, version=1)
    assert caught.value.code is Code.NOT_FOUND


def test_going_back_is_removing_the_newest(serve, publish):
    base = publish(1, 2)
    manager = serve()
    shutil.rmtree(base / "2")
    wait_for_state(manager, 2, "END")
    assert answer(manager) == 1


def test_names_that_are_no_numbers_are_no_versions(serve, publish, base: Path):
    publish(1)
    for name in ("v7", "7.0", ".export-7", "7_tmp", " 8", "-9", "٣", str(2**63)):
        shutil.copytree(base / "1", base / name)
    manager = serve()
    assert [found.version for found in manager.states("m")] == [1]


def test_of_two_names_of_a_version_one_counts(
    serve, publish, base: Path, caplog: pytest.LogCaptureFixture
):
    publish(2)
    shutil.copytree(base / "2", base / "002")
    manager = serve()
    with manager.use("m") as servable:
        assert servable.path == base / "2"
    wait_for_looks(manager)
    assert caplog.text.count("002 is ignored for") == 1, "said at each look"


def test_all_and_several_versions(make, publish, base: Path):
    publish(1, 2, 3)
    manager = make()
    manager.set_config(config(base, "model_version_policy { all {} }"))
    assert [answer(manager, version=v) for v in (1, 2, 3)] == [1, 2, 3]
    manager.set_config(
        config(base, "model_version_policy { latest { num_versions: 2 } }")
    )
    wait_for_state(manager, 1, "END")
    assert [answer(manager, version=v) for v in (2, 3)] == [2, 3]


def test_specific_versions(make, publish, base: Path, caplog):
    publish(1, 2, 3)
    manager = make()
    manager.set_config(config(base, specific(1, 2, 9)))
    assert [found.version for found in manager.states("m")] == [2, 1]
    assert answer(manager) == 2
    assert "Version 9 is not in" in caplog.text
    # 9 comes, 1 goes.
    publish(9)
    wait_for_state(manager, 9, "AVAILABLE")
    manager.set_config(config(base, specific(2, 9)))
    wait_for_state(manager, 1, "END")
    # None at all is what was asked for.
    manager.set_config(config(base, "model_version_policy { specific {} }"))
    wait_for_state(manager, 9, "END")
    wait_for_state(manager, 2, "END")
    assert "names no versions" in caplog.text


def test_a_version_that_went_and_came_is_loaded_again(serve, publish, base: Path):
    publish(1, 2)
    manager = serve()
    (base / "2").rename(base / "hidden")
    wait_for_state(manager, 2, "END")
    (base / "hidden").rename(base / "2")
    wait_for_state(manager, 2, "AVAILABLE")
    assert answer(manager) == 2


def test_a_version_wanted_again_before_it_is_gone_is_loaded_again(
    serve, publish, base: Path
):
    publish(1, 2)
    manager = serve()
    with manager.use("m", 2):
        (base / "2").rename(base / "hidden")
        wait_for_state(manager, 2, "UNLOADING")
        (base / "hidden").rename(base / "2")
        wait_for_looks(manager)
        assert answer(manager) == 1
    wait_for_state(manager, 2, "AVAILABLE")
    assert answer(manager) == 2


def test_with_no_polling_the_disk_is_looked_at_once(serve, publish, base: Path):
    publish(1)
    manager = serve(poll_seconds=0)
    publish(2)
    time.sleep(0.1)
    assert state(manager, 2) == "unknown"
    # Another config is a reason to look.
    manager.set_config(single_model_config("m", base))
    wait_for_state(manager, 2, "AVAILABLE")


# What goes wrong on disk.


@pytest.mark.parametrize("what", ["versions", "base path"])
def test_what_was_loaded_stays_when_all_versions_vanish(
    serve, publish, base: Path, what: str, caplog: pytest.LogCaptureFixture
):
    publish(1)
    manager = serve()
    (base / "1" if what == "versions" else base).rename(base.parent / "away")
    wait_until(lambda: str(base) in caplog.text)
    wait_for_looks(manager)
    assert answer(manager) == 1
    assert len(caplog.records) == 1, "said at each look"
    # And goes on from there.
    base.mkdir(exist_ok=True)
    publish(2)
    wait_for_state(manager, 1, "END")
    assert answer(manager) == 2


def break_in_two(version: Path) -> None:
    os.truncate(version / "saved_model.pb", 300)


def remove_variables(version: Path) -> None:
    shutil.rmtree(version / "variables")


def half_copy(version: Path) -> None:
    (version / "saved_model.pb").unlink()


def make_file(version: Path) -> None:
    shutil.rmtree(version)
    version.write_text("no folder")


def add_failing_warmup(version: Path) -> None:
    models.write_raw_records(version, [b"\xff"])


BREAKAGES = [break_in_two, remove_variables, half_copy, make_file, add_failing_warmup]


@pytest.mark.parametrize("breaks", BREAKAGES, ids=lambda breaks: breaks.__name__)
def test_a_broken_version_leaves_the_old_one_serving(
    serve, publish, exported: Path, base: Path, breaks
):
    publish(1)
    manager = serve()
    shutil.copytree(exported / "2", base / ".export-2")
    breaks(base / ".export-2")
    (base / ".export-2").rename(base / "2")
    wait_for_state(manager, 2, "END")
    (broken,) = manager.states("m", 2)
    assert broken.code != 0 and broken.message
    assert answer(manager) == 1
    # A later version is not held up, nor is that an end of the old one before it.
    publish(3)
    wait_for_state(manager, 1, "END")
    assert answer(manager) == 3


def test_a_broken_version_is_tried_again(serve, publish, base: Path, caplog):
    publish(1)
    manager = serve(max_load_retries=1000, load_retry_interval_seconds=0.02)
    (base / "2").mkdir()
    wait_until(lambda: caplog.text.count("Loading m version 2 failed") >= 3)
    assert answer(manager) == 1
    (base / "2").rmdir()
    publish(2)
    wait_for_state(manager, 2, "AVAILABLE")
    (found,) = manager.states("m", 2)
    assert (found.code, found.message) == (0, "")


def test_tries_come_to_an_end(serve, publish, base: Path, caplog):
    publish(1)
    manager = serve(max_load_retries=2, load_retry_interval_seconds=0.0)
    (base / "2").mkdir()
    wait_until(lambda: caplog.text.count("Loading m version 2 failed") == 3)
    wait_for_looks(manager, 5)
    assert caplog.text.count("Loading m version 2 failed") == 3
    assert state(manager, 2) == "END"
    # Taken away and put there again, it is a new one.
    (base / "2").rmdir()
    wait_for_looks(manager)
    publish(2)
    wait_for_state(manager, 2, "AVAILABLE")


def test_a_loading_that_hangs_holds_up_no_other(
    make, publish, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    publish(1)
    go_on = threading.Event()
    load = Servable.load

    def load_or_hang(name, version, path, options):
        if version == 2:
            assert go_on.wait(PATIENCE)
        return load(name, version, path, options)

    monkeypatch.setattr(Servable, "load", load_or_hang)
    other = tmp_path / "other"
    other.mkdir()
    manager = make()
    manager.set_config(config(base))
    publish(2)
    wait_for_state(manager, 2, "LOADING")
    assert answer(manager) == 1
    publish(5, folder=other)
    manager.set_config(
        configs(f'name: "m" base_path: "{base}"', f'name: "o" base_path: "{other}"')
    )
    assert answer(manager, name="o") == 5
    publish(3)
    wait_for_state(manager, 3, "AVAILABLE")
    go_on.set()
    # It was loaded too late to be wanted.
    wait_for_state(manager, 2, "END")
    assert answer(manager) == 3


def test_an_unforeseen_error_is_a_failure_too(
    serve, publish, monkeypatch: pytest.MonkeyPatch
):
    publish(1)
    manager = serve()

    def fail(*arguments):
        raise ZeroDivisionError("unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr(Servable, "load", fail)
        publish(2)
        wait_for_state(manager, 2, "END")
    (found,) = manager.states("m", 2)
    assert found.code == Code.INTERNAL and "unforeseen" in found.message
    assert answer(manager) == 1
    publish(3)
    wait_for_state(manager, 3, "AVAILABLE")


# Waiting for models.


def test_waiting_for_a_model_that_fails_ends_with_its_reason(make, base: Path):
    manager = make()
    (base / "1").mkdir()
    with pytest.raises(StatusError, match="Could not find SavedModel") as caught:
        manager.set_config(single_model_config("m", base), timeout=PATIENCE)
    assert caught.value.code is Code.UNKNOWN
    assert "1 servable(s) did not become available: {m version 1: " in str(caught.value)


def test_a_config_with_a_failed_model_fails_again(make, publish, base: Path):
    manager = make()
    (base / "1").mkdir()
    for _ in range(2):
        with pytest.raises(StatusError, match="did not become available"):
            manager.set_config(single_model_config("m", base), timeout=PATIENCE)
    publish(2)
    manager.set_config(single_model_config("m", base), timeout=PATIENCE)
    assert answer(manager) == 2


def test_a_model_without_versions_is_waited_for(make, publish, base: Path):
    manager = make()
    with pytest.raises(StatusError, match="No versions in") as caught:
        manager.set_config(single_model_config("m", base), timeout=0.05)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    with pytest.raises(StatusError, match="Could not find any versions of model m"):
        manager.states("m")
    with ThreadPoolExecutor(1) as pool:
        again = single_model_config("m", base)
        waiting = pool.submit(manager.set_config, again, PATIENCE)
        publish(4)
        waiting.result()
    assert answer(manager) == 4


def test_a_base_path_that_comes_later_is_waited_for(make, publish, tmp_path: Path):
    base = tmp_path / "later"
    manager = make()
    with pytest.raises(StatusError, match="No such file"):
        manager.set_config(single_model_config("m", base), timeout=0.05)
    base.mkdir()
    publish(1, folder=base)
    manager.set_config(single_model_config("m", base), PATIENCE)
    assert answer(manager) == 1


# Other configs.


def test_another_config_replaces_the_present_one(
    make, publish, base: Path, tmp_path: Path
):
    publish(1)
    other = tmp_path / "other"
    other.mkdir()
    publish(2, folder=other)
    manager = make()
    manager.set_config(config(base))
    manager.set_config(config(other, name="other"))
    assert manager.model_names() == ["other"]
    assert answer(manager, name="other") == 2
    with pytest.raises(StatusError, match=r"not found for request: Latest\(m\)"):
        answer(manager)
    wait_for_state(manager, 1, "END")
    # And back.
    manager.set_config(
        configs(f'name: "other" base_path: "{other}"', f'name: "m" base_path: "{base}"')
    )
    assert manager.model_names() == ["other", "m"]
    assert answer(manager) == 1
    manager.set_config(model_server_config_pb2.ModelServerConfig())
    assert manager.model_names() == []
    wait_for_state(manager, 1, "END")


def test_a_wrong_config_changes_nothing(serve, publish):
    publish(1)
    manager = serve()
    with pytest.raises(StatusError, match="absolute path") as caught:
        manager.set_config(config(Path("relative")))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert answer(manager) == 1


def test_a_config_is_overtaken_by_the_next(make, publish, base: Path, tmp_path: Path):
    publish(1)
    manager = make()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(manager.set_config, config(tmp_path / "none", name="n"))
        wait_until(lambda: manager.model_names() == ["n"])
        manager.set_config(config(base))
        error = waiting.exception()
    assert isinstance(error, StatusError) and error.code is Code.ABORTED
    assert answer(manager) == 1


def test_a_loaded_number_is_not_loaded_from_elsewhere(
    serve, publish, base: Path, tmp_path: Path, caplog
):
    publish(1)
    manager = serve()
    other = tmp_path / "other"
    other.mkdir()
    models.write_half_plus_two(other, 1, offset=50)
    manager.set_config(config(other))
    wait_until(lambda: "Version 1 stays as loaded from" in caplog.text)
    assert answer(manager) == 1


# Labels.


def test_labels_name_versions(make, publish, base: Path):
    publish(1, 2)
    manager = make()
    both = specific(1, 2)
    manager.set_config(config(base, both))
    manager.set_config(config(base, both + label("stable", 1) + label("canary", 2)))
    assert answer(manager, label="stable") == 1
    assert answer(manager, label="canary") == 2
    assert [s.version for s in manager.states("m", label="stable")] == [1]
    # Moved, and one of them removed.
    manager.set_config(config(base, both + label("stable", 2)))
    assert answer(manager, label="stable") == 2
    with pytest.raises(StatusError, match="version label: canary") as caught:
        answer(manager, label="canary")
    assert caught.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(StatusError, match="version label: canary"):
        manager.states("m", label="canary")
    with pytest.raises(StatusError, match="version label: stable"):
        answer(manager, label="stable", name="unknown")


def test_a_label_names_an_available_version(make, publish, base: Path):
    publish(1, 2)
    manager = make()
    # Labels come before loading: nothing is there yet, and nothing is loaded then.
    with pytest.raises(StatusError, match="label to version 1 of model m") as caught:
        manager.set_config(config(base, specific(1) + label("stable", 1)))
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert manager.model_names() == []
    manager.set_config(config(base, specific(1)))
    manager.set_config(config(base, specific(1) + label("stable", 1)))
    with pytest.raises(StatusError, match="label to version 2 of model m") as caught:
        manager.set_config(
            config(base, specific(1) + label("stable", 2) + label("other", 1))
        )
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert answer(manager, label="stable") == 1
    with pytest.raises(StatusError, match="version label: other"):
        answer(manager, label="other")


def test_a_new_label_may_come_before_its_version(make, publish, base: Path):
    publish(1)
    manager = make(allow_labels_for_unavailable=True)
    manager.set_config(config(base, label("next", 2)))
    with pytest.raises(StatusError, match=r"Specific\(m, 2\)"):
        answer(manager, label="next")
    publish(2)
    wait_for_state(manager, 2, "AVAILABLE")
    assert answer(manager, label="next") == 2
    # A label that is there is moved to what is available only.
    with pytest.raises(StatusError, match="version 3 of model m"):
        manager.set_config(config(base, label("next", 3)))
    assert answer(manager, label="next") == 2


def test_nobody_waits_for_a_config_when_the_end_is_near(make, publish, base: Path):
    publish(1)
    manager = make()
    manager.set_config(config(base))
    missing = configs(
        f'name: "m" base_path: "{base}"', f'name: "other" base_path: "{base}-missing"'
    )
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(manager.set_config, missing)
        wait_until(lambda: "other" in manager.model_names())
        manager.announce_close()
        with pytest.raises(StatusError, match="shutting down") as caught:
            waiting.result(60)
    assert caught.value.code is Code.UNAVAILABLE
    with pytest.raises(StatusError, match="shutting down"):
        manager.set_config(config(base))
    assert answer(manager) == 1


# Use.


def test_a_version_in_use_is_not_unloaded(serve, publish):
    publish(1)
    manager = serve()
    with manager.use("m") as servable:
        publish(2)
        wait_for_state(manager, 1, "UNLOADING")
        assert answer(manager) == 2, "new requests go to the new one"
        x = np.ones(1, np.float32)
        found = servable.run("serving_default", {"x": x}, ["y"], PATIENCE)
        assert found["y"] == [1.5]
        # Nothing else waits for it.
        publish(3)
        wait_for_state(manager, 2, "END")
        assert state(manager, 1) == "UNLOADING"
    wait_for_state(manager, 1, "END")


def test_unknown_models_and_versions_are_not_found(serve, publish):
    publish(1)
    manager = serve()
    for call, message in (
        (lambda: answer(manager, name="other"), r"for request: Latest\(other\)"),
        (lambda: answer(manager, 7), r"for request: Specific\(m, 7\)"),
        (lambda: manager.states("other"), "any versions of model other"),
        (lambda: manager.states("m", 7), "find version 7 of model m"),
    ):
        with pytest.raises(StatusError, match=message) as caught:
            call()
        assert caught.value.code is Code.NOT_FOUND


def test_swaps_under_load_fail_no_request(make, publish, base: Path):
    """Each answer is from one version, all of it."""
    publish(1)
    parameters = BatchingParameters()
    parameters.batch_timeout_micros.value = 500
    manager = make(load=LoadOptions(batching=parameters))
    manager.set_config(config(base))
    stop, seen = threading.Event(), [set() for _ in range(8)]

    def ask(number: int) -> None:
        while not stop.is_set():
            with manager.use("m") as servable:
                x = np.arange(number, number + 3, dtype=np.float32)
                found = servable.run("serving_default", {"x": x}, ["y"], PATIENCE)
                offsets = found["y"] - x / 2
                assert offsets.tolist() == [servable.version] * 3
                seen[number].add(servable.version)

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, number) for number in range(8)]
        for version in range(2, 8):
            wait_until(lambda v=version - 1: any(v in each for each in seen))
            publish(version)
            wait_for_state(manager, version - 1, "END")
        wait_until(lambda: any(7 in each for each in seen))
        stop.set()
        for done in asking:
            done.result()
    assert set().union(*seen) == set(range(1, 8))
    assert answer(manager) == 7


# The end.


def test_closing_waits_for_users_and_refuses_new_ones(serve, publish):
    publish(1)
    manager = serve()
    with ThreadPoolExecutor(1) as pool:
        with manager.use("m") as servable:
            closing = pool.submit(manager.close, PATIENCE)
            wait_for_state(manager, 1, "UNLOADING")
            x = np.ones(1, np.float32)
            found = servable.run("serving_default", {"x": x}, ["y"], PATIENCE)
            assert found["y"] == [1.5]
            with pytest.raises(StatusError, match="Servable not found"):
                answer(manager)
        closing.result()
    assert state(manager, 1) == "END"
    with pytest.raises(StatusError, match="shutting down") as caught:
        manager.set_config(model_server_config_pb2.ModelServerConfig())
    assert caught.value.code is Code.UNAVAILABLE


def test_closing_cancels_what_does_not_end(make, tmp_path: Path):
    models.write_oddities(tmp_path, 1)
    for batching in (None, BatchingParameters()):
        manager = make(load=LoadOptions(batching=batching))
        manager.set_config(config(tmp_path))

        def ask(manager: ModelManager = manager) -> None:
            with manager.use("m") as servable:
                servable.run("slow", {"x": np.ones(1, np.float32)}, ["y"], None)

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            wait_until(lambda m=manager: any(r.users for r in m._registry.records()))
            manager.close(timeout=0.1)
            error = asking.exception()
        assert isinstance(error, StatusError)
        assert error.code in (Code.CANCELLED, Code.UNAVAILABLE)


def test_closing_ends_a_wait_for_models(make, base: Path):
    manager = make()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(manager.set_config, config(base))
        wait_until(lambda: manager.model_names() == ["m"])
        manager.close()
        with pytest.raises(StatusError, match="shutting down"):
            waiting.result()


def swap(manager: ModelManager, base: Path, weights: Path, versions: range) -> int:
    for version in versions:
        shutil.copytree(weights, base / f".export-{version}")
        (base / f".export-{version}").rename(base / str(version))
        wait_for_state(manager, version - 1, "END")
        shutil.rmtree(base / str(version - 1))
    return psutil.Process().memory_info().rss


def test_swaps_leave_nothing_behind(serve, tmp_path: Path, base: Path):
    weights = models.write_half_plus_two(tmp_path, 7, num_unused_weights=1_000_000)
    shutil.copytree(weights, base / "1")
    manager = serve()
    before = swap(manager, base, weights, range(2, 5))
    assert swap(manager, base, weights, range(5, 20)) - before < 10 * 2**20


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="kbert")
