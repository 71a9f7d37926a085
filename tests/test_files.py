"""Whatever goes wrong while writing, the old file is whole and nothing is left over."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kbert import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def raise_no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def make_folder(path: Path, text: str) -> Path:
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "weights").write_text(text)
    return path


def weights(folder: Path) -> str:
    return (folder / "inner" / "weights").read_text()


class TestWriting:
    def test_text_bytes_and_json_arrive(self, tmp_path: Path) -> None:
        files.write_text(tmp_path / "a.txt", "naïve 中\n")
        files.write_bytes(str(tmp_path / "b.bin"), b"\x00\xff")
        files.write_json(tmp_path / "c.json", {"label": "中", "score": 0.5})
        assert (tmp_path / "a.txt").read_bytes() == "naïve 中\n".encode()
        assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"
        text = (tmp_path / "c.json").read_text("utf-8")
        assert text == '{\n  "label": "中",\n  "score": 0.5\n}\n'
        assert names(tmp_path) == ["a.txt", "b.bin", "c.json"]

    def test_the_old_file_is_there_until_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.json"
        path.write_text("old")
        with files.write_atomically(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
            assert temporary.name == f".metrics.json.tmp-{os.getpid()}"
        assert path.read_text() == "new"

    def test_a_link_stays_and_its_target_changes(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "real").write_text("old")
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "real")
        files.write_text(tmp_path / "link", "new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "elsewhere" / "real").read_text() == "new"

    def test_a_lone_surrogate_survives_json(self, tmp_path: Path) -> None:
        files.write_json(tmp_path / "a.json", {"label": "x\ud800"})
        assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {
            "label": "x\ud800"
        }

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_json_refuses_what_it_cannot_say(
        self, tmp_path: Path, value: float
    ) -> None:
        (tmp_path / "a.json").write_text("old")
        with pytest.raises(ValueError, match=r"not JSON compliant.*(nan|inf)"):
            files.write_json(tmp_path / "a.json", {"loss": value})
        assert (tmp_path / "a.json").read_text() == "old"
        assert names(tmp_path) == ["a.json"]


class TestFailing:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
    def test_an_exception_removes_the_temporary_file(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        path = tmp_path / "a"
        path.write_text("old")
        with pytest.raises(error), files.write_atomically(path) as temporary:
            temporary.write_text("half")
            raise error
        assert path.read_text() == "old"
        assert names(tmp_path) == ["a"]

    @pytest.mark.parametrize("call", ["write", "fsync", "replace"])
    def test_a_full_disk_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        path = tmp_path / "metrics.json"
        path.write_text("old")
        if call == "write":
            monkeypatch.setattr(Path, "write_bytes", raise_no_space)
        else:
            monkeypatch.setattr(os, call, raise_no_space)
        with pytest.raises(OSError, match=r"No space left.*/metrics\.json'") as caught:
            files.write_text(path, "new")
        assert caught.value.errno == errno.ENOSPC
        assert path.read_text() == "old"
        assert names(tmp_path) == ["metrics.json"]

    def test_a_write_that_is_cut_short_leaves_the_old_file(
        self, tmp_path: Path
    ) -> None:
        # The kernel takes the first 100 bytes and refuses the rest, as a full disk.
        code = (
            "import resource, sys\n"
            "from kbert import files\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
            "for write, path in ((files.write_text, sys.argv[1]),"
            " (files.append_line, sys.argv[2])):\n"
            "    try:\n"
            "        write(path, 'new' * 1000)\n"
            "    except OSError as error:\n"
            "        print(error.filename)\n"
        )
        whole, lines = tmp_path / "whole", tmp_path / "lines"
        whole.write_text("old")
        lines.write_text("old\n")
        result = run_python(code, whole, lines)
        assert result.stdout.split() == [str(whole), str(lines)], result.stderr
        assert (whole.read_text(), lines.read_text()) == ("old", "old\n")
        assert names(tmp_path) == ["lines", "whole"]

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"'.*/absent/a'"):
            files.write_text(tmp_path / "absent" / "a", "new")
        assert names(tmp_path) == []

    def test_a_kill_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_text("old")
        code = (
            "import os, signal, sys\n"
            "from kbert import files\n"
            "with files.write_atomically(sys.argv[1]) as temporary:\n"
            "    temporary.write_text('half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        assert run_python(code, path).returncode == -signal.SIGKILL
        assert path.read_text() == "old"
        hidden = [name for name in names(tmp_path) if name != "a"]
        assert len(hidden) == 1 and hidden[0].startswith(".a.tmp-")
        files.write_text(path, "new")
        assert path.read_text() == "new"


class TestAppending:
    def test_lines_follow_one_another(self, tmp_path: Path) -> None:
        path = tmp_path / "history.jsonl"
        files.append_line(path, '{"step": 1}')
        files.append_line(path, '{"label": "中"}')
        assert path.read_text("utf-8") == '{"step": 1}\n{"label": "中"}\n'

    def test_a_newline_inside_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"line='a\\nb'"):
            files.append_line(tmp_path / "a", "a\nb")
        assert names(tmp_path) == []

    @pytest.mark.parametrize("whole", ["", "one\n", "x" * 200_000 + "\n"])
    @pytest.mark.parametrize("torn", ["{", "y" * 70_000])
    def test_a_torn_line_is_dropped_and_said(
        self,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        whole: str,
        torn: str,
    ) -> None:
        path = tmp_path / "history.jsonl"
        path.write_text(whole + torn)
        files.append_line(path, "two")
        assert path.read_text() == whole + "two\n"
        assert "history.jsonl ended in the middle of a line" in caplog.text

    def test_a_full_disk_leaves_the_old_lines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "history.jsonl"
        files.append_line(path, "one")
        monkeypatch.setattr(os, "fsync", raise_no_space)
        with pytest.raises(OSError, match=r"No space left.*history\.jsonl"):
            files.append_line(path, "two")
        assert path.read_text() == "one\n"


class TestFolders:
    def test_a_folder_takes_the_place_of_another(self, tmp_path: Path) -> None:
        target = make_folder(tmp_path / "model", "old")
        (target / "stale").write_text("only in the old one")
        temporary = make_folder(files.temporary_beside(target), "new")
        files.replace_folder(temporary, target)
        assert weights(target) == "new"
        assert names(target) == ["inner"]
        assert names(tmp_path) == ["model"]

    def test_a_first_folder(self, tmp_path: Path) -> None:
        target = tmp_path / "model"
        files.replace_folder(make_folder(tmp_path / "x", "new"), target)
        assert weights(target) == "new"
        assert names(tmp_path) == ["model"]

    @pytest.mark.parametrize("failing_rename", [1, 2])
    def test_a_failure_leaves_the_old_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_rename: int
    ) -> None:
        target = make_folder(tmp_path / "model", "old")
        temporary = make_folder(files.temporary_beside(target), "new")
        rename, calls = os.rename, []

        def rename_or_fail(source: Path, destination: Path) -> None:
            calls.append(source)
            if len(calls) == failing_rename:
                raise_no_space()
            rename(source, destination)

        monkeypatch.setattr(os, "rename", rename_or_fail)
        with pytest.raises(OSError, match="No space left"):
            files.replace_folder(temporary, target)
        assert weights(target) == "old"
        assert names(tmp_path) == ["model"]

    def test_a_missing_successor_leaves_the_old_folder(self, tmp_path: Path) -> None:
        target = make_folder(tmp_path / "model", "old")
        with pytest.raises(FileNotFoundError, match="absent"):
            files.replace_folder(tmp_path / "absent", target)
        assert weights(target) == "old"

    @pytest.mark.parametrize(
        ("killed_at", "kept"), [(1, "old"), (2, "old"), (3, "new")]
    )
    def test_a_kill_is_recovered_from(
        self, tmp_path: Path, killed_at: int, kept: str
    ) -> None:
        """Killed before the first rename, between the two, and after the second."""
        target = make_folder(tmp_path / "mo[d]el", "old")
        temporary = make_folder(tmp_path / ".mo[d]el.tmp-1", "new")
        code = (
            "import os, shutil, signal, sys\n"
            "from kbert import files\n"
            "rename, calls = os.rename, []\n"
            "def count(source, destination):\n"
            "    calls.append(source)\n"
            "    if len(calls) == int(sys.argv[3]):\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    rename(source, destination)\n"
            "os.rename = count\n"
            "shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
            "files.replace_folder(sys.argv[1], sys.argv[2])\n"
        )
        result = run_python(code, temporary, target, killed_at)
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert len(names(tmp_path)) == 2
        assert files.recover_folder(target) == (killed_at == 2)
        assert not files.recover_folder(target)
        assert weights(target) == kept
        files.replace_folder(make_folder(tmp_path / "x", "newer"), target)
        assert weights(target) == "newer"
        assert names(tmp_path) == ["mo[d]el"]

    def test_the_next_replacement_recovers_too(self, tmp_path: Path) -> None:
        make_folder(tmp_path / ".model.old", "old")
        temporary = make_folder(tmp_path / "x", "new")
        files.replace_folder(temporary, tmp_path / "model")
        assert weights(tmp_path / "model") == "new"
        assert names(tmp_path) == ["model"]

    def test_a_reader_that_recovers_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = make_folder(tmp_path / "model", "old")
        temporary = make_folder(files.temporary_beside(target), "new")
        rename, calls = os.rename, []

        def rename_after_reader(source: Path, destination: Path) -> None:
            calls.append(source)
            if len(calls) == 2:  # between the two renames
                assert files.recover_folder(target)
                assert weights(target) == "old"
            rename(source, destination)

        monkeypatch.setattr(os, "rename", rename_after_reader)
        files.replace_folder(temporary, target)
        assert weights(target) == "new"
        assert names(tmp_path) == ["model"]

    def test_a_reader_leaves_what_is_being_written(self, tmp_path: Path) -> None:
        target = make_folder(tmp_path / "model", "old")
        temporary = make_folder(files.temporary_beside(target), "new")
        assert not files.recover_folder(target)
        assert weights(temporary) == "new"

    def test_nothing_to_recover(self, tmp_path: Path) -> None:
        assert not files.recover_folder(tmp_path / "model")
        assert names(tmp_path) == []
