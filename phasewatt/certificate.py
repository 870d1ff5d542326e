"""What a certificate says of itself: whose it is, and from when to when. Read from its bytes, nothing is verified.

The agent must tell when its certificate ends without a library for certificates, and `ssl` tells nothing of one that is
not of a connection. So the few fields are read by the rules of DER.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Iterator

from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Record

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _SET, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x31, 0x17, 0x18, 0xA0
_COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3


class Certificate(Record, frozen=True):
    """The fields of a certificate that an operator must know."""

    common_name: str | None
    not_before_unix_s: float
    not_after_unix_s: float


def described(pem: str) -> Certificate:
    """The first certificate in `pem`.

    Raises:
        ConfigInvalid: there is none, or it is damaged.

    Source: RFC 5280, section 4.1; ITU-T X.690, section 8.
    """
    try:
        return _fields(_der(pem))
    except (ValueError, IndexError, StopIteration) as error:
        raise ConfigInvalid("not a certificate in PEM, or a damaged one") from error


def _der(pem: str) -> bytes:
    begin = pem.index(_BEGIN) + len(_BEGIN)
    try:
        return base64.b64decode("".join(pem[begin : pem.index(_END, begin)].split()), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _fields(der: bytes) -> Certificate:
    _, whole = next(_parts(der))
    _, signed = next(_parts(whole))
    fields = [part for part in _parts(signed) if part[0] != _VERSION]
    # serial number, algorithm, issuer, validity, subject, ...
    begin, end = (_unix_s(*part) for part in _parts(fields[3][1]))
    return Certificate(common_name=_common_name(fields[4][1]), not_before_unix_s=begin, not_after_unix_s=end)


def _common_name(subject: bytes) -> str | None:
    for tag, names in _parts(subject):
        for _, name in _parts(names) if tag == _SET else ():
            (_, kind), (_, value) = _parts(name)
            if kind == _COMMON_NAME:
                return value.decode("utf-8")
    return None


def _unix_s(tag: int, value: bytes) -> float:
    form = {_UTC_TIME: "%y%m%d%H%M%S%z", _GENERALIZED_TIME: "%Y%m%d%H%M%S%z"}.get(tag)
    if form is None:
        raise ValueError(f"no time: tag {tag}")
    return datetime.datetime.strptime(value.decode("ascii"), form).astimezone(datetime.timezone.utc).timestamp()


def _parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The values that stand one after the other in `content`, each with its tag."""
    at = 0
    while at < len(content):
        tag, length, at = content[at], content[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(content[at : at + count], "big"), at + count
        if at + length > len(content):
            raise ValueError("cut off")
        yield tag, content[at : at + length]
        at += length
