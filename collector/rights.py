"""Who may do what on the broker: one table, and the access list of mosquitto that comes of it.

A board may speak under its own name and read what is meant for it. Only the centre may read of all boards, and write
receipts and jobs. A topic that is not in the table is nobody's.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

from phasewatt import topics

CENTRE = "_centre"  # the user of collectors; no board can be named so: identifiers begin with a letter or digit
CENTRE_CLIENTS = "phasewatt-"  # what client ids of the centre begin with; no board is enrolled under such a name
_BOARD = "%u"  # in an access list: the name that a certificate or password proved


class May(enum.Enum):
    """What one may do on a topic, in the words of an access list."""

    READ = "read"
    WRITE = "write"
    BOTH = "readwrite"


class Right(NamedTuple):
    """Below phasewatt/v1/BOARD: what that board may do there, and what the centre may."""

    leaf: str
    board: May
    centre: May


# A new topic is one line here and one row of docs/threat-model.md.
RIGHTS = (
    Right("status", May.BOTH, May.READ),  # its own it reads to see whether another disk speaks under its name
    Right("facts", May.WRITE, May.READ),
    Right("batch/+", May.WRITE, May.READ),
    Right("live", May.WRITE, May.READ),
    Right("watch", May.READ, May.WRITE),
    Right("receipt", May.READ, May.WRITE),
    Right("job/get", May.WRITE, May.READ),
    Right("job/update", May.WRITE, May.READ),
    Right("job/notify", May.READ, May.WRITE),
)
CENTRES_OWN = f"{topics.ROOT}/{topics.COLLECTORS}/#"


def access_list() -> str:
    """The acl_file of mosquitto: lines of the centre's user, then patterns that hold for every user."""
    return "\n".join([*_of_the_centre(), "", *_of_boards(), ""])


def _of_the_centre() -> Iterator[str]:
    yield "# The centre: collectors, and who watches."
    yield f"user {CENTRE}"
    for right in RIGHTS:
        yield f"topic {right.centre.value} {topics.ROOT}/+/{right.leaf}"
    yield f"topic {May.BOTH.value} {CENTRES_OWN}"


def _of_boards() -> Iterator[str]:
    yield "# Each board, under the name that it proved."
    for right in RIGHTS:
        yield f"pattern {right.board.value} {topics.ROOT}/{_BOARD}/{right.leaf}"
