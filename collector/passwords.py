"""Hashes of passwords as mosquitto's password_file has them.

Source: mosquitto, lib/password_mosq.c: `$7$ITERATIONS$SALT$HASH`, PBKDF2 of SHA-512, base64, 12 bytes of salt.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

_ITERATIONS = 1000  # the passwords are 256 random bits: nobody guesses them, however fast a guess is
_SALT_BYTES = 12


def hashed(password: str) -> str:
    """The hash of `password` under a new salt."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${_base64(salt)}${_base64(digest)}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
