"""Where the API server is and who we are, from files of every kind; errors say what to do."""

import base64
import json
import stat
from pathlib import Path

import pytest
import yaml
from tenantry_operator.kube import config
from tenantry_operator.kube.errors import ConfigError
from tenantry_operator.kube.tokens import ExecToken, FileToken


def kubeconfig(directory: Path, user: dict[str, object], cluster: dict[str, object] | None = None) -> Path:
    """A kubeconfig with one context."""
    path = directory / "kubeconfig"
    entry = {"server": "https://api.example:6443/", **(cluster or {})}
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": entry}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def plugin(directory: Path, script: str) -> str:
    """An executable."""
    path = directory / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def credential(**status: object) -> str:
    """What a plugin prints."""
    return json.dumps({"kind": "ExecCredential", "status": status})


async def test_a_token_in_the_file(tmp_path: Path) -> None:
    access = config.load(kubeconfig(tmp_path, {"token": "abc"}))
    assert access.server == "https://api.example:6443"
    assert await access.tokens.token() == "abc"


def test_certificates_are_inline_or_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "client.crt").write_text("CERT")
    user: dict[str, object] = {
        "client-certificate": "client.crt",
        "client-key-data": base64.b64encode(b"KEY").decode(),
    }
    cluster: dict[str, object] = {"certificate-authority-data": base64.b64encode(b"CA").decode()}
    access = config.load(kubeconfig(tmp_path, user, cluster))
    assert (access.ca, access.certificate, access.key) == (b"CA", b"CERT", b"KEY")


async def test_a_token_file_is_read_again_when_it_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old\n")
    tokens = FileToken(path)
    assert await tokens.token() == "old"
    path.write_text("new\n")
    assert await tokens.token() == "old"
    tokens.invalidate()
    assert await tokens.token() == "new"


async def test_the_pods_own_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.crt").write_text("CA")
    (tmp_path / "token").write_text("sa")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    access = config.in_cluster(tmp_path)
    assert access.server == "https://[fd00::1]:443"
    assert await access.tokens.token() == "sa"


async def test_a_plugin_is_run_once_until_its_token_is_about_to_expire(tmp_path: Path) -> None:
    count = tmp_path / "count"
    fresh = credential(token="t", expirationTimestamp="2999-01-01T00:00:00Z")
    command = plugin(tmp_path, f"echo x >> {count}; test \"$FLAVOUR\" = sweet && echo '{fresh}'")
    user: dict[str, object] = {"exec": {"command": command, "env": [{"name": "FLAVOUR", "value": "sweet"}]}}
    tokens = config.load(kubeconfig(tmp_path, user)).tokens
    assert [await tokens.token(), await tokens.token()] == ["t", "t"]
    assert count.read_text() == "x\n"
    tokens.invalidate()
    assert await tokens.token() == "t"
    assert count.read_text() == "x\nx\n"


async def test_an_expired_token_is_fetched_anew(tmp_path: Path) -> None:
    count = tmp_path / "count"
    stale = credential(token="t", expirationTimestamp="2001-01-01T00:00:00Z")
    tokens = ExecToken([plugin(tmp_path, f"echo x >> {count}; echo '{stale}'")])
    await tokens.token()
    await tokens.token()
    assert count.read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo no such profile >&2; exit 3", "no such profile"),
        ("echo hello", "did not print"),
        (f"echo '{credential()}'", "gave no token"),
    ],
)
async def test_a_plugin_that_fails_says_so(tmp_path: Path, script: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        await ExecToken([plugin(tmp_path, script)]).token()


async def test_a_missing_plugin_is_named() -> None:
    with pytest.raises(ConfigError, match="/no/such/plugin"):
        await ExecToken(["/no/such/plugin"]).token()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("current-context: here", "no context 'here'"),
        ("current-context: 5", "current-context"),
        (": :", "kubeconfig"),
    ],
)
def test_a_broken_kubeconfig_names_the_file_and_the_fault(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(ConfigError, match=complaint) as caught:
        config.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "nowhere")


def test_certificates_that_are_none_are_a_configuration_error(tmp_path: Path) -> None:
    user: dict[str, object] = {
        "client-certificate-data": base64.b64encode(b"CERT").decode(),
        "client-key-data": base64.b64encode(b"KEY").decode(),
    }
    access = config.load(kubeconfig(tmp_path, user))
    with pytest.raises(ConfigError, match=r"api\.example"):
        access.tls()


def named(directory: Path, name: str, server: str, *, current: str = "") -> Path:
    """A kubeconfig with one context of this name, and certificates beside it."""
    directory.mkdir()
    (directory / "ca.crt").write_text(f"CA of {name}")
    path = directory / "config"
    document = {
        "current-context": current,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority": "ca.crt"}}],
        "users": [{"name": name, "user": {"token": f"token of {name}"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def test_several_files_are_one_and_paths_in_each_are_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = named(tmp_path / "work", "work", "https://work.example", current="work")
    home = named(tmp_path / "home", "home", "https://home.example", current="home")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{work}:{home}")
    assert config.load(None).server == "https://work.example", "the first that has a current context says which"
    other = config.load(None, context="home")
    assert (other.server, other.ca, await other.tokens.token()) == (
        "https://home.example",
        b"CA of home",
        "token of home",
    )
    with pytest.raises(ConfigError, match="there is no context 'moon'"):
        config.load(None, context="moon")


async def test_a_plugin_is_told_which_version_to_speak(tmp_path: Path) -> None:
    script = f"printf '%s' \"$KUBERNETES_EXEC_INFO\" > {tmp_path}/told; echo '{credential(token='t')}'"
    wanted = {"command": plugin(tmp_path, script), "apiVersion": "client.authentication.k8s.io/v1beta1"}
    assert await config.load(kubeconfig(tmp_path, {"exec": wanted})).tokens.token() == "t"
    told = json.loads((tmp_path / "told").read_text())
    assert (told["apiVersion"], told["spec"]) == ("client.authentication.k8s.io/v1beta1", {"interactive": False})
