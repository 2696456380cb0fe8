"""``tenantry <command>``: one image, one command, a process for each role.

The table names modules as text, so that a process loads only the role that it plays:
a tenant's pod never pays for the operator's imports.
"""

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence

COMMANDS = {
    "serve": (
        "tenantry_service.serve:main",
        "run an OpenAI-compatible endpoint (a tenant's pod, or a laptop with --upstream)",
    ),
    "operator": ("tenantry_operator.main:main", "reconcile Tenants into namespaces, keys and endpoints"),
    "ledger": ("tenantry_service.writer.main:main", "move usage events from the tenants' streams to PostgreSQL"),
    "usage": ("tenantry_usage.main:main", "what tenants have used: a table, CSV or a FOCUS 1.2 dataset"),
    "activator": (
        "tenantry_service.activator.main:main",
        "take requests for tenants that sleep: wake them up, wait, pass on",
    ),
    "agent": ("tenantry_operator.agent.main:main", "note on a Node what EC2 instance metadata says of its end"),
    "serve-from-environment": (
        "tenantry.from_environment:main",
        "the same, where the policy and the upstream's key come as environment variables",
    ),
    "new-endpoint": ("tenantry.new_endpoint:main", "make a key and a policy for an endpoint without the operator"),
    "cost": ("tenantry_cost.main:main", "what so many tenants cost a month on five AWS services, line by line"),
    "showback": ("tenantry_meter.main:main", "record what tenants cost, hour by hour; OpenCost's API and FOCUS rows"),
    "advise": ("tenantry_advise.main:main", "four questions about what is to run, and where it should"),
}


def usage() -> str:
    """The help text: a line for each command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {help_text}" for name, (_, help_text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tenantry <command> [options]",
            "",
            *lines,
            "",
            "`tenantry <command> --help` lists a command's options.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (2 for a command that does not exist)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(f"tenantry: no command {name!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        status = _command(name)(rest)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` has seen enough
        return 0
    return status


def _command(name: str) -> Callable[[Sequence[str]], int]:
    """Import a command: the greater part of what a tenant that sleeps waits for."""
    module, _, function = COMMANDS[name][0].partition(":")
    gc.disable()  # what a module defines stays: the collector would look at all of it time and again
    try:
        command: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), function)
    finally:
        gc.enable()
    return command


if __name__ == "__main__":
    sys.exit(main())
