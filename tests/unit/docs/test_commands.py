"""Each command of the guides is tried by a test, or says that it needs AWS."""

import re
import subprocess
from pathlib import Path

import pytest
from tenantry_service.writer import main as ledger

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^(<!-- needs AWS -->\n)?```(?:sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)

#: Guide -> who types its commands.
TRIED = {
    "choosing-compute.md": "tests/component/infra/test_guides.py",
    "console.md": "tests/cluster/test_guide_commands.py",
    "datastores.md": "tests/cluster/test_guide_commands.py",
    "gitops.md": "tests/cluster/test_guide_commands.py",
    "keys.md": "tests/cluster/test_guide_commands.py",
    "ledger.md": "tests/unit/docs/test_commands.py",
    "lifecycle.md": "tests/cluster/test_guide_commands.py",
    "operating.md": "tests/cluster/test_guide_commands.py",
    "rollouts.md": "tests/cluster/test_guide_commands.py",
    "scale.md": "tests/unit/docs/test_commands.py",
    "without-the-operator.md": "tests/cluster/test_without_the_operator.py",
}


def unmarked(guide: Path) -> list[str]:
    return [text for mark, text in BLOCK.findall(guide.read_text()) if not mark]


def test_whoever_adds_a_command_says_who_tries_it() -> None:
    assert {guide.name for guide in (ROOT / "docs").glob("*.md") if unmarked(guide)} == set(TRIED)
    for guide, test in TRIED.items():
        assert guide in (ROOT / test).read_text(), test


def test_no_block_of_a_guide_is_left_out_by_the_test_that_picks_them() -> None:
    text = (ROOT / "tests/cluster/test_guide_commands.py").read_text()
    # Wants a kubelet: tests/e2e/test_console.py. Wants PostgreSQL: tests/component/ledger/test_backup.py.
    elsewhere = ("leader=", "kubectl port-forward", "pg_dump", "kubectl scale deployment tenantry-ledger")
    for guide, test in TRIED.items():
        if test != "tests/cluster/test_guide_commands.py":
            continue
        for block in unmarked(ROOT / "docs" / guide):
            begins = [each for each in re.findall(rf'"{re.escape(guide)}", "([^"]+)"', text) if block.startswith(each)]
            assert begins or block.startswith(elsewhere), f"{guide}: {block}"


def test_the_ledgers_command_is_one_that_it_understands() -> None:
    (block,) = unmarked(ROOT / "docs/ledger.md")
    program, command, *options = block.split()
    assert (program, command) == ("tenantry", "ledger")
    assert ledger.parser().parse_args(options).keep_months == 13


def test_the_benchmarks_of_the_guide_are_targets_that_there_are() -> None:
    (block,) = unmarked(ROOT / "docs/scale.md")
    for line in block.splitlines():
        target = line.split()[1]
        done = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("guide", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_every_link_of_a_guide_leads_somewhere(guide: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / "docs" / guide).read_text()):
        assert (ROOT / "docs" / target).exists(), f"{guide}: {target}"
