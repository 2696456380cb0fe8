"""An endpoint without the operator, from its new secret to an answer, as the templates in infra/ start it."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from tenantry import from_environment, new_endpoint
from tenantry_service import policy as policies

from tests.component.service.harness import CREDENTIAL, Program, simulator_program


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Program]:
    with simulator_program(tmp_path, "--expect-key-env", "EXPECTED", env={"EXPECTED": CREDENTIAL}) as running:
        yield running


def made(capsys: pytest.CaptureFixture[str], tmp_path: Path, upstream: str) -> tuple[str, dict[str, str]]:
    """A key and the secret that goes with it."""
    credential = tmp_path / "credential"
    credential.write_text(CREDENTIAL)
    out = tmp_path / "secret.json"
    argv = ["--name", "acme", "--upstream", upstream, "--upstream-key-file", str(credential), "--out", str(out)]
    assert new_endpoint.main(argv) == 0
    key = next(word for word in capsys.readouterr().out.split() if word.startswith("tn_"))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    return key, json.loads(out.read_text())


def test_a_new_secret_holds_the_keys_digest_only_and_is_never_overwritten(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key, secret = made(capsys, tmp_path, "https://api.openai.com/v1")
    assert key not in str(secret)
    policy = policies.decode(secret["policy"].encode())
    assert policy.upstreams[0].credentials_file == "/tmp/tenantry-serve/upstream-key"
    before = (tmp_path / "secret.json").read_text()
    assert new_endpoint.main(["--name", "other", "--out", str(tmp_path / "secret.json")]) == 2
    assert (tmp_path / "secret.json").read_text() == before


@pytest.mark.parametrize(("name", "upstream"), [("acme", "ftp://x"), ("Not A Name", "https://api.openai.com/v1")])
def test_what_the_service_would_refuse_is_refused_at_once(
    name: str, upstream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_endpoint.main(["--name", name, "--upstream", upstream, "--out", str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_the_service_answers_and_its_environment_no_longer_has_the_secrets(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, simulator: Program
) -> None:
    key, secret = made(capsys, tmp_path, simulator.base_url)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        # Files are where TMPDIR says, so that this test leaves the machine's own /tmp alone.
        "TENANTRY_POLICY": secret["policy"].replace("/tmp/tenantry-serve", str(tmp_path / "tenantry-serve")),
        "TENANTRY_UPSTREAM_KEY": secret["upstreamKey"],
    }
    argv = [sys.executable, "-m", "tenantry", "serve-from-environment", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen([*argv, "--state-dir", str(tmp_path / "state")], env=environment) as process:
        try:
            wait_until_ready(port)
            client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0, timeout=60)
            answer = client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}]
            )
            assert answer.choices[0].message.content
            for place in ("environ", "cmdline"):
                held = Path(f"/proc/{process.pid}/{place}").read_bytes()
                assert CREDENTIAL.encode() not in held
                assert b"sha256" not in held
            assert stat.S_IMODE((tmp_path / "tenantry-serve").stat().st_mode) == 0o700
        finally:
            process.terminate()
            assert process.wait(60) == 0


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:  # nobody listens yet, or says nothing in time
            time.sleep(0.1)
    raise AssertionError("the service did not become ready")


def test_without_a_policy_the_variable_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TENANTRY_POLICY", raising=False)
    assert from_environment.main([]) == 2
    assert "TENANTRY_POLICY" in capsys.readouterr().err


def test_a_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "open"
    place.mkdir(mode=0o755)
    with pytest.raises(from_environment.EnvironmentProblem, match="remove it"):
        from_environment.written({"TENANTRY_POLICY": "{}"}, place)


def test_an_old_credential_is_not_left_when_there_is_none_any_more(tmp_path: Path) -> None:
    place = tmp_path / "serve"
    from_environment.written({"TENANTRY_POLICY": "{}", "TENANTRY_UPSTREAM_KEY": "old"}, place)
    rest = from_environment.written({"TENANTRY_POLICY": "{}", "HOME": "/"}, place)
    assert rest == {"HOME": "/"}
    assert sorted(path.name for path in place.iterdir()) == ["policy.json"]
