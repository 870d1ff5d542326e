"""Ceilings: what is measured, on what, when in a campaign, and what becomes of it; sheets beside them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent import ceiling_table, ceilings, cells, kept_ceilings, sheets
from agent.attempt import Finished, Plan
from agent.bench import Bench
from agent.campaigns import Campaigns
from agent.cells import Cell, Measure, Suite
from agent.control import RunRequest
from agent.durations import Durations
from agent.estimate import RATES
from agent.host import Host
from agent.measuring import CeilingsDone, CellDone, Ended, Means, run_suite
from agent.models import preset
from agent.orders import MeasureCeiling
from agent.outbox import Outbox
from agent.pace import Pace
from agent.runner import Metering, Runner
from agent.settings import Settings
from agent.station import Station
from agent.stopping import Stop, Until
from phasewatt import codec
from phasewatt.errors import ConfigInvalid, EngineFailed
from phasewatt.fields import Kind, Outcome
from phasewatt.profiles import Ceiling
from phasewatt.records import Trial
from tests.fixtures.records import changed, trial

PEAKS = Path(__file__).parents[3] / "shared" / "data" / "nvidia" / "peaks.csv"
CELL = Cell(prompt_tokens=64, output_tokens=8, model="stories15m", engine="fake")
MEASURE = Measure(
    ceilings=True, repetitions=3, unmetered_window_s=0.05, limit_s=5, warmup_limit_s=0.2, gate_s=0, operators=True
)
SUITE = Suite(name="s", about="", measure=MEASURE, cells=(CELL,))


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench that is cleared after the test."""
    made = Bench(Stop(), lambda _: None)
    yield made
    made.clear()


def runner_on(bench: Bench) -> Runner:
    """A runner without meters."""
    return Runner(Host("board"), bench, Metering((), "none in this test"), Stop(), lambda _: None)


def measured(bench: Bench, whole: bool = False) -> Trial:
    """The trial of the ceilings of the fake device."""
    return runner_on(bench).ceilings(CELL, Plan("campaign", "suite", MEASURE), whole).trial


def test_the_trial_of_ceilings_has_no_work(bench: Bench) -> None:
    """OK, named so, simulated as its engine is, and a record that can be sent."""
    made = measured(bench)
    assert (made.outcome, made.work, made.cell, made.runs) == (Outcome.OK, None, "ceilings", ())
    assert made.conditions.simulated and made.conditions.attention is None
    assert {ceiling.work for ceiling in made.ceilings} == {"matmul", "copy", "read", "launch"}
    assert all(len(ceiling.values) == 3 and ceiling.sheet is None for ceiling in made.ceilings)
    assert codec.decode_record(Kind.TRIAL, codec.SCHEMA, codec.encode(made)) == made


def test_the_engine_is_kept_for_the_cells_that_follow(bench: Bench) -> None:
    """Its start is paid once."""
    measured(bench)
    pid = bench.pid
    bench.place(CELL)
    assert pid is not None and bench.pid == pid


def test_a_kind_that_cannot_be_had_costs_one_figure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason beside it; the trial is OK."""
    asked = bench.ask

    def ask(question: Any, answer: Any, limit_s: float) -> Any:
        if isinstance(question, MeasureCeiling) and question.work == "copy":
            raise EngineFailed("torch has no dtype")
        return asked(question, answer, limit_s)

    monkeypatch.setattr(bench, "ask", ask)
    made = measured(bench)
    assert made.outcome is Outcome.OK
    assert [(one.work, one.reason) for one in made.ceilings if not one.values] == [("copy", "torch has no dtype")]


def test_where_none_can_be_had_the_trial_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first reason, and no ceilings."""
    asked = bench.ask

    def ask(question: Any, answer: Any, limit_s: float) -> Any:
        if isinstance(question, MeasureCeiling):
            raise EngineFailed("the engine's process ended")
        return asked(question, answer, limit_s)

    monkeypatch.setattr(bench, "ask", ask)
    made = measured(bench)
    assert (made.outcome, made.reason, made.ceilings) == (Outcome.FAILED, "the engine's process ended", ())


