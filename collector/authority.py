"""The fleet's certificate authority: a folder that only its owner may look into.

```text
authority/
  boards.pem, boards.key     signs boards and the broker; boards trust it
  centre.pem, centre.key     signs collectors; a board's certificate is nothing to the listener that trusts this one
  server.pem, server.key     of the broker
  client.pem, client.key     of the collectors
  enrolled.json              who has what, and until when
  broker.json                how boards reach the broker
```

Two authorities, because the broker binds a board's client id to its name, and cannot bind the several of the centre.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from collector import enrolled, issuing, passwords, private_file
from collector.enrolled import Enrolled, Issued
from collector.issuing import Pair
from collector.rights import CENTRE, CENTRE_CLIENTS
from phasewatt import certificate, topics
from phasewatt.bundle import Bundle
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Identifier, Record

PLAN = "broker.json"
BOARD_DAYS = 730.0
_OURS_DAYS = 730.0  # of broker and collectors, which are renewed by themselves
_RENEWED_S = 90 * 86400.0  # before their end
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SECRET_BYTES = 32


class Plan(Record, frozen=True):
    """The broker, as boards and collectors reach it."""

    hosts: tuple[str, ...]  # the first is what boards are told
    folder: str  # where its configuration is written
    port: int = 8883  # for boards
    centre_port: int = 8884  # for collectors
    by_password: bool = False  # boards prove themselves by password instead of certificate
    bind: str | None = None  # the address to listen on; None: all of this host

    @property
    def address(self) -> str:
        """What a board is told."""
        host = f"[{self.hosts[0]}]" if ":" in self.hosts[0] else self.hosts[0]
        return f"{host}:{self.port}"


class Authority:
    """The folder, made where there is none.

    Raises:
        ConfigInvalid: others may look into it, it is damaged, or the disk does not take it.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        private_file.make_folder(folder)
        check_private(folder)
        with self._alone():
            self.boards = self._made("boards", lambda: issuing.authority("phasewatt boards", clock()))
            self.centre = self._made("centre", lambda: issuing.authority("phasewatt centre", clock()))

    def plan(self) -> Plan:
        """The broker.

        Raises:
            ConfigInvalid: none was set up.
        """
        found = plan_in(self.folder)
        if found is None:
            raise ConfigInvalid(
                "no broker is set up yet: phasewatt-collector broker-config --host NAME, a name that boards reach it by"
            )
        return found

    def set_up(self, plan: Plan) -> None:
        """Keep `plan`, and have a certificate that names its hosts.

        Raises:
            ConfigInvalid: a host is neither a name nor an address, or the disk does not take it.
        """
        hosts = tuple(dict.fromkeys((*plan.hosts, *_LOOPBACK)))
        with self._alone():
            private_file.write(self.folder / PLAN, msgspec.json.format(msgspec.json.encode(plan)))
            self._put("server", issuing.server(self.boards, hosts, self._clock(), _OURS_DAYS))

    def server(self) -> Pair:
        """The broker's certificate, renewed where it ends soon."""
        plan = self.plan()
        hosts = tuple(dict.fromkeys((*plan.hosts, *_LOOPBACK)))
        with self._alone():
            return self._lasting("server", lambda: issuing.server(self.boards, hosts, self._clock(), _OURS_DAYS))

    def client(self) -> Pair:
        """The collectors' certificate, renewed where it ends soon."""
        with self._alone():
            return self._lasting("client", lambda: issuing.client(self.centre, CENTRE, self._clock(), _OURS_DAYS))

    def enroll(self, device: str, days: float = BOARD_DAYS, renew: bool = False) -> Bundle:
        """A way in for a board.

        Raises:
            ConfigInvalid: not a board's name, or it has one that holds and `renew` was not asked for.
        """
        plan, now_unix_s = self.plan(), self._clock()
        check_name(device)
        with self._alone():
            known = enrolled.load(self.folder)
            _check_standing(known, device, now_unix_s, renew)
            made = Bundle(
                device=device,
                broker=plan.address,
                root=topics.ROOT,
                ca=self.boards.certificate.decode(),
                issued_unix_s=now_unix_s,
            )
            if plan.by_password:
                made, kept = _with_password(made)
            else:
                made, kept = _with_certificate(made, issuing.client(self.boards, device, now_unix_s, days))
            enrolled.save(self.folder, known.with_one(device, kept))
        return made

    def revoke(self, device: str) -> None:
        """Make what a board was given worthless; the broker must still be told.

        Raises:
            ConfigInvalid: it was never enrolled.
        """
        with self._alone():
            known = enrolled.load(self.folder)
            if device not in known.boards:
                names = ", ".join(sorted(known.boards)) or "none"
                raise ConfigInvalid(f"{device} was never enrolled here; known: {names}")
            enrolled.save(self.folder, known.without(device, self._clock()))

    def enrolled(self) -> Enrolled:
        """Who has what."""
        return enrolled.load(self.folder)

    def revoked(self, also: frozenset[str] = frozenset()) -> bytes:
        """The list for the broker: what was revoked, and what boards of `also` have."""
        return issuing.revoked(self.boards, self.enrolled().revoked_serials(also), self._clock())

    def path_of(self, name: str) -> Path:
        """A file of the folder."""
        return self.folder / name

    def _made(self, name: str, make: Callable[[], Pair]) -> Pair:
        found = self._found(name)
        return self._put(name, make()) if found is None else found

    def _lasting(self, name: str, make: Callable[[], Pair]) -> Pair:
        found = self._found(name)
        if found is not None:
            ends = certificate.described(found.certificate.decode()).not_after_unix_s
            if ends - self._clock() > _RENEWED_S:
                return found
        return self._put(name, make())

    def _found(self, name: str) -> Pair | None:
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        try:
            return Pair(cert.read_bytes(), key.read_bytes()) if cert.exists() else None
        except OSError as error:
            raise ConfigInvalid(
                f"{error.filename}: {error.strerror}; take it from a backup of {self.folder}"
            ) from error

    def _put(self, name: str, pair: Pair) -> Pair:
        # The key first: a certificate that is there has its key.
        private_file.write(self.folder / f"{name}.key", pair.key)
        private_file.write(self.folder / f"{name}.pem", pair.certificate, private_file.SHOWN)
        return pair

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process changes the folder."""
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _with_password(bundle: Bundle) -> tuple[Bundle, Issued]:
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    kept = Issued(issued_unix_s=bundle.issued_unix_s, expires_unix_s=None, password_hash=passwords.hashed(secret))
    return msgspec.structs.replace(bundle, password=secret), kept


def _with_certificate(bundle: Bundle, pair: Pair) -> tuple[Bundle, Issued]:
    text = pair.certificate.decode()
    ends_unix_s = certificate.described(text).not_after_unix_s
    kept = Issued(issued_unix_s=bundle.issued_unix_s, expires_unix_s=ends_unix_s, serial=f"{pair.serial:x}")
    return msgspec.structs.replace(bundle, certificate=text, key=pair.key.decode()), kept


def plan_in(folder: Path) -> Plan | None:
    """The broker that was set up in an authority's folder; None: none was.

    Raises:
        ConfigInvalid: the file is damaged.
    """
    path = folder / PLAN
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error}; set the broker up anew with broker-config") from error


def check_hosts(hosts: Sequence[str]) -> None:
    """Raise ConfigInvalid where one is neither the name of a host nor an address."""
    for host in hosts:
        labels = host.split(".")
        is_name = all(label and len(label) <= 63 and label.replace("-", "a").isalnum() for label in labels)
        if not (host.isascii() and (is_name or _is_address(host))):
            raise ConfigInvalid(f"host: expected the name or address of a host, without a port, got {host!r}")


def check_private(folder: Path) -> None:
    """Raise ConfigInvalid where others may look into a folder of keys."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & (stat.S_IRWXO | stat.S_IWGRP) and os.name == "posix":
        raise ConfigInvalid(f"{folder}: others may look into this folder of keys (mode {mode:o}); chmod 700 {folder}")


def check_name(device: str) -> None:
    """Raise ConfigInvalid where no board can be named so."""
    try:
        msgspec.convert(device, Identifier)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(
            f"device: expected up to 64 letters, digits, '.', '_' and '-', a letter or digit first, got {device!r}"
        ) from error
    if device.lower().startswith(CENTRE_CLIENTS):
        raise ConfigInvalid(f"device: names that begin with {CENTRE_CLIENTS} are the collectors' own, got {device!r}")


def _check_standing(known: Enrolled, device: str, now_unix_s: float, renew: bool) -> None:
    stands = known.current(device, now_unix_s) is not None
    if stands and not renew:
        raise ConfigInvalid(f"{device} is enrolled already: --renew for another bundle, --revoke to shut it out")
    if renew and device not in known.boards:
        raise ConfigInvalid(f"{device} was never enrolled here: leave out --renew")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
