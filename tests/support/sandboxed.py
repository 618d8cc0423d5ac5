"""Program that runs another one in the sandbox of a systemd unit: ``sandboxed.py UNIT PROGRAM ARGUMENT…``.

It needs no systemd that runs, but root, ``systemd-analyze`` and the Debian package python3-seccomp, so the
distribution's Python runs it. It applies what the unit says about system calls, address families, namespaces, real-time
scheduling and writable executable memory as systemd does (systemd.exec(5), systemd's seccomp-util.c), and the file
system and /proc. The user stays root, without capabilities.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

DISTRIBUTION_PYTHON: Final = "/usr/bin/python3"

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_MDWE: Final = 65
_PR_MDWE_REFUSE_EXEC_GAIN: Final = 1
_PROT_WRITE, _PROT_EXEC = 2, 4
#: sched(7): OTHER, BATCH and IDLE.
_NOT_REAL_TIME: Final = (0, 3, 5)
#: clone(2): CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME.
_NAMESPACES: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x80
_MOUNTS: Final = {
    "ProtectSystem=strict": "mount -o remount,bind,ro /",
    "ProcSubset=pid": "mount -t proc -o subset=pid,hidepid=invisible proc /proc",
}


def settings(unit: str) -> dict[str, list[str]]:
    """Return the values of each setting of a unit's text, in their order."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def allowed_calls(filters: Sequence[str], sets: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the system calls that the lines ``SystemCallFilter=`` leave; the first one must be a list to allow."""
    assert not filters[0].startswith("~")
    allowed = set(_flat("@default", sets))
    for line in filters:
        named = {call for word in line.removeprefix("~").split() for call in _flat(word, sets)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def _flat(word: str, sets: Mapping[str, Sequence[str]]) -> list[str]:
    return [call for one in sets[word] for call in _flat(one, sets)] if word.startswith("@") else [word]


def _call_sets() -> dict[str, list[str]]:
    """Return what each named set of system calls consists of, as the installed systemd defines it."""
    command = ["systemd-analyze", "syscall-filter"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TERM": "dumb"})
    sets: dict[str, list[str]] = {}
    for line in printed.stdout.splitlines():
        if line.startswith("@"):
            members = sets[line.strip()] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())
        elif line.startswith("#"):  # the kernel's other calls, which no set contains
            members = []
    return sets


def _conditions(unit: Mapping[str, Sequence[str]], seccomp: Any) -> dict[str, list[list[Any]]]:
    """Return the calls that are allowed with some arguments alone; any of a call's lists of conditions suffices."""
    arg, equal, masked = seccomp.Arg, seccomp.EQ, seccomp.MASKED_EQ
    found: dict[str, list[list[Any]]] = {}
    if "RestrictAddressFamilies" in unit:
        families = unit["RestrictAddressFamilies"][-1].split()
        found["socket"] = [[arg(0, equal, getattr(socket, family))] for family in families]
    if unit.get("RestrictRealtime") == ["yes"]:
        found["sched_setscheduler"] = [[arg(1, equal, policy)] for policy in _NOT_REAL_TIME]
    if unit.get("RestrictNamespaces") == ["yes"]:
        found |= {call: [[arg(0, masked, _NAMESPACES, 0)]] for call in ("clone", "unshare")} | {"setns": []}
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        both = _PROT_WRITE | _PROT_EXEC
        found["mmap"] = [[arg(2, masked, both, protection)] for protection in (0, _PROT_WRITE, _PROT_EXEC)]
        found |= {call: [[arg(2, masked, _PROT_EXEC, 0)]] for call in ("mprotect", "pkey_mprotect")}
    return found


def _filter_calls(unit: Mapping[str, Sequence[str]]) -> None:
    import seccomp  # noqa: PLC0415 - only the distribution's Python has it

    refused = seccomp.ERRNO(getattr(errno, unit["SystemCallErrorNumber"][-1]))
    calls = seccomp.SyscallFilter(defaction=refused)
    conditions = _conditions(unit, seccomp)
    for name in sorted(allowed_calls(unit["SystemCallFilter"], _call_sets())):
        if seccomp.resolve_syscall(seccomp.Arch(), name) < 0:
            continue  # of another architecture
        if name == "clone3":  # its flags are in memory, where no filter sees them: libc takes clone instead
            calls.add_rule(seccomp.ERRNO(errno.ENOSYS), name)
            continue
        for condition in conditions.get(name, [[]]):
            calls.add_rule(seccomp.ALLOW, name, *condition)
    calls.load()


def _enter(unit: Mapping[str, Sequence[str]]) -> None:
    """Apply the sandbox to this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    # Refused before Linux 6.3, where systemd has its filter alone.
    libc.prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    _filter_calls(unit)


def sandbox(unit: Path) -> list[str]:
    """Return the words to put before a command, which then runs in the sandbox of a unit."""
    lines = unit.read_text().splitlines()
    mounts = " && ".join(command for line, command in _MOUNTS.items() if line in lines)
    return [
        *("unshare", "--mount", "sh", "-c", f'{mounts or "true"} && exec "$@"', "sh"),
        *("setpriv", "--bounding-set=-all", "--inh-caps=-all"),
        *(DISTRIBUTION_PYTHON, __file__, str(unit)),
    ]


if __name__ == "__main__":
    _enter(settings(Path(sys.argv[1]).read_text()))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the tests name the program
