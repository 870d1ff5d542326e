"""One of several collectors on one store: the broker gives each batch to one member of their group.

A member joins in steps, each of which the broker's answer ends. It asks the broker to send it its own state through
a shared subscription, since a broker that does not know `$share` grants one and sends nothing. It listens to the
other collectors, and does not join where a member that lives has another store: a board whose receipts name two stores
sends everything to both, again and again. Only then it asks for batches. A member whose store fails leaves the group,
so that the others get what it cannot keep.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from collector.inbox import Message
from phasewatt import codec, topics
from phasewatt.errors import RecordRejected
from phasewatt.messages import CollectorState, Presence

ANSWER_S = 15.0  # for one's own state to come back, before it is said that it does not
GRACE_S = 5.0  # for a member of another store that was last seen online to say that it lives
NEWCOMER_S = 10.0  # after joining: until then it is the newcomer who goes, where stores differ
AWAY_FIRST_S = 2.0  # of a member whose store failed, before it comes back; twice as long each time
AWAY_MAX_S = 60.0

logger = logging.getLogger(__name__)


class Wire(Protocol):
    """What a member does at its broker."""

    def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for messages; `Sharing.granted` tells that the broker said yes to all."""

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Ask for no more of them."""

    def announce(self, presence: Presence) -> CollectorState:
        """Publish this member's state, and give it."""


class Step(enum.Enum):
    """How far a member is."""

    APART = "apart"  # no connection
    ASKING = "asking"  # whether the broker knows shared subscriptions
    MEETING = "meeting"  # whether the others have the same store
    JOINING = "joining"
    MEMBER = "member"
    AWAY = "away"  # its store fails


_UNANSWERED = (Step.ASKING, Step.MEETING, Step.JOINING)


