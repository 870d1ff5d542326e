"""What a board needs to be let in, in one file that is carried to it by hand: written in the centre, read on the board.

The digest over it tells a damaged or half-written file. Who replaces the whole file can make a digest too: against that
the first characters of the digest, the fingerprint, are compared by the person who carries it.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Identifier, Label, Record, Text

MOST_BYTES = 64 * 1024
_SHOWN = 16  # hexadecimal digits of a fingerprint: nobody finds another file with the same 64 bits
_NOTE = "This file holds a secret key. Carry it to the board, phasewatt-agent join FILE, then delete it."


class Bundle(Record, frozen=True):
    """One board's way in: where to, whom to trust, and its own proof, a certificate with its key or a password."""

    device: Identifier
    broker: Label  # HOST:PORT
    root: Label  # of the topics
    ca: Text  # PEM: whom to believe that it is the broker
    issued_unix_s: float
    certificate: Text | None = None  # PEM
    key: Text | None = None  # PEM
    password: Label | None = None


class _Sealed(Record, frozen=True):
    digest: str
    bundle: Bundle
    schema: Literal["bundle/1"] = "bundle/1"
    note: str = _NOTE


def encode(bundle: Bundle) -> bytes:
    """The content of the file."""
    return msgspec.json.format(msgspec.json.encode(_Sealed(digest=_digest(bundle), bundle=bundle))) + b"\n"


def decode(content: bytes) -> Bundle:
    """The bundle in a file.

    Raises:
        ConfigInvalid: it is none, is not whole, was changed, or lacks its proof.
    """
    if len(content) > MOST_BYTES:
        raise ConfigInvalid("not a bundle of `phasewatt-collector enroll`: too long")
    try:
        sealed = msgspec.json.decode(content, type=_Sealed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"not a whole bundle of `phasewatt-collector enroll`: {error}") from error
    bundle = sealed.bundle
    if sealed.digest != _digest(bundle):
        raise ConfigInvalid("damaged or changed: its digest does not match; have it written anew")
    if (bundle.certificate is None) != (bundle.key is None) or (bundle.key is None) == (bundle.password is None):
        raise ConfigInvalid("not a whole bundle: expected a certificate with its key, or a password")
    return bundle


def fingerprint(bundle: Bundle) -> str:
    """Groups of four hexadecimal digits, to compare by eye."""
    shown = _digest(bundle)[:_SHOWN]
    return "-".join(shown[at : at + 4] for at in range(0, len(shown), 4))


def _digest(bundle: Bundle) -> str:
    return hashlib.sha256(msgspec.json.encode(bundle)).hexdigest()
