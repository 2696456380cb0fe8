"""``tenantry new-endpoint``: a policy and a key for an endpoint without the operator (ECS, EC2, Lambda, App Runner).

What it writes is the value of the secret that the templates in infra/ take: a JSON object with ``policy`` (which holds
only the key's digest) and ``upstreamKey``. The key itself is printed once and kept nowhere.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tenantry_service import laptop
from tenantry_service import policy as policies
from tenantry_service.policy import PolicyError

from tenantry.from_environment import UPSTREAM_KEY

USAGE_ERROR = 2
#: Where `tenantry serve-from-environment` puts the upstream's credential in a container.
CREDENTIALS_FILE = f"/tmp/tenantry-serve/{UPSTREAM_KEY}"  # noqa: S108


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        prog="tenantry new-endpoint",
        description="Make a key and the secret of an endpoint without the operator (docs/choosing-compute.md).",
        allow_abbrev=False,
    )
    parse.add_argument("--name", required=True, help="the tenant's name")
    parse.add_argument("--upstream", metavar="URL", default="https://api.openai.com/v1", help="(default: OpenAI)")
    parse.add_argument(
        "--upstream-key-file", type=Path, metavar="PATH", help="the upstream's credential (default: $OPENAI_API_KEY)"
    )
    parse.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the secret goes; must not exist")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Write the secret, print the key. Returns 0, or 2 when it cannot be made as asked."""
    options = parser().parse_args(argv)
    key = laptop.new_key()
    try:
        credential = laptop.upstream_credential(options.upstream_key_file, os.environ)
        text = secret(options.name, options.upstream, key, credential)
        descriptor = os.open(options.out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except (PolicyError, OSError) as error:
        sys.stderr.write(f"tenantry new-endpoint: {error}\n")
        return USAGE_ERROR
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"API key (shown once)  {key}\nSecret                {options.out}")
    return 0


def secret(name: str, upstream: str, key: str, credential: str | None) -> str:
    """The secret's value.

    Raises:
        PolicyError: the service would refuse the policy.
    """
    policy = laptop.policy(name, upstream, key, None if credential is None else CREDENTIALS_FILE)
    document = policies.encode(policy)
    policies.decode(document)
    return json.dumps({"policy": document.decode(), "upstreamKey": credential or ""})