class Sharing:
    """How one collector, `name`, is a member of `group`; calls come from the network's thread and from the worker."""

    def __init__(
        self,
        group: str,
        name: str,
        wire: Wire,
        joined: Callable[[], None],
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refusal: str | None = None  # why it may not join, for good
        self.step = Step.APART
        self._group = group
        self._own = topics.collector_state(name)
        self._wire = wire
        self._joined = joined
        self._stopwatch = stopwatch
        self._lock = threading.RLock()
        self._said: CollectorState | None = None
        self._since_s = 0.0  # of the step
        self._complained = False
        self._ghosts: dict[str, CollectorState] = {}  # of another store, and perhaps no longer there
        self._answered: dict[str, CollectorState] = {}
        self._met: float | None = None  # when all were heard that the broker remembers
        self._away_s = AWAY_FIRST_S

    def connected(self) -> None:
        """Begin, over a new connection."""
        with self._lock:
            self._ghosts.clear()
            self._enter(Step.ASKING, [topics.shared(self._group, self._own)])

    def disconnected(self) -> None:
        """Begin anew with the next connection."""
        with self._lock:
            self.step = Step.APART

    def granted(self) -> None:
        """Go on: the broker granted what the present step asked for."""
        with self._lock:
            if self.step in (Step.ASKING, Step.MEETING):
                self._said = self._wire.announce(Presence.OFFLINE)  # not a member yet
            elif self.step is Step.JOINING:
                self._enter(Step.MEMBER)
                self._said = self._wire.announce(Presence.ONLINE)
                self._joined()

    def hear(self, message: Message, generation: Callable[[], str]) -> None:
        """Take what a collector says of itself; `generation` looks into the store."""
        try:
            state = codec.decode(codec.unpack(message.payload, codec.MAX_PAYLOAD_BYTES), CollectorState)
        except RecordRejected as error:
            logger.warning("ignored, no state of a collector: %s", error)
            return
        if message.topic == self._own:
            with self._lock:
                self._hear_own(state, message.retained)
        elif state.group == self._group and topics.collector_state(state.collector) == message.topic:
            mine = generation()  # outside of the lock: the network's thread must not wait for a store
            with self._lock:
                self._hear_member(state, message.retained, mine)

    def tick(self, store_fails: bool, store_works: Callable[[], bool]) -> None:
        """Do what is due by time; `store_fails`: what came just now could not be stored; `store_works` tries it."""
        comes_back = self._away_long_enough() and store_works()
        with self._lock:
            waited_s = self._stopwatch() - self._since_s
            if self.step is Step.MEETING and self._met is not None:
                self._join_when_met()
            elif self.step in _UNANSWERED and waited_s > ANSWER_S:
                self._ask_again()
            elif self.step is Step.MEMBER and store_fails:
                self._leave()
            elif self.step is Step.MEMBER and waited_s > AWAY_MAX_S:
                self._away_s = AWAY_FIRST_S
            elif self.step is Step.AWAY and comes_back:
                logger.warning("the store works: back in group %s", self._group)
                self._away_s = min(2 * self._away_s, AWAY_MAX_S)
                self._join()

    def _away_long_enough(self) -> bool:
        with self._lock:
            return self.step is Step.AWAY and self._stopwatch() - self._since_s > self._away_s

    def _enter(self, step: Step, filters: Sequence[str] = ()) -> None:
        self.step = step
        self._since_s = self._stopwatch()
        self._met = None
        if filters:
            self._wire.subscribe(filters)

    def _join(self) -> None:
        self._enter(Step.JOINING, topics.from_boards(self._group))

    def _hear_own(self, state: CollectorState, retained: bool) -> None:
        if retained or state != self._said:
            return
        if self.step is Step.ASKING:
            self._complained = False
            self._wire.unsubscribe([topics.shared(self._group, self._own)])
            self._enter(Step.MEETING, [topics.collector_state("+")])
        elif self.step is Step.MEETING:
            self._met = self._stopwatch()
            self._join_when_met()

    def _hear_member(self, state: CollectorState, retained: bool, mine: str) -> None:
        if state.generation == mine or state.presence is Presence.OFFLINE:
            self._ghosts.pop(state.collector, None)
        elif retained:
            self._ghosts[state.collector] = state
        else:
            self._oppose(state, mine)
        if state.generation != mine and self.step is Step.MEMBER and self._answered.get(state.collector) != state:
            self._answered[state.collector] = state  # once: it answers too
            self._said = self._wire.announce(Presence.ONLINE)

    def _oppose(self, state: CollectorState, mine: str) -> None:
        words = (
            f"collector {state.collector} of group {self._group} has another store ({state.generation[:8]}, here "
            f"{mine[:8]}): members of a group share one database; give both the same --db, or one another --share"
        )
        if self.step is not Step.MEMBER or self._stopwatch() - self._since_s < NEWCOMER_S:
            self.refusal = words
        elif self._answered.get(state.collector) != state:
            logger.error("%s", words)

    def _join_when_met(self) -> None:
        assert self._met is not None
        if self.refusal is not None or (self._ghosts and self._stopwatch() - self._met < GRACE_S):
            return
        for name in sorted(self._ghosts):
            logger.warning("collector %s of another store was in group %s and does not answer now", name, self._group)
        self._join()

    def _ask_again(self) -> None:
        if self.step is Step.JOINING:
            self._join()
            return
        self._since_s = self._stopwatch()
        if not self._complained:
            self._complained = True
            logger.error(
                "nothing comes through a shared subscription ($share/%s/...): this broker may not know them (mosquitto "
                "does from 1.6 on), or its access list may not let this user read and write %s; leave out --share, or "
                "see to the broker",
                *(self._group, self._own),
            )
        self._said = self._wire.announce(Presence.OFFLINE)

    def _leave(self) -> None:
        logger.error("left group %s until the store works: its other members get what boards send", self._group)
        self._enter(Step.AWAY)
        self._wire.unsubscribe(topics.from_boards(self._group)[-1:])
