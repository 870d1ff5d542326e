"""Which cells of a suite are done: kept beside the rows, so that a trial and its cell are committed together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from agent.outbox import Outbox
from agent.spool import value
from phasewatt import codec, identity
from phasewatt.codec import SentRecord
from phasewatt.fields import Kind, Outcome
from phasewatt.messages import Clock
from phasewatt.records import Trial


class Campaigns:
    """The runs of suites that this board began; one that was interrupted goes on with its missing cells."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def open_campaign(self, suite_digest: str) -> str | None:
        """The campaign of that suite that was not closed; None: there is none to go on with."""
        with self._outbox.reading() as db:
            query = "SELECT id FROM campaign WHERE suite = ? AND closed_unix_s IS NULL"
            return value(db, query, suite_digest)  # type: ignore[no-any-return] # a TEXT column or None

    def start_campaign(self, suite_digest: str) -> str:
        """The id of a new campaign; one of the same suite that was still open is closed."""
        now = self._outbox.clock()
        campaign = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{secrets.token_hex(3)}"
        with self._outbox.transaction() as db:
            query = "UPDATE campaign SET closed_unix_s = ? WHERE suite = ? AND closed_unix_s IS NULL"
            db.execute(query, (now, suite_digest))
            db.execute("INSERT INTO campaign VALUES (?, ?, ?, NULL)", (campaign, suite_digest, now))
        return campaign

    def commit_cell(self, campaign: str, cell: str, outcome: Outcome, records: Sequence[SentRecord]) -> list[int]:
        """The seqs of `records`; they are in the outbox and the cell is done, or neither.

        Raises:
            RecordRejected, OutboxFull: as `Outbox.append`; the cell is not done.
        """
        with self._outbox.transaction() as db:
            seqs = self._outbox.append(records)
            row = (campaign, cell, outcome.value, _trial_id(records), self._outbox.clock())
            db.execute("INSERT OR REPLACE INTO cell VALUES (?, ?, ?, ?, ?)", row)
        return seqs

    def cells_done(self, campaign: str) -> set[str]:
        """The cells that need not be run again, whatever their outcome."""
        with self._outbox.reading() as db:
            return {cell for (cell,) in db.execute("SELECT cell FROM cell WHERE campaign = ?", (campaign,))}

    def trials_of(self, campaign: str) -> list[Trial]:
        """The trials of a campaign that the outbox still holds."""
        clock = Clock(synchronised=None, offset_bound_s=None)
        found: list[Trial] = []
        for batch in self._outbox.batches("any", "any", clock):
            if batch.kind is not Kind.TRIAL:
                break
            read = (codec.decode_record(Kind.TRIAL, item.schema, bytes(item.body)) for item in batch.items)
            found += (trial for trial in read if isinstance(trial, Trial) and trial.campaign == campaign)
        return found

    def close_campaign(self, campaign: str) -> None:
        """End the campaign; the next run of its suite is a new one."""
        with self._outbox.transaction() as db:
            db.execute("UPDATE campaign SET closed_unix_s = ? WHERE id = ?", (self._outbox.clock(), campaign))


def _trial_id(records: Sequence[SentRecord]) -> str | None:
    trials = (record for record in records if isinstance(record, Trial))
    return next((identity.record_id(Kind.TRIAL, codec.encode(trial)) for trial in trials), None)
