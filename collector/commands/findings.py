"""`findings`: for each claim of the study whether it holds on each device and on the fleet, or what would decide it."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from collector import reference
from collector.commands import table
from collector.store import TrialQuery, open_store
from collector.stored import StoredTrial
from collector.whole_file import draft_of
from phasewatt.errors import ConfigInvalid

if TYPE_CHECKING:
    from collector.findings import Answer, Finding

_HEADERS = ("CLAIM", "DEVICE", "VERDICT", "FIGURE", "RESTS ON")
_REMEDY = "run `phasewatt-agent run paper` beside a collector, or import an export"
_HTML = frozenset({".html", ".htm"})


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "findings/0"
    source: str  # which trials were asked
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose trials are asked, and where the page goes."""
    parser.add_argument("--device", metavar="D", help="from trials of this device only")
    parser.add_argument(
        "--reference",
        action="store_true",
        help="the trials that come with phasewatt as well; without --db they are all",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page with all pictures here")


def run(args: argparse.Namespace) -> int:
    """Print a line for each claim and device, and what is missing.

    Raises:
        ConfigInvalid: there is no trial to ask, or no such page can be written.
    """
    from collector.findings import answers, remarks

    if args.html is not None and (args.json or args.html.suffix.lower() not in _HTML):
        raise ConfigInvalid(f"--html: expected a name that ends in .html, without --json, got {str(args.html)!r}")
    trials, source = _trials(args)
    if not trials and not args.json:
        raise ConfigInvalid(_none(source, args.device))
    found = answers(trials)
    said = remarks(trials) if trials else (_none(source, args.device),)
    if args.json:
        _print(Findings(source=source, findings=tuple(each.finding for each in found), remarks=said))
    elif args.html is not None:
        _write(args.html, source, found, said)
    else:
        _show(source, [each.finding for each in found], said)
    return 0


def _trials(args: argparse.Namespace) -> tuple[list[StoredTrial], str]:
    """The trials, and where they are from."""
    query = TrialQuery(device=args.device)
    shipped = reference.load().matching(query) if args.reference or args.db_is_default else []
    if args.db_is_default:
        return shipped, "the trials that come with phasewatt"
    with contextlib.closing(open_store(args.db)) as store:
        stored = store.trials(query)
        return [*stored, *shipped], store.name + (" and the trials that come with phasewatt" if args.reference else "")


def _none(source: str, device: str | None) -> str:
    asked = f" of device {device!r}" if device else ""
    return f"nothing to decide from: no trial{asked} in {source}; {_REMEDY}"


def _print(answer: Findings) -> None:
    print(msgspec.json.format(msgspec.json.encode(answer)).decode())


def _write(path: Path, source: str, found: Sequence[Answer], said: Sequence[str]) -> None:
    from collector.report import findings_page

    with draft_of(path) as draft:
        draft.write_text(findings_page.render(source, found, said, time.time()), encoding="utf-8")
    print(f"{path}: {_tally([each.finding for each in found])}")


def _show(source: str, found: Sequence[Finding], said: Sequence[str]) -> None:
    table.show(_HEADERS, [_row(finding) for finding in found], "")
    print(f"\nFrom {source}: {_tally(found)}. Rules and pictures: --html FILE; all of it: --json.")
    for remark in said:
        print(f"Mind: {remark}")
    for finding in found:
        _tell(finding)


def _row(finding: Finding) -> tuple[object, ...]:
    return (
        f"{finding.id:>2}. {finding.brief}",
        finding.device,
        finding.verdict.value.replace("_", " "),
        finding.figure,
        finding.basis,
    )


def _tell(finding: Finding) -> None:
    """What would decide it, and what weakens it."""
    head = f"{finding.id} ({finding.device})"
    for missing in finding.missing:
        print(f"{head} lacks {missing}")
    for remark in finding.remarks:
        print(f"{head}: {remark}")


def _tally(found: Sequence[Finding]) -> str:
    verdicts = [finding.verdict.value.replace("_", " ") for finding in found]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(sorted(verdicts)))
