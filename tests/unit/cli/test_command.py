"""The `tenantry` command: which process it starts, and what it says when there is none."""

import os
import subprocess
import sys

import pytest
from tenantry.__main__ import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_an_unknown_command_is_named_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sevre"]) == 2
    said = capsys.readouterr().err
    assert "'sevre'" in said
    assert "serve" in said


@pytest.mark.parametrize(("command", "foreign"), [("serve", "kopf"), ("operator", "uvicorn")])
def test_a_process_loads_only_its_own_role(command: str, foreign: str) -> None:
    module = COMMANDS[command][0].partition(":")[0]
    loaded = subprocess.run(
        [sys.executable, "-c", f"import {module}, sys; print({foreign!r} in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "False"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", "tenantry", "cost", "--tenants", "50"]
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(argv, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
