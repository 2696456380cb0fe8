"""Every command of the guides works as it stands there, or says that it needs AWS."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GUIDES = ["choosing-compute.md", "install-on-eks.md"]
BLOCK = re.compile(r"(<!-- needs AWS -->\n)?^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(guide: str, *, aws: bool) -> list[str]:
    return [text for mark, text in BLOCK.findall((ROOT / "docs" / guide).read_text()) if bool(mark) == aws]


COMMANDS = [(guide, block) for guide in GUIDES for block in blocks(guide, aws=False)]


@pytest.mark.parametrize(("guide", "block"), COMMANDS, ids=[block.split("\n")[0][:60] for _, block in COMMANDS])
def test_a_block_without_a_mark_runs(guide: str, block: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, f"{guide}: {block}\n{done.stderr}"
    assert done.stdout


@pytest.mark.parametrize("guide", GUIDES)
def test_a_block_that_needs_aws_is_shell_and_names_only_files_that_are_there(guide: str) -> None:
    for block in blocks(guide, aws=True):
        done = subprocess.run(["bash", "-n", "-c", block], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        for named in re.findall(r"\b(?:infra|charts|kind)/[\w./-]*\w", block):
            assert (ROOT / named).exists(), named
    text = (ROOT / "docs" / guide).read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / "docs" / target).exists(), target


def test_the_plot_in_the_guide_is_what_the_command_draws_now() -> None:
    command = [".venv/bin/tenantry", "cost", "--format", "svg", "--plot-tenants", "200"]
    drawn = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert drawn == (ROOT / "docs" / "images" / "cost.svg").read_text()
