"""A pass of counters: ncu started, waited for, and whatever goes wrong with it said."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest

from agent import app, models
from agent.checks import counting
from agent.counters import tool
from agent.counters.counting import ready
from agent.counters.ranges import range_names
from agent.counters.run import PHASES, Counting, Outcome, Workload, command, started
from agent.counters.tool import Tool
from agent.counters.workload import CountOrder
from agent.orders import Load, Prompt
from agent.stopping import Stop
from phasewatt import counter_metrics
from phasewatt.errors import EngineAbsent, Stopped
from phasewatt.stall_words import NO_SUCH, stall_shares
from tests.fixtures import ncu

LOAD = Load(
    architecture=models.preset("llama-3-8b"),
    weights="random:7",
    dtype="bfloat16",
    mode="compiled",
    attention="sdpa",
    accelerator="cuda",
)
PROMPT = Prompt(seed=1, batch=1, tokens=512, threads=None, room=514)
GMMA = "smsp__average_warps_issue_stalled_gmma_per_issue_active.ratio"


def counted(mood: str) -> Outcome:
    """A pass by a program of that mood."""
    found = tool.asked(Path("ncu"), ncu.said(mood))
    counting_of_it = Counting(found, Stop(), start=ncu.started(mood), ask=ncu.said(mood))
    return counting_of_it.count(Workload(LOAD, PROMPT, layers=3))


def driver(root: Path, restricted: str, capabilities: str) -> Path:
    """A host's files: what the driver keeps for administrators, and what this process may do."""
    for name, content in (
        ("proc/driver/nvidia/params", f"ResmanDebugLevel: 1\nRmProfilingAdminOnly: {restricted}\n"),
        ("proc/self/status", f"Name:\tpython\nCapEff:\t{capabilities}\n"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_a_pass_gives_both_phases_by_operator():
    prefill, decode = counted("well").profiles
    names = ["norm", "qkv_proj", "attn_core", "ffn_up", "sampling"]
    assert [o.operator for o in prefill.operators] == [o.operator for o in decode.operators] == names
    assert (prefill.tool, prefill.tool_version, prefill.compute_capability) == ("ncu", "2025.3.1.0", "9.0")
    assert prefill.reason == "3 of 32 layers were counted; in mode eager, and not compiled"
    assert prefill.missing == {}


def test_clocks_and_caches_are_left_alone_and_every_range_is_named(tmp_path):
    order = CountOrder(load=LOAD, prompt=PROMPT, answer="a")
    line = command(Tool(Path("/n/ncu"), None), ("a.sum", "b.avg"), tmp_path / "log", order)
    flags = [(flag, value) for flag, value in itertools.pairwise(line) if flag.startswith("--")]
    for pair in (
        ("--clock-control", "none"),
        ("--cache-control", "none"),
        ("--replay-mode", "kernel"),
        ("--print-units", "base"),
        ("--metrics", "a.sum,b.avg"),
    ):
        assert pair in flags
    included = {value for flag, value in flags if flag == "--nvtx-include"}
    assert included == {f"{name}/" for name in range_names(PHASES)}
    assert {"prefill/", "decode/", "decode.attn_core/"} <= included
    assert line[0] == "/n/ncu"


def test_a_counter_that_ncu_does_not_know_is_left_out_and_said():
    prefill, _ = counted("picky").profiles
    assert prefill.missing == {GMMA: NO_SUCH}
    assert stall_shares(prefill, prefill.operators[0]).reason is None


def test_a_counter_that_is_not_in_the_tools_list_is_not_asked_for():
    prefill, _ = counted("old").profiles
    assert prefill.missing == {GMMA: NO_SUCH}


def test_a_tool_that_refuses_the_list_without_a_word_is_asked_for_less():
    prefill, _ = counted("silent").profiles
    assert len(prefill.operators[0].values) == 7
    assert set(prefill.missing.values()) == {"ncu refused the whole list that it was in, and was asked for less"}
    shares = stall_shares(prefill, prefill.operators[0])
    assert shares.by_word == {}
    assert "16 of 19 stall reasons were not counted" in (shares.reason or "")


def test_permission_refused_is_said_with_the_remedy():
    outcome = counted("refused")
    for each in outcome.profiles:
        assert (each.operators, each.repetitions) == ((), 0)
        assert "ERR_NVGPUCTRPERM" in (each.reason or "")
        assert "NVreg_RestrictProfilingToAdminUsers=0" in (each.reason or "")


def test_a_workload_that_fails_says_why():
    outcome = counted("fails")
    assert {each.reason for each in outcome.profiles} == {"the workload failed: no CUDA device answers to torch"}


def test_a_report_that_was_cut_keeps_what_is_whole():
    prefill, decode = counted("cut").profiles
    assert len(prefill.operators) == 5
    assert len(decode.operators) < 5
    assert "truncated" in (decode.reason or "")


def test_a_tool_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    """Nobody of its group is left."""
    children = []

    def start(line, words):
        children.append(started(line, words))
        return children[-1]

    slow = Counting(Tool(ncu.installed(tmp_path, "hangs"), None), Stop(), limit_s=1.0, start=start, ask=lambda _: "")
    outcome = slow.count(Workload(LOAD, PROMPT))
    assert all("did not end within 1 s" in (each.reason or "") for each in outcome.profiles)
    assert len(children) == 1
    with pytest.raises(ProcessLookupError):
        os.killpg(children[0].pid, 0)


def test_being_asked_to_end_ends_the_tool(tmp_path):
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        Counting(Tool(ncu.installed(tmp_path, "hangs"), None), stop, ask=lambda _: "").count(Workload(LOAD, PROMPT))


def test_the_tool_is_found_on_the_path_first_and_then_the_newest_of_those_installed(tmp_path):
    for place in ("usr/local/cuda-12.9/bin", "usr/local/cuda-13.0/bin"):
        ncu.installed(tmp_path / place)
    assert tool.find(tmp_path, search_path="/nowhere") == tmp_path / "usr/local/cuda-13.0/bin/ncu"
    first = ncu.installed(tmp_path / "mine")
    assert tool.find(tmp_path, search_path=str(tmp_path / "mine")) == first
    assert tool.find(tmp_path / "empty", search_path="/nowhere") is None


def test_without_the_tool_there_is_a_remedy(tmp_path):
    with pytest.raises(EngineAbsent, match=r"no file .*install Nsight Compute"):
        ready(tmp_path / "ncu")


@pytest.mark.parametrize(
    ("restricted", "capabilities", "permitted"),
    [
        ("1", "0000000000000000", False),
        ("1", "000001ffffffffff", True),
        ("1", "00000000a80425fb", False),  # root in a container, without CAP_SYS_ADMIN
        ("0", "0000000000000000", True),
    ],
)
def test_permission_is_the_drivers_and_the_processs(tmp_path, restricted, capabilities, permitted):
    assert (tool.refusal(driver(tmp_path, restricted, capabilities)) is None) == permitted


def test_where_the_driver_tells_nothing_nothing_is_refused(tmp_path):
    assert tool.refusal(tmp_path) is None


def test_refused_before_it_was_tried(tmp_path):
    program = ncu.installed(tmp_path / "bin")
    with pytest.raises(EngineAbsent, match=r"RmProfilingAdminOnly is 1.*NVreg_RestrictProfilingToAdminUsers=0"):
        ready(program, driver(tmp_path / "root", "1", "0"))


def test_a_list_without_any_of_ours_is_no_list():
    names = counter_metrics.asked((9, 0))
    found = Tool(Path("ncu"), None)
    assert tool.unknown_to(found, names, lambda _: "") == frozenset()
    assert tool.unknown_to(found, names, lambda _: "something else entirely\n") == frozenset()
    pipes = "\n".join(counter_metrics.base_of(name) for name in names if counter_metrics.is_pipe(name))
    assert tool.unknown_to(found, names, lambda _: pipes) == frozenset()
    stall = counter_metrics.base_of(counter_metrics.STALLS[0].metric)
    assert GMMA in tool.unknown_to(found, names, lambda _: f"{pipes}\n{stall}  Ratio  inst\n")


def test_the_command_keeps_the_trials_and_writes_what_it_was_asked_for(tmp_path, capsys):
    program = ncu.installed(tmp_path / "bin")
    out = tmp_path / "out"
    arguments = ["--state-dir", str(tmp_path / "state"), "--ncu", str(program), "--out", str(out), "--json"]
    arguments += ["--root", str(tmp_path)]  # whose driver forbids nothing
    assert app.main(["counters", *arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["trial"]["cell"].split(":")[0] for each in answer["trials"]] == ["chat", "summary"]
    assert [each["trial"]["work"]["task"]["prompt_tokens"] for each in answer["trials"]] == [512, 4096]
    name = answer["trials"][0]["trial"]["work"]["task"]["architecture"]["name"]
    assert name == "llama-3-8b (3 of 32 layers)"
    assert sorted(path.name for path in out.iterdir()) == [
        "chat.ncu.csv",
        "chat.trial.json",
        "export.jsonl",
        "summary.ncu.csv",
        "summary.trial.json",
    ]


def test_the_command_fails_where_nothing_was_counted(tmp_path, capsys):
    program = ncu.installed(tmp_path / "bin", "fails")
    arguments = ["--state-dir", str(tmp_path / "state"), "--ncu", str(program), "--workload", "chat:16"]
    arguments += ["--root", str(tmp_path)]
    assert app.main(["counters", *arguments]) == 1
    assert "not counted: the workload failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (["--workload", "chat"], "--workload: expected NAME:TOKENS"),
        (["--workload", "../x:5"], "--workload: expected NAME:TOKENS"),
        (["--workload", "long:9000"], "more than 8192 positions"),
        (["--layers", "0"], "--layers: expected"),
        (["--weights", "path:x"], "--weights: expected random:SEED"),
        (["--dtype", "int7"], "dtype"),
        (["--from", "/nowhere/report.csv"], "--from: cannot read"),
        (["no-such-model"], "no preset"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, capsys, option, complaint):
    assert app.main(["counters", "--state-dir", str(tmp_path), *option]) == 2
    assert complaint in capsys.readouterr().err


def test_the_doctor_tells_whether_counters_can_be_read(tmp_path):
    program = ncu.installed(tmp_path / "bin")
    absent = counting.counters_finding(tmp_path, None)
    assert (absent.ok, absent.remedy) == (None, tool.INSTALL)
    refused = counting.counters_finding(driver(tmp_path / "refused", "1", "0"), program)
    assert (refused.ok, refused.remedy) == (None, tool.REMEDY)
    assert "RmProfilingAdminOnly is 1" in refused.verdict
    permitted = counting.counters_finding(driver(tmp_path / "permitted", "0", "0"), program)
    assert (permitted.ok, permitted.verdict) == (True, f"ncu 2025.3.1.0 at {program}")
