"""What goes wrong is said in a sentence with a remedy, on stderr, and in the exit status; never in a traceback."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from tenantry_kubectl.main import main

Say = Callable[[int, dict[str, object] | str], list[str]]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Say]:
    """Make the API server answer everything so; gives the identities that it sees."""
    answer: dict[str, object] = {}
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(int(str(answer["status"])))
            self.end_headers()
            self.wfile.write(str(answer["body"]).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig(tmp_path / "config", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    def say(status: int, body: dict[str, object] | str) -> list[str]:
        answer.update(status=status, body=body if isinstance(body, str) else json.dumps(body))
        return seen

    yield say
    server.shutdown()
    server.server_close()


def kubeconfig(path: Path, server: str) -> None:
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "secret-token"}}],
    }
    path.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("status", "message", "remedy"),
    [
        (401, "Unauthorized", "log in again, or choose another --context"),
        (403, 'tenants.tenantry.dev is forbidden: User "joe" cannot list', "ask whoever runs the platform"),
        (404, "the server could not find the requested resource", "Tenantry is not installed on it, or --context"),
        (500, "etcdserver: request timed out", "etcdserver: request timed out (500"),
    ],
)
def test_a_refusal_says_what_to_do(
    says: Say, capsys: pytest.CaptureFixture[str], status: int, message: str, remedy: str
) -> None:
    says(status, {"kind": "Status", "message": message, "reason": ""})
    assert main(["list"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert message in told.err
    assert remedy in told.err
    assert "secret-token" not in told.err


def test_a_token_that_is_refused_is_tried_once_more(says: Say) -> None:
    seen = says(401, {})
    main(["list"])
    assert seen == ["Bearer secret-token"] * 2


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig(tmp_path / "config", "http://127.0.0.1:9")
    assert main(["list", "--kubeconfig", str(tmp_path / "config")]) == 1
    assert "no answer from http://127.0.0.1:9" in (told := capsys.readouterr().err)
    assert "is the cluster up" in told


def test_an_answer_that_is_something_else_is_no_traceback(says: Say, capsys: pytest.CaptureFixture[str]) -> None:
    says(200, "<html>Sign in</html>")
    assert main(["list"]) == 1
    assert "/apis/tenantry.dev/v1alpha1/tenants" in capsys.readouterr().err


def test_diff_says_failed_and_different_apart(says: Say, capsys: pytest.CaptureFixture[str]) -> None:
    says(403, {"message": "no"})
    assert main(["diff", "acme"]) == 2
    assert main(["diff"]) == 2
    assert "name a Tenant, or a file" in capsys.readouterr().err


def test_a_file_that_holds_something_else_is_refused(
    says: Say, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text("apiVersion: v1\nkind: Pod")
    assert main(["diff", "-f", str(path)]) == 2
    assert "holds something else than Tenants; `kubectl diff` compares that" in capsys.readouterr().err


def test_an_unknown_output_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["list", "-o", "xml"])
    assert ended.value.code == 2
    assert "'xml' is none of: json, yaml, wide, name" in capsys.readouterr().err
