"""A Debian arm64 root whose programs run on this machine by qemu's user emulation."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_HANDLER = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
_SCRIPT = """
mount -t overlay overlay -o lowerdir={base},upperdir={disk}/upper,workdir={disk}/work {disk}/root
mount -t proc proc {disk}/root/proc
mount --rbind /dev {disk}/root/dev
mount -t tmpfs tmpfs {disk}/root/tmp
exec sleep infinity
"""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"}


def register() -> None:
    """Have the kernel run arm64 programs by qemu; skip the test where that cannot be."""
    if not (_BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)], check=False)
    if (_BINFMT / "qemu-aarch64").exists():
        return
    if not _HANDLER.exists() or not (_BINFMT / "register").exists():
        pytest.skip("no emulation of arm64: apt-get install qemu-user-static, and a kernel with binfmt_misc")
    (_BINFMT / "register").write_text(_HANDLER.read_text().strip())


class Emulated:
    """The root, with a layer over it that is thrown away; its processes end with `close`."""

    def __init__(self, base: Path, disk: Path, kit: Path) -> None:
        """`kit` lies in it as /kit."""
        self.root = disk / "root"
        for part in ("upper", "work", "root"):
            (disk / part).mkdir(parents=True)
        shutil.copytree(kit, disk / "upper" / "kit")
        script = _SCRIPT.format(base=base, disk=disk)
        unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        self._holder = subprocess.Popen([*unshare, "sh", "-ec", script], stdin=subprocess.DEVNULL)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Begin a command in it."""
        inside = self._first()
        enter = ["nsenter", "--target", str(inside), "--mount", "--pid", "--", "chroot", str(self.root)]
        process = subprocess.Popen(
            [*enter, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(self, *command: str, timeout_s: float = 900.0) -> str:
        """Both streams of a command in it that must succeed."""
        process = self.start(*command)
        said, _ = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, f"{' '.join(command)} ended with {process.returncode}:\n{said}"
        return said

    def close(self) -> None:
        """End all that runs in it."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self._holder.kill()
        self._holder.wait()

    def _first(self) -> int:
        """The process that holds its mounts, once all are made."""
        while True:
            assert self._holder.poll() is None, "the mounts could not be made"
            children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
            for child in children:
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{child}/comm").read_text().strip() == "sleep":
                        return int(child)
