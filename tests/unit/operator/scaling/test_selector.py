"""Label selectors in a query."""

import pytest
from tenantry_operator.scaling.selector import parse

LABELS = {"app.kubernetes.io/name": "tenantry-api", "tenantry.dev/pool": "active"}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", True),
        ("app.kubernetes.io/name=tenantry-api,tenantry.dev/pool=active", True),
        ("tenantry.dev/pool==active", True),
        ("tenantry.dev/pool=draining", False),
        ("tenantry.dev/pool!=draining", True),
        ("tenantry.dev/pool in (active, draining)", True),
        ("tenantry.dev/pool notin (active)", False),
        ("other", False),
        ("!other,tenantry.dev/pool", True),
        ("other=", False),
    ],
)
def test_it_selects_what_kubectl_would(selector: str, selected: bool) -> None:
    assert parse(selector)(LABELS) is selected


@pytest.mark.parametrize("selector", ["=", "a=b=c", "a in b", "a in (b", "!a=b", "a,,b"])
def test_what_is_none_is_refused(selector: str) -> None:
    with pytest.raises(ValueError, match="label selector"):
        parse(selector)
