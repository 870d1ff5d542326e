"""Profiled trials against the ceilings of their machine: which ceilings count, and how all forms show it."""

from __future__ import annotations

import html as markup
import json
from pathlib import Path

import pytest

from collector.app import main
from collector.compare import compare
from collector.machine_ceilings import choose, peaks_for
from collector.report import chapters, html, markdown, roofline_page, roofline_words
from collector.report.operator_bars import Bar, operator_bars
from collector.report.roofline_plot import roofline_plot
from collector.rooflines import NOT_PROFILED, rooflines
from phasewatt.bounds import GAPS, LAUNCHES, NEAR, Bound
from phasewatt.fields import Phase
from phasewatt.profiles import OperatorTime
from tests.collector.test_report import HOSTILE, WRITTEN_UNIX_S, Page
from tests.fixtures import trials
from tests.fixtures.filled import filled
from tests.fixtures.profiled import CUDA, measured_ceilings, profile, profiled
from tests.fixtures.records import changed

DOCS = Path(__file__).parents[2] / "docs" / "roofline.md"
DONE = trials.work(
    prompt_tokens=2048, shape=changed(trials.SHAPE, hidden_size=2048, head_dim=128, heads=16, intermediate_size=8192)
)
DAY_S = 86_400.0


def trial(device="alpha", done=DONE, seed=0, under=None, **named):
    seen = (profile(done, Phase.DECODE, **named), profile(done, Phase.PREFILL, **named))
    under = under or trials.conditions(**CUDA)
    return profiled(trials.measured(device, done=done, under=under, seed=seed).stored, *seen)


def test_ceilings_of_the_same_campaign_come_first():
    same, nearer = measured_ceilings(started_unix_s=1.0), measured_ceilings(campaign="c2")
    chosen = choose(trial().trial, [nearer, same])
    assert chosen.stored is same and chosen.told == "measured in the same campaign"


def test_else_those_of_the_nearest_conditions_and_then_time():
    start = trials.STARTED_UNIX_S
    held = trials.conditions(**CUDA, power_limit_w=300.0)
    other = measured_ceilings(campaign="c2", under=held, started_unix_s=start)
    old = measured_ceilings(campaign="c3", started_unix_s=start - 9 * DAY_S)
    older = measured_ceilings(campaign="c4", started_unix_s=start - 10 * DAY_S)
    chosen = choose(trial().trial, [other, older, old])
    assert chosen == (old, "measured in campaign c3, 9.0 days earlier")
    assert choose(trial().trial, [other]).told == "measured in campaign c2, 0.0 days earlier, with another power limit"


def test_no_ceilings_of_another_device_or_processor():
    elsewhere = measured_ceilings("beta")
    assert choose(trial().trial, [elsewhere]).told == (
        "the ceilings of alpha were not measured: run `phasewatt-agent run ceilings` there"
    )
    renewed = measured_ceilings(under=trials.conditions(**{**CUDA, "processor": "Newer GPU"}))
    assert choose(trial().trial, [renewed]).told == (
        "the ceilings of alpha are of another processor: Newer GPU, not Example GPU"
    )
    assert peaks_for(trial().trial, [elsewhere]).matmul.value is None


def test_several_gpus_are_not_held_against_the_ceilings_of_one():
    ceilings = measured_ceilings()
    assert peaks_for(trial().trial, [ceilings]).matmul.value is not None
    shared = peaks_for(trial(under=trials.conditions(**CUDA, parallelism="tensor 2")).trial, [ceilings])
    assert shared.matmul.value is None and shared.read.value is None
    assert "the ceilings are of one processor, and tensor 2 shared the work" in shared.matmul.reason


def test_the_cpu_of_a_gpu_host_is_found_by_its_kind():
    on_cpu = trial(under=trials.conditions()).trial
    gpu_only = measured_ceilings()
    assert choose(on_cpu, [gpu_only]).stored is None
    both = changed(
        gpu_only.trial, ceilings=(*gpu_only.trial.ceilings, changed(gpu_only.trial.ceilings[0], processor="cpu"))
    )
    assert choose(on_cpu, [trials.stored(both)]).stored is not None


