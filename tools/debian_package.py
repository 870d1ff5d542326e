"""Makes the Debian package of the agent from a wheelhouse, by dpkg-deb: `make debian-package`.

One package for all architectures: it carries the installer and the wheels of aarch64 and x86-64, and makes the
environment when it is configured, with the Python that is there. No network is needed for that.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARE = Path("usr/share/phasewatt-agent")
CONTROL = """\
Package: phasewatt-agent
Version: {version}
Architecture: all
Maintainer: phasewatt <phasewatt@localhost>
Installed-Size: {kilobytes}
Depends: python3 (>= 3.10), python3 (<< 3.14), python3-venv, passwd
Recommends: chrony | time-daemon
Section: science
Priority: optional
Description: measures what each phase of LLM inference costs on this board
 The agent of phasewatt: runs phase-separated inference workloads, reads the
 board's power, and delivers over MQTT to a collector. Its environment is made
 under /opt/phasewatt from wheels in this package.
"""
INSTALLER = f"/{SHARE}/deploy/install-agent.sh"
SCRIPTS = {
    "postinst": f"""\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
service=""
[ -d /run/systemd/system ] || service=--no-service
sh {INSTALLER} --wheelhouse /{SHARE}/wheelhouse $service
""",
    "prerm": f"""\
#!/bin/sh
set -e
[ "$1" = remove ] || exit 0
sh {INSTALLER} --uninstall
""",
    "postrm": """\
#!/bin/sh
set -e
[ "$1" = purge ] || exit 0
rm -rf /var/lib/phasewatt-agent /etc/phasewatt
if id phasewatt >/dev/null 2>&1; then userdel phasewatt; fi
""",
}


def main() -> int:
    """Make the package and name it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--wheelhouse", type=Path, default=ROOT / "wheelhouse", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="directory (default: %(default)s)")
    arguments = parser.parse_args()
    wheels = sorted(arguments.wheelhouse.glob("phasewatt-*.whl"))
    if len(wheels) != 1:
        sys.exit(f"debian_package: expected one phasewatt-*.whl in {arguments.wheelhouse}: make wheelhouse")
    version = wheels[0].name.split("-")[1]
    arguments.out.mkdir(parents=True, exist_ok=True)
    package = arguments.out / f"phasewatt-agent_{version}_all.deb"
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), arguments.wheelhouse, version)
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", folder, str(package)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"made {package}, {package.stat().st_size / 1e6:.1f} MB")
    return 0


def fill(tree: Path, wheelhouse: Path, version: str) -> None:
    """The package's files and what dpkg reads of it."""
    tree.chmod(0o755)
    share = tree / SHARE
    shutil.copytree(wheelhouse, share / "wheelhouse")
    for name in ("installer", "systemd"):
        shutil.copytree(ROOT / "deploy" / name, share / "deploy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "deploy/install-agent.sh", share / "deploy")
    documents = tree / "usr/share/doc/phasewatt-agent"
    documents.mkdir(parents=True)
    shutil.copy(ROOT / "LICENSE", documents / "copyright")
    shutil.copy(ROOT / "docs/install.md", documents)
    kilobytes = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(CONTROL.format(version=version, kilobytes=kilobytes), encoding="utf-8")
    for name, script in SCRIPTS.items():
        (control / name).write_text(script, encoding="utf-8")
        (control / name).chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
