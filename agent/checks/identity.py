"""By what this board proves who it is, and for how long that holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from agent.checks import Finding, Subject
from agent.joining import day
from agent.kernel_files import text
from phasewatt import certificate
from phasewatt.certificate import Certificate

WARNED_S = 45 * 86400.0  # before its end: boards in the field are visited seldom
_WAITS = "records wait in the outbox"


def identity(subject: Subject) -> Iterator[Finding]:
    """The certificate, if it is by one."""
    broker = subject.broker
    if broker is None or broker.tls is None or broker.tls.cert_path is None:
        return
    found = certificate.described(text(Path(broker.tls.cert_path)) or "")
    yield finding(found, subject.device, time.time())


def finding(found: Certificate, device: str | None, now_unix_s: float) -> Finding:
    """Whether a certificate is this board's, and good now and for a while."""
    name, left_s = found.common_name, found.not_after_unix_s - now_unix_s
    renew = f"phasewatt-collector enroll {name} --renew, and phasewatt-agent join here"
    if device is not None and name != device:
        verdict = f"the certificate is of {name}, and this board is {device}: the broker refuses what it says"
        return Finding("identity", None, verdict, f"phasewatt-collector enroll {device}, and join here")
    if now_unix_s < found.not_before_unix_s:
        verdict = (
            f"the certificate is good from {day(found.not_before_unix_s)}, and this board's clock says "
            f"{day(now_unix_s)}: {_WAITS}"
        )
        return Finding("identity", None, verdict, "set the clock: run chrony or ntpd, or date --set")
    if left_s <= 0:
        return Finding("identity", None, f"the certificate expired on {day(found.not_after_unix_s)}: {_WAITS}", renew)
    ends = f"certificate of {name}, good until {day(found.not_after_unix_s)}"
    if left_s < WARNED_S:
        return Finding("identity", None, f"{ends}, {left_s / 86400:.0f} days from now", renew)
    return Finding("identity", True, ends)
