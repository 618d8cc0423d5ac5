"""Program that runs another one in a container made from a directory, as a runtime does with an image.

``contained.py SETTINGS ROOT VOLUME PROGRAM ARGUMENT…``, in new PID, mount and network namespaces (:data:`UNSHARE`):
read-only root, no capabilities, no new privileges, the user and the environment of the settings and nothing else,
loopback alone, a mounted VOLUME at ``/run/paraphina`` and neither ``/tmp`` nor ``/dev/shm`` to write to.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

UNSHARE: Final = ("unshare", "--pid", "--fork", "--mount", "--net", "--ipc", "--uts", "--propagation", "private")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
#: netdevice(7).
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
#: prctl(2).
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_LAST_CAPABILITY: Final = Path("/proc/sys/kernel/cap_last_cap")


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["/bin/mount", *arguments], check=True)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", answer, 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _mount_all(root: Path, volume: Path) -> None:
    _mount("--bind", root, root)
    _mount("-t", "proc", "proc", root / "proc")
    _mount("-t", "tmpfs", "-o", "mode=755,size=64k", "tmpfs", root / "dev")
    for name in _DEVICES:
        (root / "dev" / name).touch()
        _mount("--bind", f"/dev/{name}", root / "dev" / name)
    _mount("-o", "remount,ro", root / "dev")
    _mount("--bind", volume, root / "run/paraphina")
    _mount("-o", "remount,bind,ro", root)


def drop_privileges(user: str) -> None:
    """Become an unprivileged user, ``UID:GID``, without a way back."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(int(_LAST_CAPABILITY.read_text()) + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    uid, gid = (int(number) for number in user.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """Return the environment of an image's settings."""
    return dict(one.split("=", 1) for one in settings["Env"])


def main(given: str, root: Path, volume: Path, command: list[str]) -> None:
    """Enter the container and become its first process."""
    settings = json.loads(given)
    _raise_loopback()
    _mount_all(root, volume)
    os.chdir(root)
    os.chroot(".")
    os.chdir(settings["WorkingDir"] or "/")
    drop_privileges(settings["User"])
    found = environment(settings)
    os.environ["PATH"] = found["PATH"]  # by which the program is found
    os.execvpe(command[0], command, found)  # noqa: S606 - the tests name the program


def enter(settings: dict[str, Any], pid: int, *command: str) -> list[str]:
    """Return the command that runs another one in the container whose first process has this pid, as ``exec`` does."""
    uid, gid = settings["User"].split(":")
    variables = [f"{name}={value}" for name, value in environment(settings).items()]
    inside = ["env", "-i", *variables, "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *command]
    return ["nsenter", f"--target={pid}", "--pid", "--net", "--ipc", "--uts", "--mount", "--root", "--wdns=/", *inside]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
