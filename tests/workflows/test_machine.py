"""What a run notes of the machine."""

import json
from importlib import metadata

import keras_hub
import tensorflow as tf

from kbert.workflows import machine


def test_the_machine_is_described() -> None:
    found = machine.machine()
    assert json.loads(json.dumps(found)) == found
    assert found["backend"] == "tensorflow"
    assert found["cpu"]
    assert found["logical_cores"] >= 1
    assert found["memory_bytes"] > 10**8
    assert len(found["gpus"]) == len(tf.config.list_physical_devices("GPU"))


def test_the_processor_is_the_one_that_linux_names(tmp_path, monkeypatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: A CPU @ 3.0: fast\nflags\t: fpu\n")
    monkeypatch.setattr(machine, "_CPU_INFO", info)
    assert machine._cpu_name() == "A CPU @ 3.0: fast"
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "none")
    assert machine._cpu_name()


def test_a_package_under_another_name(monkeypatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    assert machine.versions()["tensorflow"] == tf.__version__
    monkeypatch.setattr(machine.metadata, "version", version)
    found = machine.versions()
    assert found["tensorflow"] == tf.__version__
    assert found["keras-hub"] == keras_hub.__version__
    monkeypatch.delitem(machine.sys.modules, "tensorflow_text", raising=False)
    assert machine.versions()["tensorflow-text"] == "unknown"
