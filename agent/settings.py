"""What the agent may be told, by a TOML file and by flags that win over it."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from agent.connection import BrokerSettings, Tls
from agent.job_rules import JobRules
from phasewatt import privacy, settings
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Identifier
from phasewatt.hosts import BoardLabel

FILE = "agent.toml"
JOINED = "joined.toml"  # of the same form, written by `join`
_FILES = ("ca_file", "cert_file", "key_file", "password_file")
_SECRET_FILES = ("key_file", "password_file")
_ADDRESS = re.compile(r"(?P<host>[^:\[\]]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})")


class Broker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker, and how to be let in. Each field is a flag of the same name, `address` is `--broker`."""

    address: str | None = None  # HOST:PORT; None: nothing is sent, trials wait in the outbox
    ca_file: str | None = None  # given: TLS, and the broker's certificate must be signed by it
    cert_file: str | None = None
    key_file: str | None = None
    username: str | None = None
    password_file: str | None = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    device: Identifier | None = None  # name of this board; None: made of the host's name once, and kept
    meters: tuple[str, ...] | None = None  # None: those that answer
    root: str = "/"  # where the kernel's files are; another is a simulated board
    calibrate: bool = True  # take a sensor's card where it has none, before a suite runs
    telemetry_interval_s: Annotated[float, Meta(ge=5, le=3600)] = 120.0
    outbox_cap_bytes: Annotated[int, Meta(ge=16 * 2**20)] = 512 * 2**20
    labels: Annotated[
        tuple[BoardLabel, ...], Meta(max_length=16)
    ] = ()  # told with its facts; jobs are handed out by them
    broker: Broker = Broker()
    jobs: JobRules = JobRules()


def load(path: Path, must_exist: bool) -> Settings:
    """The settings in a file, or the defaults where there need not be one.

    Raises:
        ConfigInvalid: the file cannot be read, or a key or value in it is wrong.
    """
    try:
        content = path.read_text(encoding="utf-8")
        if (complaint := privacy.complaint_of_settings(str(path), path.stat().st_mode)) is not None:
            raise ConfigInvalid(complaint)
        return checked(settings.parse(content, Settings, origin=str(path)))
    except FileNotFoundError as error:
        if must_exist:
            raise ConfigInvalid(f"settings: no file {path}") from error
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"settings: cannot read {path}: {error}") from error


def with_joined(found: Settings, state: Path) -> Settings:
    """`found`, with what `join` installed where it names no broker itself.

    Raises:
        ConfigInvalid: what was installed is of another device.
    """
    joined = load(state / JOINED, must_exist=False)
    if found.broker.address is not None or joined.broker.address is None:
        return found
    if found.device not in {None, joined.device}:
        raise ConfigInvalid(
            f"device: this board joined as {joined.device}, and is named {found.device}: "
            f"leave the name out, or join with a bundle of {found.device}"
        )
    return msgspec.structs.replace(found, device=joined.device, broker=joined.broker)


def checked(found: Settings) -> Settings:
    """`found`, if its root is a folder; a relative one is made whole, since other processes read there too.

    Raises:
        ConfigInvalid: there is no such folder.
    """
    root = Path(found.root).absolute()
    if not root.is_dir():
        raise ConfigInvalid(f"root: expected the folder of a simulated board, got {found.root!r}")
    return msgspec.structs.replace(found, root=str(root))


def broker_of(broker: Broker) -> BrokerSettings | None:
    """Where and as whom to connect; None: no broker is named.

    Raises:
        ConfigInvalid: an address of another form, a file that cannot be read or that others can, an option without
            its fellow, or a broker on another host that would ask nobody who they are.
    """
    if broker.address is None:
        return None
    match = _ADDRESS.fullmatch(broker.address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ConfigInvalid(f"broker.address: expected HOST:PORT, got {broker.address!r}")
    for name in _FILES:
        _check_file(name, getattr(broker, name))
    for name, fellow in (("cert_file", "key_file"), ("key_file", "cert_file"), ("cert_file", "ca_file")):
        if getattr(broker, name) is not None and getattr(broker, fellow) is None:
            raise ConfigInvalid(f"broker.{fellow}: expected beside broker.{name}")
    if broker.password_file is not None and broker.username is None:
        raise ConfigInvalid("broker.username: expected beside broker.password_file")
    _check_proof(match["host"].strip("[]"), broker)
    return BrokerSettings(
        host=match["host"].strip("[]"),
        port=int(match["port"]),
        tls=_tls(broker),
        username=broker.username,
        password=_secret(broker.password_file),
    )


def _check_file(name: str, file: str | None) -> None:
    if file is None:
        return
    if not Path(file).is_file():
        raise ConfigInvalid(f"broker.{name}: expected a file, got {file!r}")
    if name in _SECRET_FILES:
        complaint = privacy.complaint_of_secret(f"broker.{name}", file, Path(file).stat().st_mode)
        if complaint is not None:
            raise ConfigInvalid(complaint)


def _check_proof(host: str, broker: Broker) -> None:
    """Over a network, TLS and a proof of who this is: a broker without them lets in anybody, and shows them all."""
    if _is_loopback(host):
        return
    remedy = "phasewatt-collector enroll writes a bundle with all of it, and phasewatt-agent join installs it"
    if broker.ca_file is None:
        raise ConfigInvalid(
            f"broker.ca_file: expected, since {host} is not this host and all would be sent in plain text; {remedy}"
        )
    if broker.cert_file is None and broker.username is None:
        raise ConfigInvalid(
            f"broker.cert_file or broker.username: expected, since {host} is not this host and would not know "
            f"who this is; {remedy}"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(broker: Broker) -> Tls | None:
    if broker.ca_file is None:
        return None
    return Tls(ca_path=broker.ca_file, cert_path=broker.cert_file, key_path=broker.key_file)


def _secret(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"broker.password_file: cannot read {file}: {error}") from error
