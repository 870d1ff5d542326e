"""What `external:SPEC` says, read and checked. SPEC is SOURCE[:ADDRESS][?OPTION=VALUE&...].

The whole of it is published with every trace, so a secret in it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from phasewatt.errors import ConfigInvalid

_MOST_CHARACTERS = 230  # a trace's label holds 256, and 'nvml+rapl+external:' may stand before it
_FORM = re.compile(r"(?P<kind>[^:?]*)(:(?P<body>[^?]*))?(\?(?P<query>.*))?", re.DOTALL)
_SECRET = re.compile(r"pass(word|wd|phrase)?|pwd|token|secret|api_?key", re.IGNORECASE)
_EVERYWHERE = frozenset({"name", "gain", "reading"})
_JOULES = {"J": 1.0, "Wh": 3600.0, "kWh": 3.6e6, "Wmin": 60.0}


class Spec(NamedTuple):
    """One wall meter as the settings name it."""

    kind: str
    body: str  # a path or an address, as written
    options: Mapping[str, str]

    def __str__(self) -> str:
        """The meter without its options: what error lines show."""
        return f"external:{self.kind}:{self.body}" if self.body else f"external:{self.kind}"


class Quantity(NamedTuple):
    """A figure that a source gives."""

    unit: str  # "W" or "J", after `factor`
    names: tuple[str, ...]  # of the field or column, in the order of choice
    factor: float


def parse(text: str) -> Spec:
    """The parts of `text`.

    Raises:
        ConfigInvalid: another form, an option twice, or a secret.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ConfigInvalid(f"external: expected at most {_MOST_CHARACTERS} characters, got {len(text)}")
    match = _FORM.fullmatch(text)
    assert match is not None  # the form has room for any text
    return Spec(match["kind"], match["body"] or "", _options(match["query"] or ""))


def check_keys(spec: Spec, known: Collection[str]) -> None:
    """Raise ConfigInvalid for an option that this source does not take."""
    takes = sorted(_EVERYWHERE | set(known))
    for key in spec.options:
        if key not in takes:
            raise ConfigInvalid(f"external.{key}: unknown; {spec.kind} takes {', '.join(takes)}")


def number(spec: Spec, key: str, lowest: float, highest: float) -> float | None:
    """The option as a number within bounds; None where it is not given.

    Raises:
        ConfigInvalid: no number, or outside of the bounds.
    """
    text = spec.options.get(key)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise ConfigInvalid(f"external.{key}: expected a number from {lowest:g} to {highest:g}, got {text!r}")
    return value


def choice(spec: Spec, key: str, choices: Collection[str], default: str) -> str:
    """The option as one of `choices`.

    Raises:
        ConfigInvalid: something else.
    """
    text = spec.options.get(key, default)
    if text not in choices:
        raise ConfigInvalid(f"external.{key}: expected one of {', '.join(choices)}, got {text!r}")
    return text


def quantities(spec: Spec, power_names: tuple[str, ...]) -> tuple[Quantity, ...]:
    """What the options `power` and `energy` name; power by its usual names where neither is given.

    Raises:
        ConfigInvalid: an energy without its unit, or a unit without energy.
    """
    power, energy = spec.options.get("power"), spec.options.get("energy")
    found = []
    if power is not None or energy is None:
        found.append(Quantity("W", power_names if power is None else (power,), 1.0))
    if energy is not None:
        unit = choice(spec, "energy_unit", _JOULES, default="")
        found.append(Quantity("J", (energy,), _JOULES[unit]))
    elif "energy_unit" in spec.options:
        raise ConfigInvalid("external.energy: expected beside energy_unit, as the name of a field or column")
    return tuple(found)


def address(spec: Spec, expected: str) -> SplitResult:
    """The body as a URL with a host.

    Raises:
        ConfigInvalid: no URL, or one with a password.
    """
    try:
        parts = urlsplit(spec.body if "://" in spec.body else f"{spec.kind}:{spec.body}")
        password, hostname, _ = parts.password, parts.hostname, parts.port
    except ValueError as error:  # its text may hold a part of a password
        raise ConfigInvalid(f"external: expected {expected}, got another host or port") from error
    if password is not None:
        raise _secret("the password")
    if not hostname or "#" in spec.body:
        raise ConfigInvalid(f"external: expected {expected}, got {spec.body!r}")
    return parts


def password(spec: Spec, user: str | None) -> str | None:
    """What the file `password_file` holds, without its line end; None where none is named.

    Raises:
        ConfigInvalid: the file cannot be read, or stands without a user.
    """
    file = spec.options.get("password_file")
    if file is None:
        return None
    if user is None:
        raise ConfigInvalid("external.password_file: expected beside a user")
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"external.password_file: cannot read {file}: {error}") from error


def ca_file(spec: Spec) -> str | None:
    """The option `ca_file`, which is a file; None where it is not given.

    Raises:
        ConfigInvalid: there is no such file.
    """
    file = spec.options.get("ca_file")
    if file is not None and not Path(file).is_file():
        raise ConfigInvalid(f"external.ca_file: expected a file, got {file!r}")
    return file


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for piece in query.split("&") if query else []:
        key, _, value = (unquote(part) for part in piece.partition("="))
        if _SECRET.fullmatch(key):
            raise _secret(key)
        if not key or not value:
            raise ConfigInvalid(f"external: expected options as KEY=VALUE joined by &, got {piece!r}")
        if key in options:
            raise ConfigInvalid(f"external.{key}: expected once, got twice")
        options[key] = value
    return options


def _secret(what: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"external: {what} must not stand in the meter's name, which is published; expected password_file=FILE"
    )
