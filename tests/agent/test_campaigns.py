"""A campaign knows which cells are done, exactly as far as their trials are in the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.campaigns import Campaigns
from agent.outbox import Outbox
from phasewatt.errors import RecordRejected
from phasewatt.fields import Outcome
from tests.fixtures.records import changed, trace, trial
from tests.fixtures.wire import events

CAP_BYTES = 64 * 1024 * 1024


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path, CAP_BYTES, lambda: 1.7e9)) as opened:
        yield opened


def test_an_interrupted_campaign_goes_on_with_its_missing_cells(tmp_path):
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as outbox:
        campaigns = Campaigns(outbox)
        begun = campaigns.start_campaign("digest-1")
        campaigns.commit_cell(begun, "cell-a", Outcome.OK, [trial()])
        campaigns.commit_cell(begun, "cell-b", Outcome.SKIPPED, [trial(outcome=Outcome.SKIPPED, reason="too large")])
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as outbox:
        campaigns = Campaigns(outbox)
        assert campaigns.open_campaign("digest-1") == begun
        assert campaigns.open_campaign("digest-of-another-suite") is None
        assert campaigns.cells_done(begun) == {"cell-a", "cell-b"}


def test_a_cell_whose_records_were_not_stored_is_not_done(outbox):
    campaigns = Campaigns(outbox)
    begun = campaigns.start_campaign("digest-1")
    invalid = changed(events(1)[0], message="x" * 5000)
    with pytest.raises(RecordRejected):
        campaigns.commit_cell(begun, "cell-a", Outcome.OK, [trial(), invalid])
    assert campaigns.cells_done(begun) == set()
    assert outbox.pending() == 0


def test_records_are_not_stored_if_their_cell_cannot_be_noted(outbox):
    campaigns = Campaigns(outbox)
    begun = campaigns.start_campaign("digest-1")
    with pytest.raises(AttributeError):
        campaigns.commit_cell(begun, "cell-a", None, [trial()])
    assert outbox.pending() == 0


def test_a_cell_names_its_trial_and_all_its_records_are_in_the_outbox(outbox):
    campaigns = Campaigns(outbox)
    begun = campaigns.start_campaign("digest-1")
    assert campaigns.commit_cell(begun, "cell-a", Outcome.OK, [trace([1.0, 2.0]), trial()]) == [1, 2]


def test_a_closed_campaign_is_not_gone_on_with(outbox):
    campaigns = Campaigns(outbox)
    campaigns.close_campaign(campaigns.start_campaign("digest-1"))
    assert campaigns.open_campaign("digest-1") is None


def test_a_new_campaign_closes_the_one_of_the_same_suite(outbox):
    campaigns = Campaigns(outbox)
    older, newer = campaigns.start_campaign("digest-1"), campaigns.start_campaign("digest-1")
    assert older.startswith("20231114T221320Z-")
    assert campaigns.open_campaign("digest-1") == newer != older
    campaigns.close_campaign(newer)
    assert campaigns.open_campaign("digest-1") is None
