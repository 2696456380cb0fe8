"""An OCI runtime that leaves out the capabilities this machine cannot grant, then becomes runc.

On machines whose capability bounding set is short (some micro-VMs and sandboxes) every `--privileged` container fails
with "unable to apply caps: operation not permitted", for Docker asks for all that the kernel knows. This program stands
between Docker's shim and runc: it reads the bundle's config.json (`create`, `run`) or the process file (`exec`), takes
out what cannot be granted, clamps a negative oomScoreAdj to 0 (it needs CAP_SYS_RESOURCE), and executes runc.

Run as `python3 -I -S runtime.py RUNC ARGUMENT...`; imports as little as possible, for it starts with every container.
"""

from __future__ import annotations

import json
import os
import sys

#: Names by number, capabilities(7). Later ones than these are not known to any runc that we meet.
CAPABILITIES = (  # noqa: SIM905 - forty quoted words are harder to read
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()


def granted(status: str) -> frozenset[str]:
    """Return the names of the capabilities in the bounding set of a /proc/<pid>/status text."""
    bounding = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:"))
    return frozenset(f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if bounding >> number & 1)


def filtered_process(process: dict[str, object], allowed: frozenset[str]) -> dict[str, object]:
    """Return an OCI process object (runtime-spec, config.md#process) that asks for nothing that is not allowed."""
    result = dict(process)
    capabilities = process.get("capabilities")
    if isinstance(capabilities, dict):
        result["capabilities"] = {
            kind: [name for name in names or [] if name in allowed] for kind, names in capabilities.items()
        }
    adjustment = process.get("oomScoreAdj")
    if isinstance(adjustment, int) and adjustment < 0 and "CAP_SYS_RESOURCE" not in allowed:
        result["oomScoreAdj"] = 0
    return result


def option(argv: list[str], *names: str) -> str | None:
    """Return the value of the first of the options that is among the arguments (`--name value` or `--name=value`)."""
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in names:
            if equals:
                return value
            return argv[index + 1] if index + 1 < len(argv) else None
    return None


def rewrite(path: str, allowed: frozenset[str], *, is_process: bool) -> None:
    """Filter the process file, or the bundle's config.json, in place."""
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    if is_process:
        document = filtered_process(document, allowed)
    elif isinstance(document.get("process"), dict):
        document["process"] = filtered_process(document["process"], allowed)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file)


def main(argv: list[str]) -> None:
    """Filter what the arguments name, then become runc (does not return)."""
    runc, arguments = argv[0], argv[1:]
    if {"create", "run", "exec"} & set(arguments):
        with open("/proc/self/status", encoding="ascii") as status:
            allowed = granted(status.read())
        bundle = option(arguments, "--bundle", "-b")
        process = option(arguments, "--process", "-p") if "exec" in arguments else None
        if process:
            rewrite(process, allowed, is_process=True)
        elif bundle:
            rewrite(os.path.join(bundle, "config.json"), allowed, is_process=False)
    os.execv(runc, [runc, *arguments])  # noqa: S606 - becoming runc is the point


if __name__ == "__main__":
    main(sys.argv[1:])
