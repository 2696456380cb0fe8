"""`make check`: everything that can be said about the tree without running it, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from localcluster import tools, venv
from localcluster.paths import Checkout
from localcluster.steps import Step, StepLog, run_steps


def main(argv: Sequence[str]) -> int:
    """Run the checks; the first that fails is shown with the end of its output."""
    checkout = Checkout.here()
    python = venv.ensure(checkout)
    run_steps(checks(checkout.root, python.parent), checkout.log_dir)
    return 0


def checks(root: Path, bin_dir: Path) -> list[Step]:
    """Return the checks as steps that do not depend on each other."""

    def program(*argv: str | Path) -> Callable[[StepLog], None]:
        def run(log: StepLog) -> None:
            log.run(argv, cwd=root)

        return run

    def helm_lint(log: StepLog) -> None:
        helm = tools.helm()
        for chart in ("tenantry", "tenant"):
            values = root / "charts" / chart / "ci" / "values.yaml"
            extra = ["--values", values] if values.exists() else []
            log.run([helm, "lint", "--strict", root / "charts" / chart, *extra])

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
        Step("helm lint", helm_lint),
    ]
