"""``kubectl tenant``: the command line, and what people read when something goes wrong."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tenantry_operator.kube import config, errors

from tenantry_kubectl import change, cost, diff, keys, show, usage
from tenantry_kubectl.api import Api
from tenantry_kubectl.complete import NO_FILES, candidates
from tenantry_kubectl.output import Form
from tenantry_kubectl.seen import ManagedList
from tenantry_kubectl.session import TENANTS, Problem, Session

#: Exit status of a command that could not do what was asked; `diff` has 1 for "differs".
FAILED = 1
FAILED_DIFF = 2

Command = Callable[[Session, argparse.Namespace], int]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: as kubectl")
    common.add_argument("--context", default="", metavar="NAME", help="of the kubeconfig; default: the current one")
    common.add_argument(
        "--platform-namespace",
        default="tenantry-system",
        metavar="NAME",
        help="where Tenantry is installed (%(default)s)",
    )
    shown = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    shown.add_argument("-o", "--output", type=_form, default=Form.TEXT, metavar="json|yaml|wide|name")
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument("-l", "--selector", metavar="LABELS", help="only Tenants with these labels")
    top = argparse.ArgumentParser(
        prog="kubectl tenant",
        description="Tenants of a Tenantry platform: see, price and handle them.",
        allow_abbrev=False,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, what: str, run: Command, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what, parents=[common, *parents], allow_abbrev=False)
        made.set_defaults(run=run)
        return made

    listed = add("list", "all Tenants, with the columns of kubectl get", show.list_tenants, shown, chosen)
    listed.add_argument("--tier", help="only those of this tier")
    listed.add_argument("--unready", action="store_true", help="only those that are not Ready")
    listed.add_argument("--sort-by", metavar="COLUMN", help="for example spend")
    _named(add("describe", "conditions, limits, spend, quota, pods and Events of a Tenant", show.describe, shown))
    differ = add("diff", "what a file would change, or where a Tenant is not what it declares", diff.diff)
    differ.add_argument("name", nargs="?", metavar="TENANT")
    differ.add_argument("-f", "--filename", metavar="FILE", help="compare this manifest with what is live; - for stdin")
    differ.add_argument("--field-manager", default="kubectl", metavar="NAME", help="who would apply it (%(default)s)")
    _keys(commands.add_parser("key", help="API keys of a Tenant", allow_abbrev=False), common, shown)
    held = add("suspend", "hold a Tenant's traffic, or the operator's hands", change.suspend)
    _named(held)
    held.add_argument("--traffic", action="store_true", help="run no pods, keep everything else")
    held.add_argument("--reconcile", action="store_true", help="the operator changes nothing any more")
    _named(add("resume", "end what suspend began", change.resume))
    _named(add("history", "what was applied, and revisions to go back to", show.history, shown))
    back = add("rollback", "keep a Tenant on a former revision of its tier", change.rollback)
    _named(back)
    where = back.add_mutually_exclusive_group()
    where.add_argument("--to", metavar="REVISION", help="default: the last other one that it was Ready on")
    where.add_argument("--follow", action="store_true", help="instead: follow the tier again")
    used = add("usage", "requests, tokens and money of the budget's window", usage.usage, shown, chosen)
    used.add_argument("name", nargs="?", metavar="TENANT")
    cost.add(add("cost", "what each Tenant costs a month, by its share of the nodes", cost.cost, shown))
    busy = add("top", "CPU and memory of Tenants' pods at the moment", usage.top, shown)
    busy.add_argument("name", nargs="?", metavar="TENANT")
    return top


def _keys(parse: argparse.ArgumentParser, common: argparse.ArgumentParser, shown: argparse.ArgumentParser) -> None:
    commands = parse.add_subparsers(required=True, metavar="COMMAND")
    table: tuple[tuple[str, str, Command, bool], ...] = (
        ("list", "names, ids and ends of keys", keys.list_keys, True),
        ("show", "print a key", keys.show, False),
        ("rotate", "issue a new key; the former stays good for its grace period", keys.rotate, False),
        ("revoke", "refuse a key within seconds, and issue a new one", keys.revoke, False),
    )
    for name, what, run, formed in table:
        parents = [common, *([shown] if formed else [])]
        made = commands.add_parser(name, help=what, description=what, parents=parents, allow_abbrev=False)
        made.set_defaults(run=run)
        _named(made)
        if name != "list":
            made.add_argument("--key", default="default", metavar="NAME", help="(default: default)")
        if name == "rotate":
            made.add_argument(
                "--grace-period", metavar="DURATION", help="for example 24h; default: what the Tenant says"
            )
        if name == "revoke":
            made.add_argument("--remove", action="store_true", help="take the key out of the Tenant, issue none")


def _named(parse: argparse.ArgumentParser) -> None:
    parse.add_argument("name", metavar="TENANT")


def _form(given: str) -> Form:
    try:
        return Form(given)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given!r} is none of: json, yaml, wide, name") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    options = parser().parse_args(argv)
    failed = FAILED_DIFF if options.run is diff.diff else FAILED
    run: Command = options.run
    try:
        with Api(config.load(options.kubeconfig, context=options.context)) as api:
            return run(Session(api, options.platform_namespace, datetime.now(UTC)), options)
    except Problem as problem:
        return _fail(str(problem), failed)
    except errors.KubeError as error:
        return _fail(explained(error), failed)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` has seen enough
        return 0


def explained(error: errors.KubeError) -> str:
    """What went wrong, and what to do about it."""
    match error:
        case errors.Unauthorized():
            return f"{error.message or 'the API server does not know you'}; log in again, or choose another --context"
        case errors.Forbidden():
            return f"{error.message}; ask whoever runs the platform for that right"
        case errors.NotFound():
            return (
                "the cluster knows no Tenants: Tenantry is not installed on it, or --context is another cluster"
                f" ({error.message})"
            )
        case errors.Unreachable():
            return f"{error}; is the cluster up, and --context the right one?"
        case _:
            return str(error)


def _fail(message: str, status: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"error: {message}\n")
    return status


def complete(argv: Sequence[str] | None = None) -> int:
    """``kubectl_complete-tenant``: print candidates for the last argument. Never fails loudly: a shell is waiting."""

    def tenants() -> Sequence[str]:
        with Api(config.load(None), timeout=2.0) as api:
            return [each.metadata.name for each in api.get(TENANTS, ManagedList).items]

    try:
        found = candidates(list(sys.argv[1:] if argv is None else argv), tenants)
    except errors.KubeError:
        found = [NO_FILES]
    print("\n".join(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
