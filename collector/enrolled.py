"""Who was enrolled: each board's certificates or password, when they end, and whether they were revoked.

One JSON file in the authority's folder, read without `cryptography`, so that `devices` can say what expires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from collector import private_file
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Identifier, Record

FILE = "enrolled.json"
WARNED_S = 45 * 86400.0  # before the end: boards in the field are visited seldom


class Issued(Record, frozen=True):
    """One certificate, or one password."""

    issued_unix_s: float
    expires_unix_s: float | None  # None: a password, which holds until another takes its place
    serial: str | None = None  # of a certificate, hexadecimal
    password_hash: str | None = None  # as the broker's file has it
    revoked_unix_s: float | None = None

    def holds(self, now_unix_s: float) -> bool:
        """Whether a broker that knows the list lets in who has it."""
        is_over = self.expires_unix_s is not None and self.expires_unix_s <= now_unix_s
        return self.revoked_unix_s is None and not is_over


class Enrolled(Record, frozen=True):
    """All boards, by name, each with what it was given, the newest last."""

    boards: dict[Identifier, tuple[Issued, ...]]

    def current(self, device: str, now_unix_s: float) -> Issued | None:
        """The newest that a board was given and that holds; None: it has none."""
        holding = [issued for issued in self.boards.get(device, ()) if issued.holds(now_unix_s)]
        return holding[-1] if holding else None

    def ends_unix_s(self) -> dict[str, float]:
        """When each board's newest certificate ends or ended; boards without one, or shut out, are left out."""
        newest = {device: given[-1] for device, given in self.boards.items() if given}
        return {
            device: issued.expires_unix_s
            for device, issued in newest.items()
            if issued.expires_unix_s is not None and issued.revoked_unix_s is None
        }

    def revoked(self) -> frozenset[str]:
        """Boards that were shut out and given nothing since."""
        return frozenset(
            device for device, given in self.boards.items() if given and given[-1].revoked_unix_s is not None
        )

    def with_one(self, device: str, issued: Issued) -> Enrolled:
        """Beside what the board has: until it is installed, the older certificate still lets it in."""
        return Enrolled(boards={**self.boards, device: (*self.boards.get(device, ()), issued)})

    def without(self, device: str, now_unix_s: float) -> Enrolled:
        """All that the board was given revoked, passwords forgotten."""
        ended = tuple(
            msgspec.structs.replace(issued, revoked_unix_s=issued.revoked_unix_s or now_unix_s, password_hash=None)
            for issued in self.boards[device]
        )
        return Enrolled(boards={**self.boards, device: ended})

    def revoked_serials(self, also: frozenset[str]) -> list[int]:
        """Of all certificates that were revoked, and all of the boards in `also`."""
        return [
            int(each.serial, 16)
            for device, given in self.boards.items()
            for each in given
            if each.serial is not None and (each.revoked_unix_s is not None or device in also)
        ]

    def passwords(self) -> Iterator[tuple[str, str]]:
        """Boards with the hash of their newest password."""
        for device, given in self.boards.items():
            hashes = [issued.password_hash for issued in given if issued.password_hash is not None]
            if hashes:
                yield device, hashes[-1]


def load(folder: Path) -> Enrolled:
    """What is kept; nobody, where nothing is.

    Raises:
        ConfigInvalid: the file cannot be read, or is damaged.
    """
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Enrolled)
    except FileNotFoundError:
        return Enrolled(boards={})
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error}; take it from a backup of {folder}") from error


def save(folder: Path, enrolled: Enrolled) -> None:
    """Keep it.

    Raises:
        ConfigInvalid: the disk does not take it.
    """
    private_file.write(folder / FILE, msgspec.json.format(msgspec.json.encode(enrolled)))


def remark(enrolled: Enrolled, device: str, now_unix_s: float, when: Callable[[float], str | None]) -> str | None:
    """What an operator must know of a board's way in, in words; None: nothing stands out, or it was never enrolled."""
    given = enrolled.boards.get(device, ())
    current = enrolled.current(device, now_unix_s)
    if not given or (current is not None and current.expires_unix_s is None):
        return None
    if current is not None and current.expires_unix_s is not None:
        if current.expires_unix_s - now_unix_s > WARNED_S:
            return None
        days = (current.expires_unix_s - now_unix_s) / 86400
        return f"its certificate ends on {when(current.expires_unix_s)}, in {days:.0f} days: {_renew(device)}"
    if given[-1].revoked_unix_s is not None:
        return f"revoked on {when(given[-1].revoked_unix_s)}"
    return f"its certificate ended on {when(given[-1].expires_unix_s or 0)}: {_renew(device)}"


def _renew(device: str) -> str:
    return f"phasewatt-collector enroll {device} --renew, and join on the board"
