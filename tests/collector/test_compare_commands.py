from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from collector import app
from collector.comparison import Comparison
from collector.store import open_store
from tests.fixtures.trials import GPU, MODULE, Measured, conditions, measured, work
from tests.fixtures.wire import batch_of

Run = Callable[..., int]


@pytest.fixture
def filled(tmp_path: Path) -> Callable[[Sequence[Measured]], str]:
    """Makes a database that holds some trials, and gives its URL."""

    def fill(trials: Sequence[Measured]) -> str:
        url = f"sqlite:///{tmp_path / 'trials.db'}"
        with contextlib.closing(open_store(url, create=True)) as store:
            for index, each in enumerate(trials):
                envelope = {"device": each.stored.trial.device, "epoch": f"epoch-{index}"}
                store.ingest(batch_of(each.stored.trial, **envelope), 1.7e9)
                if each.traces:
                    store.ingest(batch_of(*each.traces, first_seq=9, **envelope), 1.7e9)
        return url

    return fill


@pytest.fixture
def two_devices(filled: Callable[[Sequence[Measured]], str]) -> str:
    return filled([measured("alpha", sensors=[GPU]), measured("beta", slowness=2, sensors=[GPU])])


def test_json_is_the_comparison(two_devices: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["compare", "--db", two_devices, "--json"]) == 0
    printed = capsys.readouterr().out
    assert msgspec.json.decode(printed, type=Comparison).baseline == "alpha"
    assert json.loads(printed)["schema"] == "compare/1"


def test_the_terminal_and_markdown_show_it(two_devices: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["compare", "--db", two_devices]) == 0
    assert "beta beside alpha: prefill 2.0" in capsys.readouterr().out
    assert app.main(["compare", "--db", two_devices, "--markdown", "--baseline", "beta"]) == 0
    assert "- alpha beside beta: prefill 2.0" in capsys.readouterr().out


