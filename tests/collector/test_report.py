from __future__ import annotations

import html as markup
import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import msgspec
import pytest
from rich.console import Console

from collector import numbers
from collector.compare import compare
from collector.comparison import Comparison
from collector.report import html, markdown, terminal
from collector.report.evidence import Evidence, gather
from collector.report.layout import table_of
from collector.report.page import HERE
from phasewatt import codec, identity
from phasewatt.conditions import Conditions
from phasewatt.fields import Kind, Phase, Scope
from phasewatt.records import PhaseReading
from phasewatt.traces import Trace
from tests.fixtures.trials import GPU, MODULE, PACKAGE, Measured, conditions, failed, measured, stored, told, work

HOSTILE = "<script>alert(1)</script> [red]| `x` $y$ & \x1b[31m \"'\n"
WRITTEN_UNIX_S = 1_760_000_000.0
VOID = {"meta", "link"}


class Page(HTMLParser):
    """What a reader of the page can rely on: its elements, ids, text, and whether all of it is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def rendered(*trials: Measured) -> str:
    chosen = [each.stored for each in trials]
    comparison = compare(chosen)
    return html.render(comparison, evidence_of(comparison, trials), WRITTEN_UNIX_S)


def evidence_of(comparison: Comparison, trials: Sequence[Measured]) -> list[Evidence]:
    traces = {identity.record_id(Kind.TRACE, codec.encode(trace)): trace for each in trials for trace in each.traces}

    def traces_of(ids: Sequence[str]) -> list[Trace]:
        return [traces[each] for each in ids if each in traces]

    return list(gather(comparison, [each.stored for each in trials], traces_of))


def on_terminal(comparison: Comparison, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    terminal.show(comparison, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def fleet() -> list[Measured]:
    """A GPU server under two modes, a module, a host without any sensor; two pieces of work."""
    chat, summary = work(), work(prompt_tokens=512, output_tokens=16)
    cuda = {"accelerator": "cuda", "processor": "Example GPU"}
    return [
        *(
            measured("dgx", done=done, under=conditions(mode=mode, **cuda), slowness=slowness, sensors=[GPU, PACKAGE])
            for done in (chat, summary)
            for mode, slowness in (("eager", 1.0), ("graph", 0.45))
        ),
        measured("orin", done=chat, under=conditions(**cuda), slowness=6, sensors=[MODULE]),
        measured("nuc", done=chat, under=conditions(simulated=True), slowness=30, steady=False),
    ]


@pytest.fixture(scope="module")
def page(fleet: list[Measured]) -> str:
    return rendered(*fleet)


def hostile_trial() -> Measured:
    under = conditions(mode=HOSTILE, processor=HOSTILE, marks=(HOSTILE,), versions={HOSTILE: HOSTILE})
    shape = msgspec.structs.replace(work().task.architecture, name=HOSTILE)
    sensor = GPU._replace(name=HOSTILE)
    return measured("evil", done=work(shape=shape), under=under, sensors=[sensor], cell=HOSTILE)


def test_all_forms_show_the_same_numbers() -> None:
    trials = [measured(under=conditions(threads=1), slowness=1.8).stored, measured().stored]
    comparison = compare(trials)
    decoded = json.loads(msgspec.json.encode(comparison))
    (row,) = [row for row in decoded["works"][0]["rows"] if row["metric"] == "decode_step_latency"]
    (cell,) = [cell for cell in comparison.works[0].rows if cell.metric == "decode_step_latency"]
    assert row["cells"][1]["value"] == cell.cells[1].value
    told = [
        numbers.quantity(row["cells"][1]["value"], row["unit"]),
        numbers.interval(cell.cells[1], row["unit"]),
        numbers.ratio(cell.cells[1]),
        numbers.ratio_interval(cell.cells[1]),
    ]
    plain = re.sub(r"\\(.)", r"\1", markdown.render(comparison))
    page = "".join(Page(html.render(comparison, [], WRITTEN_UNIX_S)).text)
    for text in told:
        assert text in on_terminal(comparison)
        assert text in plain
        assert text in page


def test_a_host_without_sensor_shows_the_reason_and_no_number_in_every_form() -> None:
    trials = [measured(name, energy_reason="no power sensor: none here") for name in ("alpha", "beta")]
    comparison = compare([each.stored for each in trials])
    shown = html.render(comparison, evidence_of(comparison, trials), WRITTEN_UNIX_S)
    for text in (on_terminal(comparison, 200), markdown.render(comparison), shown):
        assert "no power sensor: none here" in text
        assert not re.search(r"[0-9] (m|µ|k)?[JW]\b", text)
    assert "There is no energy to show." in shown
    assert "There is no power to draw." in shown


def test_the_terminal_puts_groups_that_do_not_fit_into_further_tables() -> None:
    comparison = compare([measured(name).stored for name in ("a", "b", "c", "d", "e")])
    text = on_terminal(comparison, 80)
    assert text.count(", baseline") == text.count("Prefill latency") == 4
    assert max(map(len, text.splitlines())) <= 80
    wide = on_terminal(comparison, 200)
    assert wide.count("Prefill latency") == 1


def test_the_terminal_takes_no_text_for_markup_or_control() -> None:
    evil = hostile_trial().stored
    text = on_terminal(compare([evil, measured("beta", done=evil.trial.work).stored]))
    assert "[red]" in text
    assert "\x1b" not in text


def test_markdown_escapes_what_comes_from_a_board() -> None:
    text = markdown.render(compare([hostile_trial().stored, failed(reason=HOSTILE)]))
    assert "<script>" not in text
    assert "\x1b" not in text
    assert r"\<script\>" in text


def test_markdown_tables_have_one_cell_a_group_in_every_line(fleet: list[Measured]) -> None:
    text = markdown.render(compare([each.stored for each in fleet]))
    tables = [part.splitlines() for part in re.split(r"\n(?!\| )", text) if "\n| " in part or part.startswith("| ")]
    widths = [{len(re.findall(r"(?<!\\)\|", line)) for line in table if line.startswith("| ")} for table in tables]
    assert {frozenset(each) for each in widths} == {frozenset({6}), frozenset({7}), frozenset({8})}


def test_refused_trials_are_shown_with_their_reason() -> None:
    trials = [measured("alpha").stored, measured("beta").stored, failed("gamma", reason="needs 16 GB, 8 GB free")]
    comparison = compare(trials)
    told = "gamma, phases/chat, 1 trial: failed: needs 16 GB, 8 GB free"
    assert told in on_terminal(comparison)
    assert told in markdown.render(comparison)
    assert told in html.render(comparison, [], WRITTEN_UNIX_S)


def test_marks_stand_beside_the_result_in_every_form() -> None:
    busy = conditions(marks=("not alone: 1.3 cores busy",))
    comparison = compare([measured("alpha").stored, measured("beta", under=busy).stored])
    told = "Mind: beta: not alone: 1.3 cores busy"
    assert told in on_terminal(comparison)
    assert told in markdown.render(comparison)
    assert told in html.render(comparison, [], WRITTEN_UNIX_S)
    assert "Mind: alpha" not in on_terminal(comparison)


def test_doubts_are_marked_beside_the_figure_and_told_below_in_every_form() -> None:
    doubt = "throttled: software power cap in 38% of the window"
    doubtful = told(measured("alpha", sensors=[GPU]), Phase.DECODE, Scope.GPU_BOARD, doubts=(doubt,))
    comparison = compare([doubtful.stored, measured("beta", sensors=[GPU]).stored])
    table = table_of(comparison.works[0])
    number = table.notes.index(f"doubt: {doubt}") + 1
    (line,) = [line for part in table.sections for line in part.lines if line.title.startswith("Decode token energy (")]
    assert number in line.cells[0].marks
    assert number not in line.cells[1].marks
    page = "".join(Page(html.render(comparison, [], WRITTEN_UNIX_S)).text)
    for text in (on_terminal(comparison), markdown.render(comparison), page):
        assert f"doubt: {doubt}" in text


def test_documents_say_what_each_energy_rests_on() -> None:
    comparison = compare([measured(name, sensors=[GPU]).stored for name in ("alpha", "beta")])
    page = "".join(Page(html.render(comparison, [], WRITTEN_UNIX_S)).text)
    for text in (markdown.render(comparison), page):
        assert "What the energy rests on" in text
        assert "constructed.instant: gpu0" in text
    assert "What the energy rests on" not in on_terminal(comparison)


def test_the_terminal_leaves_details_and_the_parts_of_compute_to_documents() -> None:
    clocked = measured("alpha", sensors=[GPU, PACKAGE])
    clock = PhaseReading(
        phase=Phase.DECODE,
        name="gpu0",
        source="nvml.sm_clock",
        unit="Hz",
        mean=1.9e9,
        lowest=1.8e9,
        highest=2e9,
        readings=9,
    )
    read = stored(msgspec.structs.replace(clocked.stored.trial, readings=(clock,)))
    comparison = compare([read, measured("beta", sensors=[GPU, PACKAGE]).stored])
    short, whole = on_terminal(comparison), markdown.render(comparison)
    for text in ("Decode SM clock", "Decode token energy (cpu-package)"):
        assert text not in short
        assert text in whole
    assert "1.90 GHz" in whole
    assert "Decode token energy (compute)" in short
    (left_out,) = [line.strip() for line in short.splitlines() if "In a report and with --markdown" in line]
    assert left_out.endswith("cpu-package figures, power peaks and some figures above idle, clocks and utilisation")


def test_unlike_scopes_are_told_in_every_form() -> None:
    trials = [measured("alpha", sensors=[MODULE]), measured("beta", sensors=[GPU])]
    for asked, words in ((False, "unlike scopes are not compared"), (True, "unlike scopes, compared as asked")):
        comparison = compare([each.stored for each in trials], unlike_scopes=asked)
        page = html.render(comparison, evidence_of(comparison, trials), WRITTEN_UNIX_S)
        for text in (" ".join(on_terminal(comparison, 300).split()), markdown.render(comparison), page):
            assert words in text
            assert ("module beside gpu" in text) is asked


def test_html_is_whole_and_well_formed(page: str) -> None:
    assert Page(page).open == []


def test_html_escapes_what_comes_from_a_board() -> None:
    evil = hostile_trial()
    text = rendered(evil, measured("beta", done=evil.stored.trial.work, under=Conditions(**_fields(evil))))
    assert not Page(text).all("script")
    assert "\x1b" not in text
    assert markup.escape("<script>alert(1)") in text


def _fields(trial: Measured) -> dict[str, object]:
    under = trial.stored.trial.conditions
    return {name: getattr(under, name) for name in under.__struct_fields__}


def test_html_needs_nothing_from_outside(page: str) -> None:
    """No script, and every reference points into the page itself."""
    read = Page(page)
    assert not read.all("script")
    for _, attributes in read.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_html_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    read = Page(page)
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {attributes.get("aria-labelledby") for _, attributes in read.elements}
    wanted |= {(attributes.get("xlink:href") or attributes.get("href") or "")[1:] for _, attributes in read.elements}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert {name for name in wanted if name and not name.startswith("ata:")} <= set(ids)


def test_html_can_be_read_without_seeing_it(page: str) -> None:
    read = Page(page)
    assert read.all("html")[0]["lang"] == "en"
    assert len(read.all("main")) == len(read.all("header")) == len(read.all("footer")) == len(read.all("h1")) == 1
    assert len(read.all("caption")) == len(read.all("table"))
    assert all(cell.get("scope") in {"col", "row", "rowgroup"} for cell in read.all("th"))
    assert len(read.all("figcaption")) == len(read.all("figure")) == len(read.all("svg"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in read.all("svg"))


def test_html_draws_latency_energy_power_and_repetitions(page: str) -> None:
    headings = re.findall(r"<figure>\s*<h3>([^<]*)</h3>", page)
    assert headings.count("Time of each repetition") == 2
    assert {"Prefill latency", "Decode step latency", "Request energy (module)", "Request energy (gpu-board)"} <= set(
        headings
    )
    assert headings.count("dgx, graph") == 2
    assert "nuc, eager, simulated: no power sensor" in page


def test_html_draws_a_lone_scope_only_of_a_group_that_shares_none() -> None:
    trials = [
        measured("alpha", sensors=[GPU, PACKAGE]),
        measured("beta", sensors=[GPU]),
        measured("orin", sensors=[MODULE]),
    ]
    headings = re.findall(r"<figure>\s*<h3>Request energy \(([^<]*)\)</h3>", rendered(*trials))
    assert headings == ["gpu-board", "module"]


def test_html_follows_the_theme_everywhere(page: str) -> None:
    """No colour is left that a dark page would not change."""
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.search(r"(?:fill|stroke): ?#", drawings)
    defined = set(re.findall(r"(--[a-z0-9]+):", page))
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", page)) <= defined


def test_html_text_has_contrast_in_light_dark_and_print() -> None:
    styles = (HERE / "style.css").read_text(encoding="utf-8")
    themes = re.findall(r":root \{(.*?)\}", styles, re.DOTALL)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"(--[a-z0-9]+): (#[0-9a-f]{6})", theme))
        for text in ("--ink", "--muted", "--accent", "--better", "--worse", "--unclear"):
            assert min(_contrast(colours[text], colours[back]) for back in ("--paper", "--card")) >= 4.5
        for band in ("--load", "--idle", "--prefill", "--decode", "--request"):
            assert _contrast(colours["--ink"], colours[band]) >= 4.5
        for number in range(7):
            assert _contrast(colours[f"--series{number}"], colours["--card"]) >= 3


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.1."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_same_trials_give_the_same_page(fleet: list[Measured], page: str) -> None:
    assert rendered(*fleet) == page


def test_a_trial_whose_traces_are_lost_keeps_its_numbers_and_says_so() -> None:
    trials = [measured(name, sensors=[GPU])._replace(traces=()) for name in ("alpha", "beta")]
    text = rendered(*trials)
    assert "alpha; beta: the traces are not in this store" in text
    assert "Request energy (gpu-board)" in text


def test_pictures_show_the_newest_trial_that_has_its_traces() -> None:
    old, new = measured("alpha", sensors=[GPU], seed=1), measured("alpha", sensors=[GPU], seed=2)
    lost = measured("alpha", sensors=[GPU], seed=3)._replace(traces=())
    trials = [old, new, lost, measured("beta")]
    comparison = compare([each.stored for each in trials])
    drawn = {each.group: each for each in evidence_of(comparison, trials)}
    assert drawn["alpha"].trial == new.stored.trial
    assert drawn["alpha"].traces == new.traces
    assert drawn["beta"].traces == ()


def test_a_trial_with_a_single_repetition_is_shown_without_an_interval() -> None:
    once = [measured(name, repetitions=1) for name in ("alpha", "beta")]
    runs = [
        tuple(
            msgspec.structs.replace(
                run,
                starts_ns=run.starts_ns[:1],
                durations_ns=run.durations_ns[:1],
                warmup=0,
                first_token_ns=run.first_token_ns and run.first_token_ns[:1],
                gaps_ns=run.gaps_ns and run.gaps_ns[:1],
            )
            for run in each.stored.trial.runs
        )
        for each in once
    ]
    bare = [stored(msgspec.structs.replace(each.stored.trial, runs=r)) for each, r in zip(once, runs, strict=True)]
    text = rendered(*(Measured(trial) for trial in bare))
    assert "no clear difference" in text
    assert "1 trial" in text
