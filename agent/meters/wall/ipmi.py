"""A server's own supply as its management controller measures it: `ipmitool dcmi power reading`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

from agent.meters.wall.latest import Latest
from agent.meters.wall.spec import Quantity, Spec, number, password
from phasewatt.errors import ConfigInvalid, MeterUnavailable

_TIMEOUT_S = 10.0
_EVERY_S = 2.0
_POWER = re.compile(r"^\s*Instantaneous power reading:\s+(\d{1,9}) Watts\s*$", re.MULTILINE)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*")  # nothing that ipmitool would take for an option


class Ipmi:
    """See `Source`; this host's controller, or that of `host` over the network."""

    keys = frozenset({"host", "user", "password_file", "every"})
    quantities = (Quantity("W", ("Instantaneous power reading",), 1.0),)
    silence = "ipmitool answers without a power reading; this controller may not measure power"

    def __init__(self, spec: Spec, program: str = "ipmitool") -> None:
        if spec.body:
            raise ConfigInvalid(f"external: expected ipmi or ipmi?host=HOST&..., got ipmi:{spec.body}")
        self._every_s = number(spec, "every", 0.5, 60) or _EVERY_S
        self._command = [program, *_remote(spec), "dcmi", "power", "reading"]

    def follow(self, latest: Latest, wait: Callable[[float], bool]) -> None:
        """See `Source.follow`."""
        while True:
            match = _POWER.search(self._answer())
            if match is None:
                latest.drop("an answer of ipmitool without a power reading")
            elif int(match[1]) == 0:
                latest.drop("0 W of a host that runs: its controller does not measure power")
            else:
                latest.take([float(match[1])])
            if wait(self._every_s):
                return

    def _answer(self) -> str:
        try:
            done = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise MeterUnavailable(f"ipmitool did not answer in {_TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise MeterUnavailable(f"ipmitool does not start ({error.strerror}): apt-get install ipmitool") from error
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[:200] or f"exit code {done.returncode}"
            raise MeterUnavailable(f"ipmitool refuses ({said}); run as root, with a controller that has DCMI")
        return done.stdout


def _remote(spec: Spec) -> list[str]:
    """The arguments that name another controller than this host's own."""
    host, user, file = (spec.options.get(key) for key in ("host", "user", "password_file"))
    if host is None:
        if user is not None or file is not None:
            raise ConfigInvalid("external.host: expected beside user and password_file")
        return []
    if not _HOST.fullmatch(host):
        raise ConfigInvalid(f"external.host: expected a host name or address, got {host!r}")
    if user is None or file is None:
        raise ConfigInvalid("external.user: expected beside host, with password_file")
    password(spec, user)
    return ["-I", "lanplus", "-H", host, f"-U{user}", "-f", file]