def test_a_report_is_one_file(two_devices: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, beginning in (("report.html", "<!doctype html>"), ("report.md", "# The same work compared")):
        assert app.main(["report", "--db", two_devices, "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(beginning)
        assert str(tmp_path / name) in capsys.readouterr().out
    assert "Power over time" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir() if "report" in path.name} == {"report.html", "report.md"}


def test_a_report_draws_the_power_that_the_store_holds(two_devices: str, tmp_path: Path) -> None:
    app.main(["report", "--db", two_devices, "--out", str(tmp_path / "r.html")])
    assert "gpu-board: gpu0" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_suite_and_device_choose_trials(
    filled: Callable[[Sequence[Measured]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = filled([measured(name) for name in ("alpha", "beta", "gamma")])
    assert app.main(["compare", "--db", url, "--json", "--device", "alpha", "beta", "--suite", "phases"]) == 0
    assert [group["label"] for group in json.loads(capsys.readouterr().out)["groups"]] == ["alpha", "beta"]


def test_across_compares_dtypes(
    filled: Callable[[Sequence[Measured]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = filled([measured(), measured(done=work(dtype="float32"))])
    assert app.main(["compare", "--db", url]) == 2
    assert "--across dtype" in capsys.readouterr().err
    assert app.main(["compare", "--db", url, "--across", "dtype"]) == 0
    assert "across dtype (bfloat16 against float32)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--suite", "absent"], "matches --suite absent"),
        (["--device", "absent"], "matches --device absent"),
        (["--device", "alpha"], "nothing to compare: no two groups did the same work (alpha: only one group"),
        (["--baseline", "absent"], "--baseline: expected one of alpha; beta"),
        (["--json", "--markdown"], "expected one of them"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_a_code(
    two_devices: str, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["compare", "--db", two_devices, *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
    assert printed.err.count("\n") == 1


def test_an_empty_database_says_what_to_do(
    filled: Callable[[Sequence[Measured]], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = filled([])
    for command in (["compare"], ["report", "--out", str(tmp_path / "r.html")]):
        assert app.main([*command, "--db", url]) == 2
        assert "phasewatt-agent run" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_a_missing_database_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["compare", "--db", f"sqlite:///{tmp_path / 'none.db'}"]) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "told"), [("report.pdf", "ends in .html or .md"), ("no/folder/r.html", "cannot be")])
def test_a_report_that_cannot_be_written_is_one_line(
    two_devices: str, tmp_path: Path, name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["report", "--db", two_devices, "--out", str(tmp_path / name)]) == 2
    assert told in capsys.readouterr().err


def test_an_earlier_report_stays_when_a_new_one_cannot_be_made(two_devices: str, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("earlier")
    assert app.main(["report", "--db", two_devices, "--out", str(tmp_path / "r.html"), "--suite", "absent"]) == 2
    assert (tmp_path / "r.html").read_text() == "earlier"


def test_simulated_trials_are_called_so(
    filled: Callable[[Sequence[Measured]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = filled([measured("alpha"), measured("fake", under=conditions(simulated=True))])
    app.main(["compare", "--db", url])
    assert "fake, simulated" in capsys.readouterr().out


def test_unlike_scopes_are_compared_when_asked_and_the_way_to_ask_is_told(
    filled: Callable[[Sequence[Measured]], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = filled([measured("orin", sensors=[MODULE]), measured("dgx", sensors=[GPU])])
    assert app.main(["compare", "--db", url]) == 0
    assert "--unlike-scopes compares the nearest ones" in capsys.readouterr().out
    assert app.main(["compare", "--db", url, "--unlike-scopes"]) == 0
    assert "gpu-board beside module" in capsys.readouterr().out
    report = tmp_path / "report.html"
    assert app.main(["report", "--db", url, "--unlike-scopes", "--out", str(report)]) == 0
    assert "unlike scopes, so neither is better" in report.read_text(encoding="utf-8")


@pytest.fixture
def two_modes(filled: Callable[[Sequence[Measured]], str]) -> str:
    """One device in two power modes."""
    modes = (("MAXN", 1.0), ("15W", 2.0))
    return filled(
        [
            measured("orin", under=conditions(power_mode=mode), slowness=slowness, sensors=[MODULE], seed=index)
            for index, (mode, slowness) in enumerate(modes)
        ]
    )


BY = ("--by", "power_mode", "--baseline", "MAXN")


def test_by_a_condition_in_every_form(two_modes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Terminal, JSON, Markdown, HTML: columns by value, and the cost of a million tokens."""
    price = ("--price-kwh", "0.30", "--currency", "EUR")
    assert app.main(["compare", "--db", two_modes, *BY, *price]) == 0
    shown = capsys.readouterr().out
    assert "15W beside MAXN: prefill 2.0" in shown
    assert "EUR per million decoded tokens (module)" in shown
    assert app.main(["compare", "--db", two_modes, *BY, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["strata"][0]["values"]) == ("compare-by/0", ["MAXN", "15W"])
    assert app.main(["compare", "--db", two_modes, *BY, "--markdown"]) == 0
    assert "| Metric | MAXN \\(baseline\\) | 15W |" in capsys.readouterr().out.replace("(baseline)", "\\(baseline\\)")
    for name in ("by.html", "by.md"):
        assert app.main(["report", "--db", two_modes, *BY, "--out", str(tmp_path / name)]) == 0
        assert "15W" in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--by", "clock"), "nothing to compare by clock: no device did the same work under two values"),
        (("--by", "power_mode", "--baseline", "60W"), "--baseline: expected a value of power mode"),
        (("--by", "power_mode", "--across", "dtype"), "--by: expected without --across"),
        (("--price-kwh", "0.3", "--currency", "EUR"), "--price-kwh, --currency: expected beside --by"),
        ((*BY, "--price-kwh", "0.3"), "--price-kwh, --currency: expected both"),
        ((*BY, "--price-kwh", "-1", "--currency", "EUR"), "--price-kwh: expected a price above 0"),
        ((*BY, "--price-kwh", "nan", "--currency", "EUR"), "--price-kwh: expected a price above 0"),
        ((*BY, "--price-kwh", "1", "--currency", "\x1b[31m"), "--currency: expected up to 12 letters"),
    ],
)
def test_wrong_options_of_by_are_one_line(
    options: tuple[str, ...], words: str, two_modes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["compare", "--db", two_modes, *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_sweeps_and_courses_of_a_store_without_them(two_modes: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Said with the remedy; a trial that is named has a course, as far as it was watched."""
    assert app.main(["sweeps", "--db", two_modes]) == 0
    assert "run `phasewatt-agent run batch-sweep`" in capsys.readouterr().out
    assert app.main(["course", "--db", two_modes]) == 2
    assert "run `phasewatt-agent run sustained`" in capsys.readouterr().err
    assert app.main(["course", "--db", two_modes, "--parts", "1"]) == 2
    assert "--parts: expected 2 to 200" in capsys.readouterr().err


def test_a_sweep_and_a_course_are_shown(
    filled: Callable[[Sequence[Measured]], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batches beside each other, the best with a star; a trial stretch by stretch with its power."""
    under = conditions(accelerator="cuda")
    trials = [
        measured(done=work(batch=batch), under=under, slowness=batch / 2, sensors=[GPU], seed=batch, repetitions=200)
        for batch in (1, 2, 4)
    ]
    url = filled(trials)
    assert app.main(["sweeps", "--db", url]) == 0
    shown = capsys.readouterr().out
    assert "decode_rate is best at batch" in shown and " *" in shown
    assert app.main(["sweeps", "--db", url, "--json"]) == 0
    assert [point["batch"] for point in json.loads(capsys.readouterr().out)["sweeps"][0]["points"]] == [1, 2, 4]
    assert app.main(["course", trials[0].stored.record_id[:12], "--db", url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {phase["phase"] for phase in told["phases"]} == {"prefill", "decode", "request"}
    assert all(stretch["tokens_per_s"] > 0 for phase in told["phases"] for stretch in phase["stretches"])
    page = tmp_path / "course.html"
    assert app.main(["course", trials[0].stored.record_id, "--db", url, "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 3
    assert "power on gpu-board" in text and "this host does not tell of throttling" in text
    assert app.main(["course", trials[0].stored.record_id, "--db", url, "--out", str(tmp_path / "c.txt")]) == 2
