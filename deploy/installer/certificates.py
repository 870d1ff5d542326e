"""Says which certificates in a bundle, or named by an agent.toml, have expired; exit status 1 if any has.

Run by the installer with the host's own Python before anything is installed, so by Python 3.8 too.
"""

from __future__ import annotations

import json
import re
import ssl
import sys
import tempfile
import time
from pathlib import Path

_NAMED = re.compile(r'^\s*(?:ca_file|cert_file)\s*=\s*"([^"]+)"', re.MULTILINE)
_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def main() -> int:
    """Look at the file that is named."""
    expired = []
    for origin, pem in certificates(Path(sys.argv[1])):
        ended = not_after(pem)
        if ended is not None and ssl.cert_time_to_seconds(ended) < time.time():
            expired.append(f"{origin}: its certificate expired on {ended}")
    print("; ".join(expired))
    return 1 if expired else 0


def certificates(file: Path) -> list[tuple[str, str]]:
    """Each certificate of a bundle or of the files that settings name, with its origin."""
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        bundle = json.loads(text).get("bundle", {})
        texts = [(f"{file} ({name})", str(bundle.get(name) or "")) for name in ("ca", "certificate")]
    except (ValueError, AttributeError):
        named = [Path(name) for name in _NAMED.findall(text)]
        texts = [(str(name), name.read_text(encoding="utf-8", errors="replace")) for name in named if name.is_file()]
    return [(origin, pem) for origin, content in texts for pem in _PEM.findall(content)]


def not_after(pem: str) -> str | None:
    """The last moment of a certificate, in ssl's words; None where this Python does not tell, or it is none."""
    decode = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)
    if decode is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        try:
            ended: str | None = decode(file.name).get("notAfter")
        except (ssl.SSLError, ValueError):
            return None
    return ended


if __name__ == "__main__":
    sys.exit(main())
