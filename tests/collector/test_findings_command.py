"""`findings` as a user meets it: shipped trials, a database, an empty one, JSON and the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest

from collector.app import main
from collector.findings import CLAIMS, Answer, answers
from collector.report import findings_page
from collector.report.finding_pictures import draw, in_words
from collector.stored import StoredTrial
from tests.fixtures import study, trials
from tests.fixtures.filled import filled
from tests.fixtures.records import changed

ROOT = Path(__file__).parents[2]
KEYS = {"id", "claim", "verdict", "figure", "rule", "device", "missing"}
VERDICTS = {"holds", "does_not_hold", "not_enough_data"}


@pytest.fixture(scope="module")
def decided() -> tuple[Answer, ...]:
    return answers(study.paper())


@pytest.fixture
def database(tmp_path: Path) -> Callable[[Iterable[StoredTrial]], str]:
    """Makes a database that holds some trials, and gives its URL."""
    return partial(filled, tmp_path)


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """The JSON of a call that went well."""
    assert main(["findings", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_without_a_database_the_shipped_trials_are_asked(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    answer = asked(capsys)
    assert answer["schema"] == "findings/0" and answer["source"] == "the trials that come with phasewatt"
    assert {finding["id"] for finding in answer["findings"]} == set(range(1, 13))
    for finding in answer["findings"]:
        assert finding.keys() >= KEYS and finding["verdict"] in VERDICTS
        assert (finding["verdict"] == "not_enough_data") <= bool(finding["missing"])
        assert finding["device"] == ("fleet" if finding["id"] in (9, 12) else finding["device"])


def test_a_database_is_asked_by_itself(capsys, database):
    url = database(study.paper())
    found = {each["id"]: each for each in asked(capsys, "--db", url)["findings"]}
    assert {each["device"] for each in found.values()} == {"server", "fleet"}
    assert found[1]["verdict"] == "holds" and found[1]["basis"] == "device-busy time"
    assert len(found[1]["trials"]) > 5


def test_the_shipped_trials_can_be_asked_beside(capsys, database):
    devices = {each["device"] for each in asked(capsys, "--db", database(study.paper()), "--reference")["findings"]}
    assert devices == {"server", "cpu-2-core", "h100", "h200", "fleet"}


def test_a_device_can_be_chosen(capsys, database):
    url = database([*study.paper()[:3], *study.paper(device="other")[:3]])
    devices = {each["device"] for each in asked(capsys, "--db", url, "--device", "other")["findings"]}
    assert devices == {"other", "fleet"}


def test_an_empty_database_is_one_line_and_decides_nothing(capsys, database):
    url = database([])
    assert main(["findings", "--db", url]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "nothing to decide from: no trial in" in said.err and "phasewatt-agent run paper" in said.err
    answer = asked(capsys, "--db", url)
    assert [each["id"] for each in answer["findings"]] == list(range(1, 13))
    assert {each["verdict"] for each in answer["findings"]} == {"not_enough_data"}
    assert answer["remarks"][0].startswith("nothing to decide from")


def test_a_device_that_is_not_there_is_one_line(capsys, database):
    assert main(["findings", "--db", database(study.paper()[:2]), "--device", "nobody"]) == 2
    assert "no trial of device 'nobody'" in capsys.readouterr().err


def test_a_database_that_is_not_there_is_one_line(capsys, tmp_path):
    assert main(["findings", "--db", f"sqlite:///{tmp_path}/none.db"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--html", "page.pdf"], ["--html", "page.html", "--json"]])
def test_a_page_needs_its_ending_and_is_no_json(capsys, arguments):
    assert main(["findings", *arguments]) == 2
    assert "--html: expected a name that ends in .html, without --json" in capsys.readouterr().err


def test_simulated_trials_are_said_to_decide_nothing(capsys, database):
    url = database(study.paper(simulated=True)[:4])
    assert main(["findings", "--db", url]) == 0
    said = capsys.readouterr().out
    assert "Mind: 4 of 4 trials are simulated and decide nothing" in said
    assert "12 not enough data" in said


def test_the_terminal_lists_every_claim_and_what_is_missing(capsys, database):
    assert main(["findings", "--db", database(study.paper())]) == 0
    said = capsys.readouterr().out
    assert " 1. Prefill is compute-bound, decode memory-bound" in said and "does not hold" in said
    assert "10 (server) lacks requests with retrieval" in said and "no suite of this version" in said


def test_the_page_holds_every_claim_with_rule_verdict_and_picture(tmp_path, capsys, database):
    page = tmp_path / "findings.html"
    assert main(["findings", "--db", database(study.paper()), "--html", str(page)]) == 0
    assert "does not hold" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert [int(number) for number in re.findall(r"<h2 [^>]*id=\"claim-\d+\">Claim (\d+)</h2>", text)] == list(
        range(1, 13)
    )
    assert text.count("Rule: ") == 12 and text.count("<svg") == 8
    assert not re.search(r"https?://(?!www\.w3\.org)", text) and "<script" not in text
    assert all("aria-label" in svg and 'role="img"' in svg for svg in re.findall(r"<svg[^>]*>", text))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


def test_what_a_board_says_is_escaped(database):
    hostile = [trials.stored(changed(s.trial, conditions=study.how(processor="<img src=x>"))) for s in study.paper()]
    shape = changed(study.SHAPE, name="<script>alert(1)</script>\x1b[2J")
    several = [*hostile, *study.paper(shape=shape, processor="<b>other")]
    page = findings_page.render("<source>", answers(several), ("<remark>",), 1.7e9)
    assert not any(bad in page for bad in ("<script>", "<img", "<b>other", "<source>", "<remark>", "\x1b"))


def test_pictures_say_their_values_to_who_cannot_see_them(decided):
    pictures = {answer.finding.id: answer.picture for answer in decided if answer.picture}
    assert pictures.keys() == {1, 2, 3, 4, 5, 6, 7, 12}
    labels = [text.get_text() for text in draw(pictures[1]).legends[0].get_texts()]
    assert any(label.startswith("balance of the machine") for label in labels)
    assert "2,048 in, 64 out" in in_words(pictures[6]) and "%" in in_words(pictures[6])
    assert "prefill: " in in_words(pictures[1]) and "FLOP/byte at 1,024" in in_words(pictures[1])


def test_the_page_of_the_documents_has_every_sentence_and_rule():
    page = " ".join((ROOT / "docs" / "findings.md").read_text(encoding="utf-8").replace("> ", "").split())
    for number, claim in CLAIMS.items():
        assert f"### {number}. " in page
        assert claim.SENTENCE.replace("> ", "") in page
        assert f"**Rule.** {claim.RULE.replace('> ', '')}" in page
