"""Completion: kubectl calls ``kubectl_complete-tenant`` with what stands after ``kubectl tenant``.

https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/#completion: candidates line by line, then a directive.
"""

from collections.abc import Callable, Sequence

#: Cobra's ShellCompDirectiveNoFileComp: nothing here is a file.
NO_FILES = ":4"
#: Cobra's ShellCompDirectiveDefault: let the shell complete files.
FILES = ":0"

#: Commands, and whether a Tenant's name follows.
COMMANDS = {
    "list": False,
    "describe": True,
    "diff": True,
    "key": False,
    "suspend": True,
    "resume": True,
    "history": True,
    "rollback": True,
    "usage": True,
    "cost": True,
    "top": True,
}
KEY_COMMANDS = ("list", "show", "rotate", "revoke")

#: Options of each command, beside those that all have.
OPTIONS = {
    "list": ("--tier", "--unready", "--sort-by", "--selector"),
    "diff": ("--filename", "--field-manager"),
    "key": ("--key", "--grace-period", "--remove"),
    "suspend": ("--traffic", "--reconcile"),
    "rollback": ("--to", "--follow"),
    "usage": ("--selector",),
    "cost": ("--format", "--prices", "--region", "--share-idle", "--share-overhead"),
}
COMMON = ("--output", "--context", "--kubeconfig", "--platform-namespace")
VALUES = {"-o": ("json", "yaml", "wide", "name"), "--output": ("json", "yaml", "wide", "name")}
OF_FILES = frozenset({"--filename", "-f", "--kubeconfig", "--prices"})


def candidates(words: Sequence[str], tenants: Callable[[], Sequence[str]]) -> list[str]:
    """What the last word may become, then the directive. ``tenants`` is asked only when a name is wanted."""
    *before, present = words or [""]
    last = before[-1] if before else ""
    if last in OF_FILES:
        return [FILES]
    if last in VALUES:
        return _fitting(VALUES[last], present)
    plain = [word for word in before if not word.startswith("-")]
    if not plain:
        return _fitting(tuple(COMMANDS), present)
    command = plain[0]
    if present.startswith("-"):
        return _fitting((*OPTIONS.get(command, ()), *COMMON), present)
    if command == "key" and len(plain) == 1:
        return _fitting(KEY_COMMANDS, present)
    named = 2 if command == "key" else 1
    if len(plain) == named and (COMMANDS.get(command, False) or command == "key"):
        return _fitting(tuple(tenants()), present)
    return [NO_FILES]


def _fitting(words: Sequence[str], start: str) -> list[str]:
    return [*(word for word in words if word.startswith(start)), NO_FILES]
