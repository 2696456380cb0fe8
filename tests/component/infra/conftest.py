"""The Pythons that have the tools, and what AWS' clients find in their environment."""

from pathlib import Path

import pytest

from tests.component.infra.environments import AWS, python_with


@pytest.fixture(scope="session")
def cloud_python() -> Path:
    """The Python that has cfn-lint, moto and kubernetes-validate."""
    return python_with("cloud")


@pytest.fixture(scope="session")
def checkov_python() -> Path:
    """The Python that has checkov."""
    return python_with("checkov")


@pytest.fixture
def aws_environment() -> dict[str, str]:
    """An environment in which an AWS client works, but not for a real account."""
    return dict(AWS)
