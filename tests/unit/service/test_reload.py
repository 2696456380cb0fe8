"""Policies from files: what changes while they are read, and what cannot be read."""

import json
from pathlib import Path

import pytest
from tenantry_service.policy import PolicyError
from tenantry_service.reload import PolicyFile


def write(path: Path, **upstream: str) -> None:
    main = {"name": "main", "baseUrl": "http://up/v1", **upstream}
    path.write_text(json.dumps({"tenant": "acme", "generation": 1, "upstreams": [main]}))


def test_a_change_while_the_policy_is_being_read_is_seen_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.json"
    write(path)
    file = PolicyFile(path)
    read = Path.read_bytes

    def and_change(self: Path) -> bytes:
        found = read(self)
        write(self, baseUrl="http://another/v1")
        return found

    monkeypatch.setattr(Path, "read_bytes", and_change)
    file.load()
    assert file.identity() != file._seen
    monkeypatch.undo()
    file.load()
    assert file.identity() == file._seen


def test_a_credential_file_whose_name_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    write(path, credentialsFile="a\0b")
    with pytest.raises(PolicyError) as refused:
        PolicyFile(path).load()
    assert refused.value.field == "$.upstreams[0].credentialsFile"
