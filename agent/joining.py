"""Installs the bundle that lets this board in: checked whole before anything is written, written whole or not at all.

```text
STATE/joined.toml          address, device, and the files below: what agent.toml leaves out
STATE/identity/ca.pem      whom to believe that it is the broker
STATE/identity/board.pem   certificate and key in one file, so that a renewal never leaves one without the other
STATE/identity/password    instead of board.pem, where boards prove themselves so
```

A living daemon reads them again at its next connection.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent import settings
from agent.kernel_files import text
from phasewatt import bundle as bundles
from phasewatt import certificate, topics
from phasewatt.bundle import Bundle
from phasewatt.certificate import Certificate
from phasewatt.errors import ConfigInvalid, StoreUnavailable

FOLDER = "identity"
_PURPOSE = "the certificate is not of the authority in the bundle"


def read(path: Path) -> Bundle:
    """The bundle in a file.

    Raises:
        ConfigInvalid: it cannot be read, or is not whole.
    """
    try:
        with path.open("rb") as file:
            content = file.read(bundles.MOST_BYTES + 1)
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return bundles.decode(content)
    except ConfigInvalid as error:
        raise ConfigInvalid(f"{path}: {error}") from error


def is_readable_by_others(path: Path) -> bool:
    """Whether others on this host could have read the secret in it."""
    return bool(path.stat().st_mode & (stat.S_IROTH | stat.S_IRGRP))


def join(bundle: Bundle, state: Path, asked: str | None, clock: Callable[[], float] = time.time) -> None:
    """Let this board in; `asked` is the name that its settings give it, if any.

    Raises:
        ConfigInvalid: the bundle is for another device, or its certificate is not good now or not of its authority.
        StoreUnavailable: the disk does not take it.
    """
    _check_device(bundle, state, asked)
    if bundle.certificate is not None:
        _check_dates(bundle.device, certificate.described(bundle.certificate), clock())
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o750)
        folder = state / FOLDER
        folder.mkdir(exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        _check_chain(bundle, folder)
        _install(bundle, state)
    except ssl.SSLError as error:
        raise ConfigInvalid(f"bundle: {_PURPOSE}, or not with its key; have it written anew") from error
    except OSError as error:
        raise StoreUnavailable(f"state directory {state}: {error.strerror}; choose another with --state-dir") from error


def _check_device(bundle: Bundle, state: Path, asked: str | None) -> None:
    if bundle.root != topics.ROOT:
        raise ConfigInvalid(
            f"bundle: of topics {bundle.root}, and this version speaks {topics.ROOT}: update one of them"
        )
    kept = text(state / "device")
    if asked is not None and asked != bundle.device:
        raise ConfigInvalid(f"bundle: for {bundle.device}, and the settings name this board {asked}: enroll {asked}")
    if kept is not None and kept != bundle.device:
        raise ConfigInvalid(
            f"bundle: for {bundle.device}, and {state} holds the records of {kept}: "
            f"enroll {kept}, or begin another --state-dir"
        )


def _check_dates(device: str, found: Certificate, now_unix_s: float) -> None:
    if found.common_name != device:
        raise ConfigInvalid(f"bundle: for {device} with a certificate of {found.common_name}; have it written anew")
    if now_unix_s < found.not_before_unix_s:
        raise ConfigInvalid(
            f"bundle: good from {day(found.not_before_unix_s)}, and this board's clock says {day(now_unix_s)}: "
            "set the clock, then join"
        )
    if now_unix_s >= found.not_after_unix_s:
        raise ConfigInvalid(
            f"bundle: it expired on {day(found.not_after_unix_s)} (this board's clock says {day(now_unix_s)}): "
            f"phasewatt-collector enroll {device} --renew"
        )


def day(unix_s: float) -> str:
    """A date for a person."""
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s))


def _check_chain(bundle: Bundle, folder: Path) -> None:
    """Prove the certificate to ourselves as it will be proved to the broker: by a handshake in memory.

    Raises:
        ssl.SSLError: the broker would refuse it.
    """
    if bundle.certificate is None or bundle.key is None:
        ssl.create_default_context(cadata=bundle.ca)
        return
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
    theirs.verify_mode = ssl.CERT_REQUIRED
    theirs.load_verify_locations(cadata=bundle.ca)
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part") as proof:  # ssl reads keys from files alone
        proof.write(f"{bundle.certificate}\n{bundle.key}\n")
        proof.flush()
        for side in (ours, theirs):
            side.load_cert_chain(proof.name)
    to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
    board = ours.wrap_bio(to_us, to_them)
    broker = theirs.wrap_bio(to_them, to_us, server_side=True)
    _shake(board)
    _shake(broker)
    _shake(board)
    broker.do_handshake()


def _shake(side: ssl.SSLObject) -> None:
    with contextlib.suppress(ssl.SSLWantReadError):
        side.do_handshake()


def _install(bundle: Bundle, state: Path) -> None:
    folder = state / FOLDER
    _put(folder / "ca.pem", bundle.ca)
    broker = settings.Broker(address=bundle.broker, ca_file=str((folder / "ca.pem").absolute()))
    if bundle.password is not None:
        _put(folder / "password", bundle.password)
        file = str((folder / "password").absolute())
        broker = msgspec.structs.replace(broker, username=bundle.device, password_file=file)
    else:
        _put(folder / "board.pem", f"{bundle.certificate}\n{bundle.key}\n")
        file = str((folder / "board.pem").absolute())
        broker = msgspec.structs.replace(broker, cert_file=file, key_file=file)
    _put(state / settings.JOINED, _toml(bundle.device, broker))


def _toml(device: str, broker: settings.Broker) -> str:
    named = {name: value for name in broker.__struct_fields__ if (value := getattr(broker, name)) is not None}
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in named.items()]
    return "\n".join(
        [
            "# Written by phasewatt-agent join; what agent.toml says wins.",
            f'device = "{device}"',
            "[broker]",
            *lines,
            "",
        ]
    )


def _put(path: Path, content: str) -> None:
    draft = path.with_name(f"{path.name}.part")
    draft.unlink(missing_ok=True)  # one left behind may have another mode
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
