"""`tenantry serve` as a process: start, reload, drain, kill, and what it never says."""

import hashlib
import json
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from tenantry_service import policy as policies
from tenantry_service.policy import Limits, Models, Policy, Upstream

from tests.component.service.harness import (
    CREDENTIAL,
    KEY,
    Program,
    ledger_rows,
    policy,
    service_program,
    simulator_program,
)

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Program]:
    with simulator_program(tmp_path, "--expect-key-env", "EXPECTED", env={"EXPECTED": CREDENTIAL}) as running:
        yield running


def sdk(running: Program, key: str = KEY) -> OpenAI:
    return OpenAI(base_url=running.base_url, api_key=key, max_retries=0, timeout=60)


def with_credentials(tmp_path: Path, simulator: Program, **changes: object) -> Policy:
    credential = tmp_path / "api-key"
    credential.write_text(CREDENTIAL + "\n")
    upstream = Upstream(name="main", base_url=simulator.base_url, credentials_file=str(credential))
    return policy(simulator.port, **{"upstreams": (upstream,), **changes})


def put(path: Path, content: bytes) -> None:
    """As the kubelet does it: by renaming something complete into place."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.rename(path)


def write(path: Path, document: Policy) -> None:
    put(path, policies.encode(document))


def serve(tmp_path: Path, document: Policy, *flags: str) -> AbstractContextManager[Program]:
    path = tmp_path / "policy.json"
    write(path, document)
    return service_program(tmp_path, "--policy", str(path), "--state-dir", str(tmp_path / "state"), *flags)


def release(simulator: Program) -> None:
    """Let go on what it holds."""
    url = f"http://127.0.0.1:{simulator.port}/simulator/release"
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60).close()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    late = False
    while not condition():
        assert not late
        time.sleep(0.02)
        # Looked at once more then: it may be the test that stood still.
        late = time.monotonic() >= deadline


def test_the_laptop_mode_needs_one_flag_and_one_variable(tmp_path: Path, simulator: Program) -> None:
    state = tmp_path / "laptop"
    flags = ("--upstream", simulator.base_url, "--state-dir", str(state))
    with service_program(tmp_path, *flags, env={"OPENAI_API_KEY": CREDENTIAL}) as running:
        key = (state / "key").read_text().strip()
        assert stat.S_IMODE((state / "key").stat().st_mode) == 0o600
        answer = sdk(running, key).chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        assert answer.usage
        running.process.send_signal(signal.SIGINT)
        welcome, _ = running.process.communicate(timeout=60)
        assert running.process.returncode == 0
    assert f"curl {running.base_url}/chat/completions" in welcome
    assert key in welcome
    assert CREDENTIAL not in welcome
    assert len(ledger_rows(state / "ledger.sqlite")) == 1
    with service_program(tmp_path, *flags, env={"OPENAI_API_KEY": CREDENTIAL}) as again:
        assert (state / "key").read_text().strip() == key
        sdk(again, key).models.list()


def test_the_curl_that_is_printed_works(tmp_path: Path, simulator: Program) -> None:
    flags = ("--upstream", simulator.base_url, "--state-dir", str(tmp_path / "laptop"))
    with service_program(tmp_path, *flags, env={"OPENAI_API_KEY": CREDENTIAL}) as running:
        assert running.process.stdout is not None
        lines = iter(running.process.stdout.readline, "Ctrl-C ends it.\n")
        command = "".join(lines).partition("curl ")[2]
        answer = subprocess.run(
            ["bash", "-c", f"curl -s {command}"], capture_output=True, text=True, timeout=60, check=True
        )
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"].startswith("This is the simulator")


def test_a_new_policy_serves_within_two_seconds_and_a_bad_one_never(tmp_path: Path, simulator: Program) -> None:
    path = tmp_path / "policy.json"
    with serve(tmp_path, with_credentials(tmp_path, simulator)) as running:
        client = sdk(running)
        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        narrower = with_credentials(tmp_path, simulator, models=Models(allow=("gpt-4.1",)), generation=2)
        write(path, narrower)
        until(lambda: f'revision="{narrower.revision}"' in running.get("/metrics")[1], seconds=2)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        put(path, b'{"tenant": "acme", "generation": 3, "upstreams": []}')
        # More than one where it takes long to look: it is tried again.
        refused = re.compile(r"^tenantry_policy_reload_failures_total [1-9]", re.MULTILINE)
        until(lambda: refused.search(running.get("/metrics")[1]), seconds=2)
        assert f'revision="{narrower.revision}"' in running.get("/metrics")[1]
        assert running.get("/readyz") == (200, "ready\n")
        client.chat.completions.create(model="gpt-4.1", messages=HELLO)
        log = [json.loads(line) for line in running.stderr.read_text().splitlines()]
        assert {line["field"] for line in log if line["level"] == "error"} == {"$.upstreams"}


def test_a_renewed_credential_is_read_without_a_restart(tmp_path: Path, simulator: Program) -> None:
    document = with_credentials(tmp_path, simulator)
    (tmp_path / "api-key").write_text("sk-outdated")
    with serve(tmp_path, document) as running:
        client = sdk(running)
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        put(tmp_path / "api-key", CREDENTIAL.encode())
        until(lambda: "tenantry_policy_reloads_total 1.0" in running.get("/metrics")[1], seconds=2)
        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)


def test_sigterm_lets_streams_finish_and_sends_new_requests_elsewhere(tmp_path: Path, simulator: Program) -> None:
    with serve(tmp_path, with_credentials(tmp_path, simulator)) as running:
        client = sdk(running)
        held = {"x-simulator-hold-after": "2", "x-simulator-output-tokens": "20"}
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True, extra_headers=held)
        chunks = iter(stream)
        next(chunks)
        running.process.send_signal(signal.SIGTERM)
        until(lambda: running.get("/readyz")[0] == 503)
        with pytest.raises(openai.InternalServerError) as caught:
            sdk(running).chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        assert caught.value.status_code == 503
        assert float(caught.value.response.headers["retry-after"]) >= 1
        assert caught.value.response.headers["connection"] == "close"
        release(simulator)
        assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) == 20
        assert running.process.wait(60) == 0
    (row,) = ledger_rows(tmp_path / "state" / "ledger.sqlite")
    assert (row["output_tokens"], row["estimated"], row["error_type"]) == (20, 0, "none")


def test_the_drain_deadline_ends_a_stream_by_an_error_event(tmp_path: Path, simulator: Program) -> None:
    with serve(tmp_path, with_credentials(tmp_path, simulator), "--drain-seconds", "0.3") as running:
        endless = {"x-simulator-gap-ms": "20", "x-simulator-output-tokens": "100000"}
        stream = sdk(running).chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True, extra_headers=endless
        )
        next(iter(stream))
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError) as caught:
            list(stream)
        assert caught.value.code == "draining"
        assert running.process.wait(60) == 0
    (row,) = ledger_rows(tmp_path / "state" / "ledger.sqlite")
    assert (row["estimated"], row["error_type"]) == (1, "tenantry_draining")


def test_an_upstream_killed_under_load_costs_errors_and_nothing_else(tmp_path: Path) -> None:
    outcomes: list[str] = []
    with simulator_program(tmp_path, "--latency-ms", "20") as simulator:
        document = policy(simulator.port)
        with serve(tmp_path, document) as running:
            client = sdk(running)

            def call(kills: bool) -> None:
                for number in range(30):
                    if kills and number == 10:
                        # By one who calls, so that some calls come before and some after, however quick all are.
                        simulator.process.kill()
                        simulator.process.wait()
                    try:
                        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
                        outcomes.append("ok")
                    except openai.InternalServerError as error:
                        outcomes.append(str(error.status_code))

            threads = [threading.Thread(target=call, args=(number == 0,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            # 503: after a few failures the upstream is not even asked.
            assert {"ok", "502"} <= set(outcomes) <= {"ok", "502", "503"}
            until(lambda: "tenantry_in_flight_requests 0.0" in running.get("/metrics")[1])
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(60) == 0
    rows = ledger_rows(tmp_path / "state" / "ledger.sqlite")
    assert len(rows) == len(outcomes) == 120
    assert sum(row["error_type"] == "none" for row in rows) == outcomes.count("ok")


def test_how_far_off_an_estimate_was_is_told_by_a_histogram(tmp_path: Path, simulator: Program) -> None:
    with serve(tmp_path, with_credentials(tmp_path, simulator)) as running:
        client = sdk(running)
        for most in (100_000, 100):
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, max_tokens=most)
        metrics = running.get("/metrics")[1]
    assert "tenantry_estimate_ratio_count 2.0" in metrics
    assert 'tenantry_estimate_ratio_bucket{le="1.0"} 2.0' in metrics, "an upper bound is never passed"


def test_no_secret_and_no_prompt_is_in_logs_or_metrics(tmp_path: Path, simulator: Program) -> None:
    prompt = "a-prompt-that-nobody-else-may-read"
    with serve(tmp_path, with_credentials(tmp_path, simulator), "--log-level", "debug") as running:
        client = sdk(running)
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}])
        for headers in ({"x-simulator-error-status": "500"}, {"x-simulator-die-after": "0"}):
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}], extra_headers=headers
                )
        with pytest.raises(openai.AuthenticationError):
            sdk(running, KEY + "x").models.list()
        metrics = running.get("/metrics")[1]
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    database = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    said = metrics + running.stderr.read_text() + database.decode("latin-1")
    for secret in (KEY, KEY.split("_")[2], CREDENTIAL, digest, prompt):
        assert secret not in said
    assert "abcdefghijkl" not in metrics


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--policy --upstream"),
        (("--policy", "/nonexistent/policy.json"), "/nonexistent/policy.json: cannot be read"),
        (("--upstream", "localhost:8080"), "--upstream: 'localhost:8080' has the scheme"),
        (("--upstream", "ftp://x"), "give one like https://api.openai.com/v1"),
        (
            ("--upstream", "http://x", "--upstream-key-file", "/nonexistent"),
            "--upstream-key-file: /nonexistent cannot be read",
        ),
        (("--upstream", "http://x", "--state-dir", "/proc/nowhere"), "--state-dir"),
        (("--upstream", "http://x", "--port", "99999"), "--host/--port: cannot listen"),
        (("--upstream", "http://x", "--port", "http"), "--port"),
        (("--upstream", "http://x", "--drain-seconds", "-1"), "--drain-seconds"),
        (("--policy", "x", "--upstream-key-file", "y"), "goes with --upstream"),
        (("--policy", "{empty}"), "$: not JSON"),
        (("--policy", "{wrong}"), "$.limits.requestsPerMinute"),
        (("--policy", "{uncredentialed}"), "$.upstreams[0].credentialsFile"),
    ],
)
def test_what_cannot_be_served_is_said_with_field_and_remedy(
    tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    good = {"tenant": "acme", "generation": 1, "upstreams": [{"name": "main", "baseUrl": "http://x"}]}
    uncredentialed = {**good, "upstreams": [{"name": "main", "baseUrl": "http://x", "credentialsFile": "/nonexistent"}]}
    files = {
        "empty": "",
        "wrong": json.dumps({**good, "limits": {"requestsPerMinute": 0}}),
        "uncredentialed": json.dumps(uncredentialed),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    given = [flag.format(**{name: tmp_path / name for name in files}) for flag in flags]
    if "--state-dir" not in given:
        given += ["--state-dir", str(tmp_path / "state")]
    done = subprocess.run(
        [sys.executable, "-m", "tenantry", "serve", *given], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(tmp_path: Path, simulator: Program) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tenantry",
            "serve",
            "--upstream",
            "http://x",
            "--port",
            str(simulator.port),
            "--state-dir",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "choose others" in done.stderr


def test_limits_are_kept_when_the_policy_changes(tmp_path: Path, simulator: Program) -> None:
    limited = with_credentials(tmp_path, simulator, limits=Limits(requests_per_minute=2))
    with serve(tmp_path, limited) as running:
        client = sdk(running)
        for _ in range(2):
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        again = with_credentials(
            tmp_path, simulator, limits=Limits(requests_per_minute=2), generation=2, max_body_bytes=5000
        )
        write(tmp_path / "policy.json", again)
        until(lambda: f'revision="{again.revision}"' in running.get("/metrics")[1], seconds=2)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
