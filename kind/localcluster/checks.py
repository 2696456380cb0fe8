"""`make check`: everything that can be said about the tree without running it, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from localcluster import tools, venv
from localcluster.paths import Checkout
from localcluster.steps import ProgramFailed, Step, StepLog, run_steps


def main(argv: Sequence[str]) -> int:
    """Run all checks, whatever the others say, and show the end of what each failed one printed."""
    checkout = Checkout.here()
    python = venv.ensure(checkout)
    failed: list[str] = []

    def going_on(check: Step) -> Step:
        def run(log: StepLog) -> None:
            try:
                check.run(log)
            except ProgramFailed:
                log.note("FAILED, see below")
                remedy = f"remedy: {check.remedy}\n" if check.remedy else ""
                failed.append(f"\n--- {check.name}\n{log.tail()}\n{remedy}")

        return Step(check.name, run)

    run_steps([going_on(check) for check in checks(checkout.root, python.parent)], checkout.log_dir)
    print("".join(failed), end="")
    return 1 if failed else 0


def checks(root: Path, bin_dir: Path) -> list[Step]:
    """Return the checks as steps that do not depend on each other."""

    def program(*argv: str | Path) -> Callable[[StepLog], None]:
        def run(log: StepLog) -> None:
            log.run(argv, cwd=root)

        return run

    def reference(log: StepLog) -> None:
        log.run([bin_dir / "python", "-m", "generator", "--check"], cwd=root, env={"PYTHONPATH": str(root / "docs")})

    def helm_lint(log: StepLog) -> None:
        helm = tools.helm()
        charts = root / "charts"
        log.run([helm, "lint", "--strict", charts / "tenantry"])
        log.run([helm, "lint", "--strict", charts / "tenant", "--values", charts / "tenant" / "ci" / "values.yaml"])

    return [
        Step("ruff: format", program(bin_dir / "ruff", "format", "--check", "."), remedy="make format"),
        Step("ruff: lint", program(bin_dir / "ruff", "check", "."), remedy="make format mends what can be mended"),
        Step("mypy --strict", program(bin_dir / "mypy")),
        Step("import contracts", program(bin_dir / "lint-imports")),
        Step(
            "crds match the models",
            program(bin_dir / "python", "-m", "tenantry_operator.api.crd", "--check"),
            remedy="make crds",
        ),
        Step("reference and dashboards match the code", reference, remedy="make reference"),
        Step("helm lint", helm_lint),
    ]
