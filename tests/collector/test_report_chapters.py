"""What a report tells beside the comparison: operators, counters, predictions and findings, in HTML and in Markdown."""

from __future__ import annotations

import re

import pytest

from collector.app import main
from collector.compare import compare
from collector.findings import CLAIMS, Verdict
from collector.report import chapters, finding_words, html, markdown
from tests.collector.test_report import HOSTILE, WRITTEN_UNIX_S, Page
from tests.fixtures import study, trials
from tests.fixtures.filled import filled
from tests.fixtures.records import changed
from tests.fixtures.study import Laws

TITLES = ("Where the time goes", "Hardware counters", "Fits over lengths and batches", "Which claims hold here?")


def fleet():
    """A server that all is known of, the same at twice the speed, and a third that is not in the comparison."""
    counters = study.counted({}, {})
    fast = Laws(prefill_s=(5e-4, 1.3e-5, 0.0), step_s=(3.2e-3, 1.5e-8, 1e-6))
    other = changed(trials.measured("apart", done=trials.work(prompt_tokens=77)).stored.trial)
    return [*study.short([*study.paper(), *counters, *study.paper(fast, device="fast")]), trials.stored(other)]


@pytest.fixture(scope="module")
def told():
    several = fleet()
    comparison = compare(several)
    return comparison, chapters.gather(comparison, several)


@pytest.fixture(scope="module")
def page(told):
    return Page(html.render(told[0], [], WRITTEN_UNIX_S, told[1]))


def test_the_page_has_every_chapter_and_a_way_to_each(page):
    assert page.open == []
    for title in TITLES:
        assert any(title in text for text in page.text), title
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a" and "href" in attributes]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert {"#operators-title", "#counters-title", "#prediction-title", "#overview"} <= set(links)


def test_markdown_has_the_same_tables(told):
    text = re.sub(r"\\(.)", r"\1", markdown.render(*told))
    for title in TITLES:
        assert title in text
    for answer in told[1].answers:
        (line,) = (row for row in finding_words.overview([answer]).rows)
        assert "| " + " | ".join(line) + " |" in text


def test_what_is_not_compared_is_in_no_chapter(told):
    found = told[1]
    assert {answer.finding.device for answer in found.answers} == {"server", "fast", "fleet"}
    assert not any("apart" in row.group for row in found.held_out)
    assert {trial.device for trial in found.counted.trials} == {"server"}


def test_a_finding_without_evidence_is_a_line_that_says_what_is_missing(told, page):
    open_ones = [answer.finding for answer in told[1].answers if not finding_words.has_evidence(answer.finding)]
    assert {finding.id for finding in open_ones} >= {8, 10}
    assert all(finding.verdict is Verdict.NOT_ENOUGH_DATA and finding.missing for finding in open_ones)
    headings = {attributes["id"] for _, attributes in page.elements if str(attributes.get("id")).startswith("claim-")}
    for answer in told[1].answers:
        if answer.finding.id in {8, 10}:
            assert f"claim-{answer.finding.id}" not in headings
    assert any(line.startswith("Claim 8 (server) lacks") for line in finding_words.undecided(told[1].answers))


def test_without_lengths_enough_each_fit_says_what_it_needs():
    several = [trials.measured(name).stored for name in ("alpha", "beta")]
    comparison = compare(several)
    found = chapters.gather(comparison, several)
    text = markdown.render(comparison, found)
    assert found.fits == () and "needs 4 lengths" in text
    assert "no trial here has counters" in text
    assert text.count("lacks") >= len(CLAIMS) - 1


def test_what_a_board_says_is_shown_and_not_obeyed():
    several = [
        trials.stored(changed(each.trial, conditions=study.how(processor=HOSTILE)))
        for device in ("a", "b")
        for each in study.short(study.paper(device=device))
    ]
    comparison = compare(several)
    shown = html.render(comparison, [], WRITTEN_UNIX_S, chapters.gather(comparison, several))
    assert "<script" not in shown and "\x1b" not in shown and Page(shown).open == []


def test_the_command_writes_all_of_it(tmp_path, capsys):
    url = filled(tmp_path, fleet())
    for name in ("report.html", "report.md"):
        assert main(["report", "--db", url, "--no-reference", "--out", str(tmp_path / name)]) == 0
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert all(title in re.sub(r"\\(.)", r"\1", text) for title in TITLES)
    capsys.readouterr()
