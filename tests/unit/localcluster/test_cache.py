"""What is built once is reused until its inputs change, and half a result is never seen."""

import threading
from pathlib import Path

import pytest
from localcluster.cache import built_once, digest_of


def test_the_second_build_of_the_same_digest_is_the_first_ones_result(tmp_path: Path) -> None:
    calls: list[Path] = []

    def build(into: Path) -> None:
        calls.append(into)
        (into / "result").write_text("made")

    first, built = built_once(tmp_path, "thing", "d1", build)
    again, built_again = built_once(tmp_path, "thing", "d1", build)
    assert (built, built_again) == (True, False)
    assert first == again
    assert (again / "result").read_text() == "made"
    assert len(calls) == 1


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    def broken(into: Path) -> None:
        (into / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        built_once(tmp_path, "thing", "d1", broken)
    assert not list(tmp_path.glob("thing-*"))
    place, built = built_once(tmp_path, "thing", "d1", lambda into: (into / "whole").touch())
    assert built
    assert [path.name for path in place.iterdir()] == ["whole"]


def test_two_builders_at_once_build_once(tmp_path: Path) -> None:
    calls: list[Path] = []
    both = threading.Barrier(2, timeout=60)

    def run() -> None:
        both.wait()
        built_once(tmp_path, "thing", "d1", calls.append)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(calls) == 1


def test_the_digest_changes_with_text_content_name_and_executable_bit(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    digests = [digest_of("t", files=[file]), digest_of("u", files=[file]), digest_of("t", "", files=[file])]
    file.chmod(0o755)
    digests.append(digest_of("t", files=[file]))
    file.write_text("y")
    digests.append(digest_of("t", files=[file]))
    digests.append(digest_of("t", files=[file.rename(tmp_path / "b")]))
    assert len(set(digests)) == len(digests)
