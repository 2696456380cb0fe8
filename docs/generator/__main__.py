"""Write all generated files, or check them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from generator import alerts, conditions, crds, dashboards, metrics, values

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = "docs/reference"


def files() -> dict[str, str]:
    """Every generated file, by its path from the top of the repository."""
    return {
        f"{REFERENCE}/tenant.md": crds.tenant(),
        f"{REFERENCE}/tenanttier.md": crds.tier(),
        f"{REFERENCE}/conditions.md": conditions.text(),
        f"{REFERENCE}/values.md": values.text(ROOT / "charts/tenantry/values.yaml"),
        f"{REFERENCE}/metrics.md": metrics.text(),
        f"{REFERENCE}/alerts.md": alerts.text(ROOT / "charts/tenantry/monitoring/rules.yaml"),
        **{f"charts/tenantry/dashboards/{name}.json": text for name, text in dashboards.all_of_them().items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check; 1 when a file differs."""
    parser = argparse.ArgumentParser(prog="generator")
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a file differs")
    check = parser.parse_args(argv).check
    different = []
    for name, text in files().items():
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        different.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and different:
        sys.stderr.write(f"not as the code says: {', '.join(different)}; run `make reference`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
