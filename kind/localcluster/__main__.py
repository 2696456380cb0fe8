"""The command line: `PYTHONPATH=kind python3 -m localcluster <command>`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from localcluster import cluster, status, tools
from localcluster.machine import look
from localcluster.paths import Checkout
from localcluster.steps import Refusal, Step, StepFailed, StepLog, run_steps

#: Commands of other modules: each is imported only when it is asked for, and has `main(argv) -> int`.
ELSEWHERE = {
    "check": "localcluster.checks",
    "compiled": "localcluster.compiled",
    "demo": "localcluster.demo",
    "images": "localcluster.images",
    "render-helper": "localcluster.renderhelper",
    "venv": "localcluster.venv",
}


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit status: 0 well, 1 a step failed, 2 refused, 130 interrupted."""
    try:
        if argv and argv[0] in ELSEWHERE:
            return int(importlib.import_module(ELSEWHERE[argv[0]]).main(argv[1:]))
        return _run(_parser().parse_args(argv))
    except Refusal as refusal:
        print(f"\nrefused: {refusal.message}\nremedy:  {refusal.remedy}", file=sys.stderr)
        return 2
    except StepFailed as failure:
        print(f"\nfailed: {failure}\n--- the end of {failure.log}:\n{failure.tail}\n---", file=sys.stderr)
        if failure.remedy:
            print(f"remedy: {failure.remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    checkout = Checkout.here()
    if options.command == "up":
        look()
        made = cluster.up(checkout, options.name, node_image=options.node_image, port=options.port)
        print(f"\nexport KUBECONFIG={made.kubeconfig}\nhost ports (each is a node port): {made.node_ports}")
    elif options.command == "down":
        cluster.down(checkout, None if options.all else options.name)
    elif options.command == "status":
        print(status.text(checkout))
    else:
        built = ("kind", "helm", "kwok", "kube")
        run_steps([_build(checkout, name) for name in built], checkout.log_dir)
        for path in (*(tools.place(checkout, name) for name in built[:3]), tools.kubectl(checkout)):
            print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description="The local Kubernetes cluster of this checkout.")
    parser.epilog = f"further commands: {', '.join(sorted(ELSEWHERE))}"
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring a cluster up; again if it is up already")
    up.add_argument("--name", choices=cluster.NAMES, default="demo")
    up.add_argument("--node-image", metavar="REF", help="a node image instead of the published one or our own")
    up.add_argument("--port", type=int, help="the first host port (a node port); refused when it is taken")
    down = commands.add_parser("down", help="remove a cluster, and with the last one the engine")
    which = down.add_mutually_exclusive_group()
    which.add_argument("--name", choices=cluster.NAMES, default="demo")
    which.add_argument("--all", action="store_true", help="every cluster of this checkout")
    commands.add_parser("status", help="what runs, and where")
    commands.add_parser("tools", help="build kind, helm, kwok and kubectl, and print where they are")
    return parser


def _build(checkout: Checkout, name: str) -> Step:
    def run(log: StepLog) -> None:
        tools.ensure(checkout, name, log)

    return Step(f"build {name}", run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
