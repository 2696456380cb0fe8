"""``tenantry serve --upstream URL``: one tenant, one key, no cluster."""

import hashlib
import os
import secrets
import string
from collections.abc import Mapping
from pathlib import Path

from tenantry_service import policy as policies
from tenantry_service.policy import Key, Policy, PolicyError, Upstream
from tenantry_service.proxy.snapshot import Snapshot, TenantView
from tenantry_service.reload import read_credential

TENANT = "local"
UPSTREAM = "upstream"
_ID_ALPHABET = string.ascii_lowercase + "234567"
_SECRET_ALPHABET = string.ascii_letters + string.digits


def default_state_dir() -> Path:
    """``$XDG_STATE_HOME/tenantry``, which is ``~/.local/state/tenantry`` unless set otherwise."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "tenantry"


def new_key() -> str:
    """``tn_<id>_<secret>``: 60 bits of id, 256 bits and more of secret."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))
    return f"tn_{key_id}_{''.join(secrets.choice(_SECRET_ALPHABET) for _ in range(43))}"


def own_key(state_dir: Path) -> str:
    """The key of this laptop: made once, kept in ``<state_dir>/key`` for its owner only.

    Raises:
        PolicyError: the file cannot be written or read, or holds something else.
    """
    path = state_dir / "key"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_text(encoding="ascii").strip()
        else:
            key = new_key()
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(key + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError("--state-dir", f"{path}: {error}; give a directory that can be written") from error
    if len(key.split("_", 2)) != 3 or not key.startswith("tn_"):
        raise PolicyError("--state-dir", f"{path} holds no key; remove it, and a new one is made")
    return key


def upstream_credential(key_file: Path | None, environment: Mapping[str, str]) -> str | None:
    """The upstream's credential: from the file, else from ``OPENAI_API_KEY``, else none.

    Raises:
        PolicyError: the file cannot be read.
    """
    if key_file is not None:
        return read_credential(key_file, "--upstream-key-file")
    return environment.get("OPENAI_API_KEY", "").strip() or None


def policy(tenant: str, url: str, key: str, credentials_file: str | None = None) -> Policy:
    """The policy of one tenant without limits, with this key and this upstream.

    Raises:
        PolicyError: the URL cannot be used.
    """
    problem = policies.base_url_problem(url)
    if problem:
        raise PolicyError("--upstream", f"{url!r} {problem}")
    return policies.sealed(
        Policy(
            tenant=tenant,
            generation=1,
            keys=(Key(id=key.split("_")[1], name="default", sha256=hashlib.sha256(key.encode()).hexdigest()),),
            upstreams=(Upstream(name=UPSTREAM, base_url=url, credentials_file=credentials_file),),
        )
    )


def snapshot(url: str, key: str, credential: str | None) -> Snapshot:
    """What a laptop serves.

    Raises:
        PolicyError: the URL or the credential cannot be used.
    """
    return Snapshot([TenantView(policy(TENANT, url, key), {} if credential is None else {UPSTREAM: credential})])


def welcome(address: tuple[str, int], key: str, state_dir: Path) -> str:
    """What the terminal shows: the key, and a call to paste."""
    host, port = address[:2]
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    return f"""\
Endpoint  {base}
API key   {key}
State     {state_dir} (the key, and ledger.sqlite with every request's tokens and cost)

curl {base}/chat/completions \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "Say hello."}}]}}'

Ctrl-C ends it.
"""
