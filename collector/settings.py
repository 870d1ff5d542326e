"""What `serve` may be told, by a TOML file and by flags that win over it."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import replace

from phasewatt import privacy, settings
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Identifier

LOOPBACK = "127.0.0.1"
MQTT_PORT = 1883
_FILES = ("ca_file", "cert_file", "key_file", "password_file")


_SECRET_FILES = ("key_file", "password_file")
_LEAST_PASSWORD = 16  # it may be tried over a network
MANAGED = "managed"


class Address(NamedTuple):
    """Where the broker listens; port 0, for an embedded one, is any free port."""

    embedded: bool
    host: str
    port: int


def is_loopback(host: str) -> bool:
    """Whether only this host is reached by that name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class BrokerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker, and how to be let in. Each field is a flag of the same name, `address` is `--broker`."""

    address: str = "embedded"
    ca_file: str | None = None  # given: TLS, and the broker's certificate must be signed by it
    cert_file: str | None = None
    key_file: str | None = None
    username: str | None = None
    password_file: str | None = None


FOREVER: Literal["forever"] = "forever"
Days = Annotated[float, Meta(gt=0, le=36500)] | Literal["forever"]


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long the bodies of each kind are kept; their keys stay. Each field is a flag, `--keep-telemetry`."""

    telemetry_days: Days = 365.0  # then its sums by the hour are left
    trace_days: Days = FOREVER
    event_days: Days = FOREVER
    trial_days: Days = FOREVER


class WebSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The live page and /metrics. `address` is `--web`, the other `--web-password-file`."""

    address: str | None = None  # HOST:PORT, or :PORT on this host alone; None: there are no pages
    password_file: str | None = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    name: Identifier | None = None  # of this collector, among those on one broker; None: the host's
    share: Identifier | None = None  # the group of collectors on one store that share the batches; None: it gets all
    broker: BrokerSettings = BrokerSettings()
    retention: Retention = Retention()
    web: WebSettings = WebSettings()


def load(path: Path | None) -> Settings:
    """The settings in a file, or the defaults.

    Raises:
        ConfigInvalid: the file cannot be read, or a key or value in it is wrong.
    """
    if path is None:
        return Settings()
    try:
        text = path.read_text(encoding="utf-8")
        complaint = privacy.complaint_of_settings(str(path), path.stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"settings: cannot read {path}: {error}") from error
    if complaint is not None:
        raise ConfigInvalid(complaint)
    return settings.parse(text, Settings, origin=str(path))


def named(config: Settings, *, name: str | None, share: str | None) -> Settings:
    """The settings with these in their place, where they are given.

    Raises:
        ConfigInvalid: one is no identifier.
    """
    given = {key: text for key, text in (("name", name), ("share", share)) if text is not None}
    try:
        return replace(config, **{key: convert(text, Identifier) for key, text in given.items()})
    except ValidationError as error:
        raise ConfigInvalid(
            f"{' or '.join(f'--{key}' for key in given)}: expected up to 64 letters, digits, '.', '_' and '-', "
            f"a letter or digit first, got {' or '.join(map(repr, given.values()))}"
        ) from error


def address_of(broker: BrokerSettings) -> Address:
    """Where to find the broker, once it is sure that the settings agree with each other.

    Raises:
        ConfigInvalid: an address of another form, a file that is missing or that others can read, one option without
            its fellow, or a broker on another host that would ask nobody who they are.
    """
    for name in _FILES:
        _check_file(name, getattr(broker, name))
    for name, fellow in (("cert_file", "key_file"), ("key_file", "cert_file"), ("cert_file", "ca_file")):
        if getattr(broker, name) is not None and getattr(broker, fellow) is None:
            raise ConfigInvalid(f"broker.{fellow}: expected beside broker.{name}")
    if broker.password_file is not None and broker.username is None:
        raise ConfigInvalid("broker.username: expected beside broker.password_file")
    address = parse_address(broker.address)
    _check_proof(address, broker)
    return address


def _check_file(name: str, file: str | None) -> None:
    if file is None:
        return
    if not Path(file).is_file():
        raise ConfigInvalid(f"broker.{name}: expected a file, got {file!r}")
    if name in _SECRET_FILES:
        _check_secret(f"broker.{name}", file)


def _check_secret(name: str, file: str) -> None:
    if not Path(file).is_file():
        raise ConfigInvalid(f"{name}: expected a file, got {file!r}")
    complaint = privacy.complaint_of_secret(name, file, Path(file).stat().st_mode)
    if complaint is not None:
        raise ConfigInvalid(complaint)


def _check_proof(address: Address, broker: BrokerSettings) -> None:
    """Over a network, TLS and a proof of who this is: a broker without them lets in anybody, and shows them all."""
    if address.embedded or is_loopback(address.host):
        return
    if broker.ca_file is None:
        raise ConfigInvalid(
            f"broker.ca_file: expected, since {address.host} is not this host and all would be sent in plain text; "
            "docs/enrolment.md says how to set up a broker with TLS"
        )
    if broker.cert_file is None and broker.username is None:
        raise ConfigInvalid(
            f"broker.cert_file or broker.username: expected, since {address.host} is not this host and would not know "
            "who this is; docs/enrolment.md says how to set up a broker that asks"
        )


class Pages(NamedTuple):
    """Where pages are shown, and to whom: to all on this host, or to who knows the password."""

    host: str
    port: int
    password: str | None


def pages_of(web: WebSettings) -> Pages | None:
    """What `web` asks for; None: no pages.

    Raises:
        ConfigInvalid: an address of another form, one that others reach without a password, or a password file that
            is missing, empty or open to others.
    """
    if web.address is None:
        if web.password_file is not None:
            raise ConfigInvalid("web.address: expected beside web.password_file")
        return None
    host, _, port = web.address.rpartition(":")
    if ":" not in web.address or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigInvalid(f"web.address: expected HOST:PORT, or :PORT on this host alone, got {web.address!r}")
    host = host.strip("[]") or LOOPBACK
    password = None if web.password_file is None else _password(web.password_file)
    if password is None and not is_loopback(host):
        raise ConfigInvalid(
            f"web.password_file: expected, since others reach {host}; put 16 letters or more in a file of your own, "
            f"chmod 600, or let the page listen on {LOOPBACK}"
        )
    return Pages(host, int(port), password)


def _password(file: str) -> str:
    _check_secret("web.password_file", file)
    try:
        password = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"web.password_file: cannot read {file}: {error}") from error
    if len(password) < _LEAST_PASSWORD:
        raise ConfigInvalid(f"web.password_file: expected {_LEAST_PASSWORD} letters or more in {file}")
    return password


def parse_address(text: str) -> Address:
    """The address in `embedded`, `embedded:PORT`, `embedded:HOST:PORT` or `HOST:PORT`.

    Raises:
        ConfigInvalid: none of these.
    """
    embedded = text == "embedded" or text.startswith("embedded:")
    rest = text.removeprefix("embedded").removeprefix(":") if embedded else text
    host, _, port = rest.rpartition(":")
    if embedded:
        host, port = host or LOOPBACK, port or str(MQTT_PORT)
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not (0 if embedded else 1) <= int(port) <= 65535:
        raise ConfigInvalid(f"broker: expected embedded, embedded:PORT or HOST:PORT, got {text!r}")
    return Address(embedded, host.strip("[]"), int(port))


def default_name() -> str:
    """The name of this host, as far as an identifier allows."""
    name = re.sub("[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")
    return name[:64] or "collector"