def test_what_a_campaign_measures_is_of_its_model() -> None:
    """Its dtype, and the shapes of its feed-forward part and head; a suite of ceilings goes through the dtypes."""
    cell = Cell(prompt_tokens=2048, output_tokens=2, model="llama-3-8b", dtype="float16")
    brief = ceilings.kinds("cuda", cell, preset("llama-3-8b"), whole=False)
    assert ceilings.Kind("matmul", (2048, 14336, 4096), "float16") in brief
    assert ceilings.Kind("read", (128256, 4096), "float16") in brief
    assert {kind.dtype for kind in brief} == {"float16", "float32"}  # launches are of float32
    whole = ceilings.kinds("cuda", cell, preset("llama-3-8b"), whole=True)
    squares = {(kind.dtype, kind.shape[0]) for kind in whole if kind.work == "matmul"}
    assert squares == {(d, s) for d in ("bfloat16", "float16", "tf32", "float32") for s in (4096, 8192)}
    assert ceilings.Kind("launch", (1000,), "float32") in whole


def test_an_engine_without_ceilings_of_its_own_takes_torchs() -> None:
    """They are the machine's; the endpoint and the model in a file are not needed for them."""
    served = Cell(
        prompt_tokens=9, output_tokens=2, engine="served", endpoint="http://127.0.0.1:1", weights="path:/nowhere"
    )
    assert ceilings.basis([served]) == Cell(prompt_tokens=9, output_tokens=2)
    assert ceilings.basis([CELL]) is CELL


@pytest.mark.parametrize("engine", ["fake", "onnxruntime"])
def test_ceilings_have_the_threads_that_all_cells_have(engine: str) -> None:
    """Torch's own number where cells differ; trials of one thread are not held against those of all cores."""
    one, two = (changed(CELL, engine=engine, threads=threads) for threads in (1, 2))
    assert ceilings.basis([one, one]).threads == 1
    assert ceilings.basis([one, two]).threads is None


def test_the_threads_of_the_cell_are_asked_for_and_recorded(bench: Bench) -> None:
    made = runner_on(bench).ceilings(changed(CELL, threads=1), Plan("campaign", "suite", MEASURE), whole=False).trial
    assert {ceiling.threads for ceiling in made.ceilings} == {1}


class Scripted:
    """A runner that notes what it was asked for."""

    def __init__(self, outcome: Outcome = Outcome.OK) -> None:
        self.ran: list[str] = []
        self._outcome = outcome

    def ceilings(self, cell: Cell, plan: Plan, whole: bool) -> Finished:
        self.ran.append(f"ceilings {cell.engine} {'whole' if whole else 'brief'}")
        one = Ceiling(work="copy", unit="byte/s", shape=(9,), dtype="float32", values=(1.0,), processor="cpu")
        made = trial(outcome=self._outcome, reason="scripted", work=None, runs=(), energy=(), traces=())
        return Finished(changed(made, campaign=plan.campaign, cell=ceilings.CELL, ceilings=(one,)), ())

    def run(self, cell: Cell, plan: Plan) -> Finished:
        self.ran.append("cell")
        made = trial(outcome=Outcome.FAILED, reason="scripted")
        return Finished(changed(made, campaign=plan.campaign, cell=cell.label), ())


def run(tmp_path: Path, runner: Any, suite: Suite = SUITE, until: Until | None = None) -> list[Any]:
    """What was told while `suite` ran on a new outbox."""
    told: list[Any] = []
    with closing(Outbox.open(tmp_path, 10**7)) as outbox:
        pace = Pace(suite.measure, Durations(tmp_path), lambda _: RATES["cpu"], metered=False)
        run_suite(suite, False, Means(runner, Campaigns(outbox), pace, told.append, lambda _: None, until))
    return told


