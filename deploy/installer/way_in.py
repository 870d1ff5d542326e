"""Looks at a bundle, or at the certificates that an agent.toml names: may this board use them, and now?

usage: way_in.py FILE [NAME]...   the names are those that this board has already, if any

Prints a line for each thing that is wrong: what, a tab, and the remedy. Run by the installer with the host's own Python
before anything is installed, so by Python 3.8 too. `phasewatt-agent join` looks again, and closer.
"""

from __future__ import annotations

import json
import re
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator  # noqa: UP035 - by Python 3.8 too

_NAMED = re.compile(r'^\s*(?:ca_file|cert_file)\s*=\s*"([^"]+)"', re.MULTILINE)
_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_CLOCK = "set this host's clock, which says {now}"
_ANEW = "phasewatt-collector enroll {who} --renew; if it should still hold, {clock}"


def main() -> int:
    """Look at the file that is named."""
    file, names = Path(sys.argv[1]), sys.argv[2:]
    for what, remedy in wrong(file, names, time.time()):
        print(f"{what}\t{remedy}")
    return 0


def wrong(file: Path, names: list[str], now_unix_s: float) -> Iterator[tuple[str, str]]:
    """What keeps this board from being let in by a file, each with its remedy."""
    text = file.read_text(encoding="utf-8", errors="replace")
    bundle = bundle_in(text)
    who = "DEVICE" if bundle is None else str(bundle.get("device"))
    for name in names:
        if bundle is not None and name != who:
            yield f"{file}: a bundle for {who}, and this board is {name}", f"phasewatt-collector enroll {name}"
            break
    clock = _CLOCK.format(now=time.strftime("%Y-%m-%d", time.gmtime(now_unix_s)))
    for origin, pem in certificates(file, text, bundle):
        begins, ends = dates(pem)
        if ends is not None and ssl.cert_time_to_seconds(ends) <= now_unix_s:
            yield f"{origin}: its certificate expired on {ends}", _ANEW.format(who=who, clock=clock)
        if begins is not None and ssl.cert_time_to_seconds(begins) > now_unix_s:
            yield f"{origin}: its certificate is good from {begins} on", clock


def bundle_in(text: str) -> dict[str, object] | None:
    """The bundle, if the file has the form of one."""
    try:
        found = json.loads(text)["bundle"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def certificates(file: Path, text: str, bundle: dict[str, object] | None) -> list[tuple[str, str]]:
    """Each certificate of a bundle or of the files that settings name, with its origin."""
    if bundle is not None:
        texts = [(f"{file} ({part})", str(bundle.get(part) or "")) for part in ("ca", "certificate")]
    else:
        named = [file.parent / name for name in _NAMED.findall(text)]
        texts = [(str(name), name.read_text(encoding="utf-8", errors="replace")) for name in named if name.is_file()]
    return [(origin, pem) for origin, content in texts for pem in _PEM.findall(content)]


def dates(pem: str) -> tuple[str | None, str | None]:
    """First and last moment of a certificate, in ssl's words; None where this Python does not tell, or it is none."""
    decode = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)
    if decode is None:
        return None, None
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        try:
            found = decode(file.name)
        except (ssl.SSLError, ValueError):
            return None, None
    return found.get("notBefore"), found.get("notAfter")


if __name__ == "__main__":
    sys.exit(main())
