"""The CSV source of the wall meter with real files: which rows count, and what becomes of the others."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.meters.external import External
from agent.sampler import Sampler
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Scope
from tests.fixtures.receipts import wait_until
from tests.fixtures.wall import CsvLogger


def test_csv_rows_count_from_opening_on(tmp_path: Path) -> None:
    """What stood in the file before is the past; half a row at its end belongs to it."""
    logger = CsvLogger(tmp_path / "p.csv")
    logger.append("1,900\n2,9")
    meter = logger.meter(opening_s=5)
    assert meter.read() == (20.5,)
    logger.append("5000,31")
    assert not wait_until(lambda: meter.read() != (20.5,), 0.3)
    logger.append(".5\r\n")
    assert wait_until(lambda: meter.read() == (31.5,), 5)
    meter.close()


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("time,power\n", "{},20.5"),
        ("\ufeff watts ; timestamp \n", "20.5;{}"),
        ("timestamp\tpower_w\tnote\n", '{}\t20.5\t"a, b"'),
        ("power_w\n", "20.5"),
    ],
)
def test_csv_columns_are_found_by_their_usual_names(tmp_path: Path, header: str, row: str) -> None:
    meter = CsvLogger(tmp_path / "p.csv", row=row, header=header).meter()
    assert meter.read() == (20.5,)
    meter.close()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("5000,\n", None),
        ("\n", None),
        ("5000\n", "too few columns"),
        ("5000,warm\n", "no number"),
        ("5000,1_000\n", "no number"),
        ("5000,nan\n", "not finite"),
        ("5000,-3\n", "negative"),
        ("yesterday,30\n", "neither a number nor ISO 8601"),
        ("timestamp,power_w\n", "neither a number nor ISO 8601"),
        ("3,30\n", "repeated or out of order"),
        ("5000,30\n5000,40\n4999,50\n", "repeated or out of order"),
        ("5000," + "1" * 70_000 + "\n", "above 65536 bytes"),
        ("x" * 200_000 + "\n", "above 65536 bytes"),
        ("5000,\0\n", "no number|too few columns"),
    ],
)
def test_csv_rows_that_are_no_reading_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str, reason: str | None
) -> None:
    """The next good row is read, and the log says once what was dropped."""
    logger = CsvLogger(tmp_path / "p.csv")
    meter = logger.meter()
    logger.append(bad + bad.replace("5000", "5001") + "6000,77\n")
    assert wait_until(lambda: meter.read() == (77.0,), 5)
    meter.close()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (reason is not None)
    assert all(any(part in line for part in (reason or "").split("|")) for line in warnings)


def test_csv_iso_times_and_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """Ten rows in order among themselves are a new order; until then they are out of order."""
    logger = CsvLogger(tmp_path / "p.csv", row="2026-05-01T10:00:00Z,20.5")
    logger.append("")
    with logger.running():
        meter = External(0.1, f"csv:{logger.path}")
    for minute in range(10):
        logger.append(f"2026-05-01T09:{minute:02}:00+00:00,{minute}\n")
    assert not wait_until(lambda: meter.read() != (20.5,), 0.3)
    logger.append("2026-05-01 09:10:00.250,42\n")
    assert wait_until(lambda: meter.read() == (42.0,), 5)
    meter.close()


@pytest.mark.parametrize("way", ["rotated", "cut"])
def test_csv_file_that_is_begun_anew_is_read_on(tmp_path: Path, way: str) -> None:
    """All rows of the new file are new, and its header counts."""
    logger = CsvLogger(tmp_path / "p.csv")
    meter = logger.meter()
    if way == "rotated":
        (tmp_path / "new").write_text("")
        os.replace(tmp_path / "new", logger.path)  # noqa: PTH105 - Path.replace reads the other way round
    else:
        os.truncate(logger.path, 0)
    time.sleep(0.2)
    logger.append("power_w,timestamp\n77.5,1\n")
    assert wait_until(lambda: meter.read() == (77.5,), 5)
    meter.close()


def test_csv_file_that_vanishes_is_looked_for_again(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "p.csv")
    meter = logger.meter()
    logger.path.unlink()
    time.sleep(0.2)
    again = CsvLogger(logger.path, row="{},88")
    with again.running():
        assert wait_until(lambda: meter.read() == (88.0,), 10)
    meter.close()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no such file; start the logger first"),
        ("", "no header line"),
        ("power_w", "no header line"),
        ("time,ampere\n", "no column power_w or power or watts among time, ampere; name it by power=COLUMN"),
    ],
)
def test_csv_file_that_cannot_be_read_is_unavailable(tmp_path: Path, content: str | None, line: str) -> None:
    if content is not None:
        (tmp_path / "p.csv").write_text(content)
    with pytest.raises(MeterUnavailable, match=rf"external:csv:.*p\.csv: .*{line}"):
        External(0.1, f"csv:{tmp_path / 'p.csv'}")


def test_csv_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Opening a pipe would block until somebody writes."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MeterUnavailable, match="no such file"):
        External(0.1, f"csv:{tmp_path / 'pipe'}")


def test_csv_without_new_rows_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("power_w\n20\n")
    with pytest.raises(MeterUnavailable, match=r"nothing in 0 s: no new row with a number; is the logger running"):
        External(0.1, f"csv:{tmp_path / 'p.csv'}", opening_s=0.3)


def test_csv_through_the_sampler_gives_rows(tmp_path: Path) -> None:
    """End to end: the name goes to the sampler's process, and its rows hold what the logger wrote."""
    logger = CsvLogger(tmp_path / "a file.csv")
    with logger.running():
        sampler = Sampler([f"external:csv:{tmp_path}/a%20file.csv?gain=0.02"], 20.0)
        sampler.start()
        time.sleep(1.0)
        seen = sampler.stop()
    assert seen.fault is None
    assert [(c.scope, c.gain_uncertainty) for c in seen.channels] == [(Scope.WALL, 0.02)]
    assert len(seen.rows) >= 10
    assert {values for _, values in seen.rows} == {(20.5,)}
    assert not seen.simulated
