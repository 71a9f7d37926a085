"""Points on loading, with made-up loadings, and with real ones in real processes."""

from pathlib import Path

import pytest
import tensorflow as tf

from kbert.exporting.checks.loading import load_natively
from kbert.exporting.checks.opened import Loading
from tests.exporting.toy_export import InProcess


def test_does_not_load(checked):
    checked.fields["open"] = lambda: Loading(None, "no such op", "no such op")
    points = checked.points()
    assert [n for n, p in points.items() if p.status == "fail"] == [16]
    assert "no such op" in points[16].detail
    skipped = [n for n, p in points.items() if p.status == "skip"]
    assert skipped == [8, 14, 15, 17, 18, 22, 23, 26, 27, 28, 29, 30, 32, 33, 38, 40]


def test_logs_errors(checked):
    logged = ["failed call to cuInit", "oneDNN supports DT_INT64 only", "table is bad"]
    checked.fields["open"] = lambda: Loading(checked.answers, logged=logged)
    failing = checked.failing()
    assert set(failing) == {16}
    assert failing[16].endswith("table is bad")


def test_needs_more_ops(checked):
    checked.fields["open"] = lambda: Loading(checked.answers, portable_error="no op X")
    points = checked.points()
    assert [n for n, p in points.items() if p.status == "fail"] == [17]
    assert "no op X" in points[17].detail
    assert points[18].status == "skip"


def test_native_loader_refuses(checked):
    checked.fields["load_natively"] = lambda: "Unknown type"
    failing = checked.failing()
    assert set(failing) == {18}
    assert "Unknown type" in failing[18]


class TestNativeLoader:
    def test_loads(self, toy: Path):
        assert load_natively(toy) == ""

    def test_says_what_is_wrong(self, checked):
        checked.edit_graph(
            lambda m: m.graph_def.node.add(name="added", op="CaseFoldUTF9")
        )
        assert "CaseFoldUTF9" in load_natively(checked.folder)

    def test_variables_that_are_cut_off(self, checked):
        file = checked.folder / "variables" / "variables.data-00000-of-00001"
        file.write_bytes(file.read_bytes()[:-10])
        assert load_natively(checked.folder) != ""

    def test_no_folder(self, tmp_path: Path):
        assert "Could not find SavedModel" in load_natively(tmp_path)


class TestMoved:
    @pytest.fixture(autouse=True)
    def real_session(self, checked):
        checked.fields["open"] = lambda: Loading(InProcess(checked.folder))

    def test_links_that_lead_outside(self, checked):
        elsewhere = checked.folder.parent / "kept"
        (checked.folder / "variables").rename(elsewhere)
        (checked.folder / "variables").symlink_to("../kept")
        failing = checked.failing()
        assert set(failing) == {14}
        assert "symbolic links" in failing[14]

    def test_graph_that_names_its_folder(self, checked, monkeypatch):
        def hold(meta_graph):
            node = meta_graph.graph_def.node.add(name="held", op="Const")
            text = f"{checked.folder}/vocab.txt"
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))
            node.attr["dtype"].type = tf.string.as_datatype_enum

        checked.edit_graph(hold)
        # Temporary folders are local paths too.
        assert {14} <= set(checked.failing()) <= {12, 14}
