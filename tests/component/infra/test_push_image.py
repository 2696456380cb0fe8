"""`infra/push-image`, with stand-ins for docker, aws and make that write down what they are asked."""

import os
import subprocess
from pathlib import Path

from tests.component.infra.templates import INFRA

STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $*" in
  "aws sts"*) echo 123456789012 ;;
  "aws ecr describe-repositories"*) exit 255 ;;
  "aws ecr get-login-password"*) echo the-password ;;
  "docker login"*) cat >/dev/null ;;
  "make images PLATFORM=linux/amd64") echo building; echo tenantry:dev-aaa111; echo archive: /x ;;
  "make images PLATFORM=linux/arm64") echo building; echo tenantry:dev-bbb222; echo archive: /x ;;
esac
"""


def test_both_architectures_are_pushed_under_one_manifest_and_the_reference_is_all_that_is_printed(
    tmp_path: Path,
) -> None:
    for program in ("aws", "docker", "make"):
        stand_in = tmp_path / program
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
    calls = tmp_path / "calls"
    done = subprocess.run(
        [INFRA / "push-image", "eu-west-1", "tenantry", "v1"],
        env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin", "CALLS": str(calls)},
        capture_output=True,
        text=True,
        check=True,
    )
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/tenantry:v1"
    assert done.stdout == f"{image}\n"
    said = calls.read_text().splitlines()
    assert any(call.startswith("aws ecr create-repository") for call in said)
    assert f"docker tag tenantry:dev-aaa111 {image}-amd64" in said
    assert f"docker tag tenantry:dev-bbb222 {image}-arm64" in said
    assert said[-2:] == [
        f"docker manifest create {image} {image}-amd64 {image}-arm64",
        f"docker manifest push --purge {image}",
    ]
    assert "the-password" not in calls.read_text(), "a password on a command line"