def test_ceilings_come_before_the_cells_of_a_campaign(tmp_path: Path) -> None:
    """Fresh, committed, and told; not counted among the cells."""
    runner = Scripted()
    told = run(tmp_path, runner)
    assert runner.ran == ["ceilings fake brief", "cell"]
    kinds = [type(report) for report in told if isinstance(report, CeilingsDone | CellDone | Ended)]
    assert kinds == [CeilingsDone, CellDone, Ended]
    with closing(Outbox.open(tmp_path, 10**7)) as outbox:
        assert outbox.pending() == 2


def test_a_campaign_that_goes_on_has_them_already(tmp_path: Path) -> None:
    """Only what is missing is measured."""

    class Dying(Scripted):
        def run(self, cell: Cell, plan: Plan) -> Finished:
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        run(tmp_path, Dying())
    runner = Scripted()
    run(tmp_path, runner)
    assert runner.ran == ["cell"]


def test_a_slice_too_short_for_them_goes_without(tmp_path: Path) -> None:
    """The next slice has them."""
    runner = Scripted()
    run(tmp_path, runner, until=Until(Stop(), ceilings.BRIEF_S / 2))
    assert "ceilings fake brief" not in runner.ran


def test_a_suite_without_cells_measures_them_all(tmp_path: Path) -> None:
    """On the processor and engine that are asked for."""
    suite = cells.load("ceilings", {"engine": ["fake"], "accelerator": ["cpu"]})
    assert suite.alone is not None and (suite.alone.engine, suite.alone.accelerator) == ("fake", "cpu")
    runner = Scripted()
    told = run(tmp_path, runner, suite)
    assert runner.ran == ["ceilings fake whole"]
    (done,) = (report for report in told if isinstance(report, CeilingsDone))
    assert done.asked


def test_a_suite_of_nothing_is_refused() -> None:
    """One line with key and expectation."""
    with pytest.raises(ConfigInvalid, match=r"s.toml: cells: expected one or more, or ceilings = true in \[measure\]"):
        cells.parse("s", 'about = "x"\n', {}, "s.toml")


def test_the_newest_go_with_the_facts_and_simulated_ones_do_not(tmp_path: Path) -> None:
    """Kept over a restart; a damaged file is none."""
    settings = Settings(meters=("none",), calibrate=False)
    one = Ceiling(work="copy", unit="byte/s", shape=(9,), dtype="float32", values=(1.0,), processor="cpu")
    done = CeilingsDone(
        outcome=Outcome.OK, reason=None, processor="a CPU", simulated=True, ceilings=(one,), asked=False
    )
    with closing(Station(tmp_path, settings)) as station:
        station._keep(done)
        assert station.facts.ceilings == () and station.facts.ceilings_unix_s is None
        station._keep(CeilingsDone(**{**_fields(done), "simulated": False}))
        assert station.facts.ceilings == (one,)
    with closing(Station(tmp_path, settings)) as station:
        assert station.facts.ceilings == (one,) and station.facts.ceilings_unix_s is not None
    (tmp_path / kept_ceilings.FILE).write_text("{")
    assert kept_ceilings.load(tmp_path) is None


def _fields(done: CeilingsDone) -> dict[str, Any]:
    return {name: getattr(done, name) for name in done.__struct_fields__}


def test_a_station_runs_them_by_the_fake_engine(tmp_path: Path) -> None:
    """From the suite to the outbox, with real processes; the operators of the cell beside them, simulated too."""
    told: list[Any] = []
    with closing(Station(tmp_path, Settings(meters=("none",), calibrate=False))) as station:
        station.execute(RunRequest(suite=SUITE, fresh=False), told.append, Stop())
        (first, second) = Campaigns(station.outbox).trials_of(told[0].campaign)
    assert first.ceilings and second.work is not None and second.outcome is Outcome.OK
    assert [profile.tool for profile in second.profiles] == ["simulated", "simulated"]
    assert second.conditions.simulated
    decode = second.profiles[1]
    assert decode.kv_end - decode.kv_start == 7 and decode.repetitions == MEASURE.profile_repetitions


