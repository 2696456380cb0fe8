"""The inotify limit is raised while an engine needs it, and put back by the last one."""

from pathlib import Path

import pytest
from localcluster.kernellimits import WANTED, hold, release


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    path = tmp_path / "max_user_instances"
    path.write_text("128\n")
    return path


def test_the_last_engine_puts_the_limit_back(setting: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    hold("one", setting, record)
    hold("two", setting, record)
    hold("one", setting, record)
    assert int(setting.read_text()) == WANTED
    release("one", setting, record)
    assert int(setting.read_text()) == WANTED
    release("two", setting, record)
    assert int(setting.read_text()) == 128
    assert not record.exists()


def test_a_limit_that_is_high_enough_is_left_alone(setting: Path, tmp_path: Path) -> None:
    setting.write_text("8192\n")
    hold("one", setting, tmp_path / "record")
    release("one", setting, tmp_path / "record")
    assert int(setting.read_text()) == 8192


def test_a_limit_that_somebody_set_since_stays(setting: Path, tmp_path: Path) -> None:
    hold("one", setting, tmp_path / "record")
    setting.write_text("4096\n")
    release("one", setting, tmp_path / "record")
    assert int(setting.read_text()) == 4096


def test_release_without_hold_does_nothing(setting: Path, tmp_path: Path) -> None:
    release("one", setting, tmp_path / "record")
    assert int(setting.read_text()) == 128
    assert not (tmp_path / "record").exists()