def test_the_newest_of_each_work_is_shown_and_phases_stand_in_their_order():
    found = rooflines([trial(seed=2), trial(seed=1), trial("beta", seed=1), measured_ceilings()])
    assert [(each.device, each.reference) for each in found.trials] == [("alpha", False), ("beta", False)]
    assert found.trials[0].record_id == trial(seed=2).record_id
    assert [points.phase for points in found.trials[0].phases] == [Phase.PREFILL, Phase.DECODE]
    assert found.trials[0].phases[0].whole.bound is Bound.COMPUTE
    assert found.trials[1].phases[0].whole.bound is None  # beta has no ceilings


def test_trials_without_a_profile_are_counted():
    bare = trials.measured().stored
    (without,) = rooflines([bare, trial(), trials.failed(), measured_ceilings()]).without
    assert (without.reason, without.record_ids) == (NOT_PROFILED, (bare.record_id,))


def test_all_forms_show_the_same_figures(tmp_path, capsys):
    url = filled(tmp_path, [trial(), measured_ceilings()])
    assert main(["roofline", "--db", url]) == 0
    told = capsys.readouterr().out
    assert main(["roofline", "--db", url, "--out", f"{tmp_path}/page.html"]) == 0
    page = markup.unescape((tmp_path / "page.html").read_text(encoding="utf-8"))
    capsys.readouterr()
    assert main(["roofline", "--db", url, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "roofline/0"
    (only,) = answer["trials"]
    (up,) = [point for point in only["phases"][0]["operators"] if point["operator"] == "ffn_up"]
    assert up["bound"] == "compute-bound" and up["mfu"] == pytest.approx(0.8, rel=1e-3)
    for text in (told, page):
        assert "FFN-Up" in text and "80.0 % (64.0 %)" in text and "compute-bound" in text
        assert "measured in the same campaign" in text and "causal: each token on those before it" in text


def test_a_suite_or_model_that_is_asked_for_still_finds_the_ceilings(tmp_path, capsys):
    url = filled(tmp_path, [trial(), measured_ceilings()])
    assert main(["roofline", "--db", url, "--suite", "phases", "--model", "llama-tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"][0]["peaks"]["matmul"]["value"]


def test_what_cannot_be_shown_is_one_line(tmp_path, capsys):
    url = filled(tmp_path, [trials.measured().stored])
    assert main(["roofline", "--db", url]) == 2
    assert "no trial here has an operator profile" in capsys.readouterr().err
    assert main(["roofline", "--db", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == []
    for wrong in (["--out", "x.txt"], ["--out", "x.html", "--json"]):
        assert main(["roofline", "--db", url, *wrong]) == 2
        assert "expected a name that ends in .html" in capsys.readouterr().err


def test_a_profile_with_nothing_and_a_truncated_one_say_so():
    empty = changed(profile(DONE, Phase.PREFILL), repetitions=0, operators=(), busy_ns=0, reason="CUPTI is not there")
    short = changed(profile(DONE, Phase.DECODE), reason="truncated: 7 of 9 launches have no kernel in the trace")
    stored = profiled(trials.measured(done=DONE, under=trials.conditions(**CUDA)).stored, empty, short)
    (found,) = rooflines([stored, measured_ceilings()]).trials
    prefill, decode = roofline_words.part(found).sheets
    assert prefill.rows == () and prefill.notes == ("nothing to show: CUPTI is not there",)
    assert any("no bound for every operator: the profile lacks kernels: truncated" in note for note in decode.notes)
    assert roofline_plot(found) is None  # no rate is known
    assert operator_bars([Bar("decode", found.phases[1])]) is not None
    assert operator_bars([Bar("prefill", found.phases[0])]) is None


def test_phases_differ_by_shape_and_not_by_colour_alone():
    (found,) = rooflines([trial(), measured_ceilings()]).trials
    axes = roofline_plot(found).axes[0]
    markers = {line.get_label(): line.get_marker() for line in axes.get_lines()}
    assert markers["prefill"] == markers["prefill, all together"] == "o"
    assert markers["decode"] == markers["decode, all together"] == "^"
    assert {"measured ceilings", "data sheet"} <= set(markers)
    roof = next(line for line in axes.get_lines() if line.get_label() == "measured ceilings")
    assert max(roof.get_ydata()) == found.peaks.matmul.value
    assert {"FFN-Up", "AttnCore"} <= {name for text in axes.texts for name in text.get_text().split(", ")}


def test_bars_are_full_and_grouped():
    (found,) = rooflines([trial(), measured_ceilings()]).trials
    figure = operator_bars([Bar(points.phase.value, points) for points in found.phases])
    drawn = [bar for bar in figure.axes[0].patches if bar.get_fill()]
    assert sum(bar.get_width() for bar in drawn) == pytest.approx(len(found.phases))
    assert len({bar.get_hatch() for bar in drawn}) == 4  # three groups, and what belongs to none


def test_the_report_has_a_section_where_trials_have_profiles():
    fast, slow = trial("alpha"), trial("beta", slowed={"ffn_up": 2.0})
    several = [fast, slow, measured_ceilings("alpha")]
    comparison = compare(several)
    assert comparison.refused == ()  # ceilings are no work that could not be compared
    told = chapters.gather(comparison, several)
    page = Page(html.render(comparison, [], WRITTEN_UNIX_S, told))
    assert page.open == [] and "Where the time goes" in page.text
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    text = markdown.render(comparison, told)
    assert "## Where the time goes" in text and "| FFN-Up |" in text
    assert "## Where the time goes" not in markdown.render(comparison)
    assert "Where the time goes" not in html.render(comparison, [], WRITTEN_UNIX_S)


def test_the_report_command_takes_ceilings_of_any_suite(tmp_path, capsys):
    url = filled(tmp_path, [trial("alpha"), trial("beta"), measured_ceilings("alpha")])
    arguments = ["report", "--db", url, "--suite", "phases", "--no-reference"]
    assert main([*arguments, "--out", f"{tmp_path}/report.md"]) == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "measured in the same campaign" in text and "run \\`phasewatt-agent run ceilings\\` there" in text
    assert main([*arguments, "--out", f"{tmp_path}/report.html"]) == 0
    assert "Where the time goes" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_comparisons_have_mfu_and_mbu_where_ceilings_were_measured():
    pair = [trials.measured(name, under=trials.conditions(**CUDA)).stored for name in ("alpha", "beta")]
    (done,) = compare([*pair, measured_ceilings("alpha")]).works
    (row,) = [row for row in done.rows if row.metric == "decode_mbu"]
    assert row.cells[0].value and row.cells[1].value is None
    assert row.cells[1].reason.startswith("the ceilings of beta were not measured")
    (neither,) = compare(pair).works
    assert "decode_mbu" in {absent.metric for absent in neither.not_available}


def test_hostile_names_are_shown_and_not_obeyed():
    seen = profile(DONE, Phase.PREFILL)
    evil = OperatorTime(operator=HOSTILE, device_ns=10**9, launches=3)
    seen = changed(seen, operators=(*seen.operators, evil), reason=HOSTILE)
    stored = profiled(trials.measured(done=DONE, under=trials.conditions(**CUDA, mode=HOSTILE)).stored, seen)
    found = rooflines([stored, measured_ceilings()])
    text = roofline_page.render(found, WRITTEN_UNIX_S)
    assert "<script" not in text and Page(text).open == []
    for table in roofline_words.part(found.trials[0]).sheets:
        assert not any("\x1b" in told for row in (*table.rows, table.notes) for told in row)


def test_the_rules_in_the_documentation_are_those_of_the_code():
    text = DOCS.read_text(encoding="utf-8")
    for rule in (f"{NEAR:.0%}".replace("%", " %"), f"{GAPS:.0%}".replace("%", " %"), f"{LAUNCHES:.0f} launches"):
        assert rule in text
