"""Files written whole or not at all; a folder that cannot be written is one sentence and leaves no trace."""

import os
from pathlib import Path

import pytest

from mosld import files
from mosld.config import ConfigError


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "sub" / "rows.jsonl"
    files.write(path, "old")
    with pytest.raises(KeyboardInterrupt), files.whole(path) as sink:
        sink.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    files.write(path, b"new")
    assert path.read_text() == "new"


def test_a_trial_leaves_no_trace(tmp_path):
    files.trial(tmp_path / "a" / "b")
    files.trial(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "file", "file/below", "nul\0byte", "long" * 100])
def test_impossible_folders(tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="^out: ") as refused:
        files.trial(tmp_path / name if name else "")
    assert "\n" not in str(refused.value) and "\0" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
def test_a_full_disk_is_named(tmp_path, monkeypatch):
    full = files.Path("/dev/full").open("wb", buffering=0)
    monkeypatch.setattr(files.Path, "write_bytes", lambda self, data: full.write(data))
    with pytest.raises(ConfigError, match="No space left on device"):
        files.trial(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_several_processes_try_at_once(tmp_path, monkeypatch):
    """Each takes away what it made, which another one may just have found there."""
    write, taken = Path.write_bytes, []

    def taken_away(path, data):
        if not taken:
            taken.append(path.parent.rmdir())
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", taken_away)
    files.trial(tmp_path / "new" / "run")
    assert taken and list(tmp_path.iterdir()) == []
