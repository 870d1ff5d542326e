"""A Debian machine that boots, under systemd-nspawn: its disk outlives reboots and power cuts, and is thrown away last.

It shares this host's network, so that a collector here is reached on loopback. cgroup2 is mounted in a mount namespace
of its own, because the host may have the older kind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

_BOOT_S = 120.0
_WANTS_REBOOT = 133  # what nspawn ends with, for whoever started it to start it again
_SCRIPT = """
mount -t overlay overlay -o lowerdir={base},upperdir={disk}/upper,workdir={disk}/work {disk}/root
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn  # it refuses to clean up on a disk, and would not boot again
exec systemd-nspawn --quiet --boot --directory={disk}/root --register=no --keep-unit --machine={name} --console=pipe \
  --resolv-conf=off --timezone=off --link-journal=no
"""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Machine:
    """One that is off at first."""

    def __init__(self, base: Path, disk: Path, name: str) -> None:
        self._base, self._disk, self._name = base, disk, name
        self._nspawn: subprocess.Popen[bytes] | None = None
        for part in ("upper", "work", "root"):
            (disk / part).mkdir(parents=True)
        self.put("", "etc/machine-id")

    def put(self, content: str, path: str) -> None:
        """Write a file on its disk while it is off."""
        file = self._disk / "upper" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def carry(self, source: Path, path: str) -> None:
        """Copy a directory onto its disk while it is off."""
        shutil.copytree(source, self._disk / "upper" / path, ignore=shutil.ignore_patterns("__pycache__"))

    def boot(self) -> None:
        """Switch it on, and wait until it is up."""
        script = _SCRIPT.format(base=self._base, disk=self._disk, name=self._name)
        with (self._disk / "console").open("ab") as console:
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self._await_up()

    def run(self, *command: str, fails: bool = False, timeout_s: float = 300.0) -> str:
        """Both streams of a command in it that must succeed, or, if `fails`, must not."""
        done = self.start(*command).communicate(timeout=timeout_s)[0]
        assert (self._code != 0) == fails, f"{' '.join(command)} ended with {self._code}:\n{done}"
        return done

    def start(self, *command: str) -> _Inside:
        """Begin a command in it."""
        leader = self._leader()
        assert leader is not None, "the machine is off"
        enter = ["nsenter", "--target", str(leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]
        return _Inside(self, [*enter, *command])

    def reboot(self) -> None:
        """Restart it in good order: every service is stopped, the kernel is asked to reboot, and it comes up again."""
        assert self._nspawn is not None
        self.start("systemctl", "reboot").communicate()
        assert self._nspawn.wait(_BOOT_S) == _WANTS_REBOOT
        self.boot()

    def cut_power(self) -> None:
        """Switch it off as a power cut does: nothing in it learns of it."""
        leader = self._leader()
        if leader is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(leader, signal.SIGKILL)
        if self._nspawn is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(10)
            self._nspawn.kill()
            self._nspawn.wait()
        self._nspawn = None

    _code: int | None = None

    def _leader(self) -> int | None:
        """Its process 1, by its number here."""
        if self._nspawn is None:
            return None
        pid = self._nspawn.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        names = {int(child): Path(f"/proc/{child}/comm") for child in children}
        return next((child for child, comm in names.items() if comm.read_text().strip() == "systemd"), None)

    def _await_up(self) -> None:
        deadline_s = time.monotonic() + _BOOT_S
        state = "no process 1"
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError, AssertionError):
                if self._leader() is not None:
                    state = self.start("systemctl", "is-system-running").communicate()[0].strip()
                    if state in {"running", "degraded"}:
                        return
            time.sleep(0.2)
        console = (self._disk / "console").read_text(errors="replace")[-2000:]
        raise AssertionError(f"the machine did not come up ({state}):\n{console}")


class _Inside:
    """A command that runs in a machine."""

    def __init__(self, machine: Machine, command: list[str]) -> None:
        self._machine = machine
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_ENVIRONMENT,
            start_new_session=True,
        )

    def communicate(self, timeout: float = 60.0) -> tuple[str, None]:
        """Its words, when it has ended."""
        try:
            said, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            said = self.kill()
            raise AssertionError(f"did not end within {timeout} s:\n{said}") from None
        self._machine._code = self.process.returncode
        return said, None

    def kill(self) -> str:
        """End it with all that it started here, at once; its words until then."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.communicate()[0]