def test_the_table_says_what_was_measured_beside_the_sheet() -> None:
    """Medians with their spread; a reason where there is no figure."""
    known = sheets.expected(sheets._GPUS[("H200",)], "matmul", "bfloat16", 1_980_000_000)
    assert known is not None
    found = (
        Ceiling(
            work="matmul",
            unit="FLOP/s",
            shape=(8192, 8192, 8192),
            dtype="bfloat16",
            values=(780e12, 790e12, 800e12),
            clock_hz=1_980_000_000,
            sheet=known.value,
            sheet_source=known.source,
        ),
        Ceiling(work="copy", unit="byte/s", shape=(9,), dtype="float32", reason="out of memory"),
        Ceiling(work="launch", unit="s", shape=(1000,), dtype="float32", values=(4.2e-6,)),
    )
    done = CeilingsDone(
        outcome=Outcome.OK, reason=None, processor="NVIDIA H200", simulated=False, ceilings=found, asked=True
    )
    console = Console(width=140, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(ceiling_table.table(done))
    text = capture.get()
    for word in ("790 TFLOP/s", "2.5%", "1980", "1070 TFLOP/s", "74%", "out of memory", "4.2 us", "H200 SXM: 989"):
        assert word in text


@pytest.mark.parametrize(
    ("processor", "module", "name"),
    [
        ("NVIDIA H200", None, "H200 SXM"),
        ("NVIDIA H100 80GB HBM3", None, "H100 SXM"),
        ("NVIDIA H100 PCIe", None, "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", None, "A100 80GB SXM"),
        ("NVIDIA A100-PCIE-40GB", None, "A100 40GB PCIe"),
        ("NVIDIA A100 80GB PCIe", None, "A100 80GB PCIe"),
        ("NVIDIA GeForce RTX 4090", None, "RTX 4090"),
        ("NVIDIA L4", None, "L4"),
        ("NVIDIA L40S", None, None),
        ("NVIDIA GH200 480GB", None, None),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", None, None),
        ("Orin", "Jetson AGX Orin 64GB", "AGX Orin 64GB"),
        ("Orin", "Jetson Nano 4GB", None),
        ("AMD EPYC", None, None),
        (None, None, None),
    ],
)
def test_a_sheet_is_found_by_the_names_that_drivers_give(
    processor: str | None, module: str | None, name: str | None
) -> None:
    """And none is guessed for a GPU that only sounds alike."""
    found = sheets.sheet_of(processor, module)
    assert (None if found is None else found.name) == name


def test_a_peak_is_scaled_by_the_clock_and_bandwidth_is_not() -> None:
    """At 650 MHz an AGX Orin can do half; a dtype that no sheet tells is None."""
    orin = sheets.sheet_of("Orin", "Jetson AGX Orin 64GB")
    assert orin is not None
    half = sheets.expected(orin, "matmul", "float16", 650_000_000)
    assert half is not None and half.value == pytest.approx(21.3e12) and "scaled to 650 MHz" in half.source
    read = sheets.expected(orin, "read", "float16", 650_000_000)
    assert read is not None and read.value == pytest.approx(204.8e9)
    unknown = sheets.expected(orin, "matmul", "float16", None)
    assert unknown is not None and unknown.value == pytest.approx(42.6e12) and "not scaled" in unknown.source
    assert sheets.expected(orin, "matmul", "tf32", None) is None
    assert sheets.expected(orin, "launch", "float32", None) is None


def test_sheets_are_those_of_the_collected_figures() -> None:
    """Each figure against the table that was collected with the status of each."""
    if not PEAKS.exists():
        pytest.skip(f"no collected peaks at {PEAKS}")
    with PEAKS.open(newline="") as file:
        rows = {row["device"]: row for row in csv.DictReader(file)}
    rows["AGX Orin 32GB"] = rows["AGX Orin 32GB production module (930 MHz)"]
    known = [*sheets._GPUS.values(), *sheets._JETSONS.values()]
    for sheet in known:
        row = rows[sheet.name if sheet.name in rows else sheet.name.replace(" 64GB", " 64GB")]
        figures = (sheet.half_tflops, sheet.single_tflops, sheet.memory_gb_s, sheet.gpu_mhz)
        columns = ("fp16_bf16_tensor_dense_tflops", "fp32_tflops", "mem_gb_s", "gpu_mhz")
        assert figures == tuple(float(row[column]) for column in columns), sheet.name


class TestByTorch:
    """The measurements themselves, on the CPU."""

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # threads that wait for each other crawl where others take the processor's time
        yield
        torch.set_num_threads(before)

    def order(self, work: str, shape: tuple[int, ...], dtype: str | None = "float32", **more: Any) -> MeasureCeiling:
        fields = {"repetitions": 3, "seconds": 0.002} | more
        return MeasureCeiling(work=work, shape=shape, dtype=dtype, accelerator="cpu", **fields)

    @pytest.mark.parametrize(
        ("work", "shape", "least", "most"),
        [
            ("matmul", (64, 64, 64), 1e6, 1e15),
            ("copy", (1 << 16,), 1e6, 1e14),
            ("read", (256, 256), 1e5, 1e14),
            ("launch", (20,), 1e-8, 1e-2),
        ],
    )
    def test_figures_are_of_a_cpu(self, work: str, shape: tuple[int, ...], least: float, most: float) -> None:
        """Within what any CPU does, to catch a unit that is off by a million."""
        from agent.engines.ceilings import measure

        done = measure(self.order(work, shape))
        assert 1 <= len(done.values) <= 3 and done.threads == 1  # fewer where others take the processor's time
        assert all(least < value < most for value in done.values)

    def test_amounts_are_those_of_the_shapes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With every stretch taking a second: FLOPs, bytes read and written, bytes read, seconds a launch."""
        from agent.engines import ceilings as measuring

        monkeypatch.setattr(measuring, "_seconds", lambda call, calls, on_gpu: 1.0)
        amounts = {
            "matmul": ((3, 5, 7), 2.0 * 3 * 5 * 7),
            "copy": ((11,), 2.0 * 11 * 4),
            "read": ((3, 5), 3.0 * 5 * 4),
            "launch": ((20,), 1 / 20),
        }
        for work, (shape, amount) in amounts.items():
            done = measuring.measure(self.order(work, shape, seconds=1.0))
            assert done.values == pytest.approx((amount,) * 3)

    def test_what_takes_far_too_long_is_measured_fewer_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As products in a dtype that the CPU does not have; once at least."""
        from agent.engines import ceilings as measuring

        monkeypatch.setattr(measuring, "_seconds", lambda call, calls, on_gpu: 5.0 * calls)
        assert len(measuring.measure(self.order("matmul", (4, 4, 4), seconds=0.1, repetitions=7)).values) == 1

    def test_no_such_dtype_or_work(self) -> None:
        """One line each."""
        from agent.engines.ceilings import measure

        with pytest.raises(EngineFailed, match="has no dtype float3"):
            measure(self.order("matmul", (4, 4, 4), "float3"))
        with pytest.raises(EngineFailed, match="no ceiling is known of work 'sort'; known: matmul, copy, read, launch"):
            measure(self.order("sort", (4,)))

    @pytest.mark.gpu
    def test_a_gpu_reaches_its_ceilings(self) -> None:
        """bf16 products of a data-centre GPU above half of its sheet at any clock, and memory above 60 %."""
        import torch

        from agent.engines.ceilings import measure

        sheet = sheets.sheet_of(torch.cuda.get_device_name(), None)
        if sheet is None:
            pytest.skip(f"no data sheet is known of {torch.cuda.get_device_name()}")

        def best(work: str, *shape: int) -> float:
            order = MeasureCeiling(
                work=work, shape=shape, dtype="bfloat16", accelerator="cuda", repetitions=5, seconds=0.1
            )
            return max(measure(order).values)

        assert best("matmul", 8192, 8192, 8192) > 0.5e12 * sheet.half_tflops
        assert best("copy", 1 << 28) > 0.6e9 * sheet.memory_gb_s
        assert best("read", 16384, 16384) > 0.6e9 * sheet.memory_gb_s
