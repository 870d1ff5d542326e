"""Power scopes in a comparison: each figure names its own, and unlike ones are set beside each other on demand only."""

from __future__ import annotations

import msgspec

from collector.compare import compare
from collector.comparison import Comparison, Row, Verdict
from phasewatt.fields import Scope
from phasewatt.metrics import METRICS
from tests.fixtures.trials import GPU, MODULE, PACKAGE, WALL, Measured, measured

SERVER = (GPU, PACKAGE)


def board_and_server(*others: Measured, unlike_scopes: bool = False) -> Comparison:
    trials = [measured("a-orin", sensors=[MODULE], slowness=6), measured("dgx", sensors=SERVER), *others]
    return compare([each.stored for each in trials], unlike_scopes=unlike_scopes)


def beside(comparison: Comparison) -> list[Row]:
    return [row for row in comparison.works[0].rows if row.beside is not None]


def test_every_power_figure_names_its_scope_and_a_row_holds_one() -> None:
    for row in board_and_server().works[0].rows:
        scopes = {cell.scope for cell in row.cells if cell.value is not None}
        assert scopes == ({row.scope} if METRICS[row.metric].scoped else {None})


def test_groups_without_a_common_scope_are_told_apart_in_words() -> None:
    comparison = board_and_server()
    told = (
        "a-orin: module; dgx: compute, gpu-board, cpu-package: unlike scopes are not compared; "
        "--unlike-scopes compares the nearest ones, and says so"
    )
    assert [each.told for each in comparison.works[0].unlike_scopes] == [told]
    assert f"energy not compared: {told}" in comparison.headline[0].sentence
    assert beside(comparison) == []


def test_a_common_scope_is_compared_and_nothing_is_unlike() -> None:
    comparison = compare(
        [measured(name, sensors=[MODULE, WALL]).stored for name in ("alpha", "beta")], None, None, True
    )
    assert comparison.works[0].unlike_scopes == ()
    assert beside(comparison) == []


def test_asked_to_the_nearest_scopes_stand_beside_each_other_without_a_verdict() -> None:
    comparison = board_and_server(unlike_scopes=True)
    assert comparison.unlike_scopes
    (unlike,) = comparison.works[0].unlike_scopes
    assert unlike.compared == (Scope.MODULE, Scope.COMPUTE)
    assert "they cover different parts" in unlike.told
    for row in beside(comparison):
        base, other = row.cells
        assert (base.scope, other.scope) == (row.scope, row.beside) == (Scope.MODULE, Scope.COMPUTE)
        assert other.ratio is not None
        assert other.verdict is Verdict.UNLIKE
    assert {row.metric for row in beside(comparison)} == {name for name in METRICS if "energy" in name}


def test_the_headline_calls_unlike_scopes_unlike() -> None:
    (headline,) = board_and_server(unlike_scopes=True).headline
    fact = headline.facts[-1]
    assert fact.subject == "energy per request (module beside compute)"
    assert "unlike scopes, no verdict" in fact.result
    assert fact.verdict is Verdict.UNLIKE


def test_a_server_without_compute_is_set_beside_by_its_gpu_board() -> None:
    comparison = board_and_server(measured("gpu-only", sensors=[GPU]), unlike_scopes=True)
    pairs = {each.group: each.compared for each in comparison.works[0].unlike_scopes}
    assert pairs == {"dgx": (Scope.MODULE, Scope.COMPUTE), "gpu-only": (Scope.MODULE, Scope.GPU_BOARD)}
    for row in beside(comparison):
        filled = [cell.group for cell in row.cells if cell.value is not None]
        assert filled == ["a-orin", "dgx" if row.beside is Scope.COMPUTE else "gpu-only"]


def test_a_group_without_any_sensor_has_no_unlike_scope() -> None:
    comparison = compare([measured("alpha", sensors=[MODULE]).stored, measured("beta").stored], unlike_scopes=True)
    assert comparison.works[0].unlike_scopes == ()
    assert "no power sensor" in (comparison.headline[0].remark or "")


def test_refused_scope_is_no_nearest_one_where_another_has_energy() -> None:
    """The package's counter stands still: compute and package have no joules, the board does."""
    dead = PACKAGE._replace(idle_w=0.0, prefill_w=0.0, decode_w=0.0)
    trials = [measured("a-orin", sensors=[MODULE]).stored, measured("dgx", sensors=[GPU, dead]).stored]
    (unlike,) = compare(trials, unlike_scopes=True).works[0].unlike_scopes
    assert unlike.compared == (Scope.MODULE, Scope.GPU_BOARD)


def test_json_tells_unlike_scopes() -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(board_and_server(unlike_scopes=True)))
    assert decoded["unlike_scopes"] is True
    rows = [row for row in decoded["works"][0]["rows"] if row["beside"]]
    assert {(row["scope"], row["beside"], row["cells"][1]["verdict"]) for row in rows} == {
        ("module", "compute", "unlike")
    }
