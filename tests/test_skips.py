"""The check that CI rests on: with --no-skips, nothing passes by not having run."""

from __future__ import annotations

import pytest

SKIPPED = """
import pytest

def test_runs():
    pass

def test_needs_a_broker():
    pytest.skip("mosquitto is not installed")
"""


@pytest.fixture
def session(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(SKIPPED)
    return pytester


def run(session: pytest.Pytester, *options: str) -> pytest.RunResult:
    return session.runpytest_inprocess("-p", "tests.fixtures.skips", *options)


def test_a_skip_passes_without_the_option(session):
    run(session).assert_outcomes(passed=1, skipped=1)
    assert run(session).ret == pytest.ExitCode.OK


def test_a_skip_fails_the_session_and_is_named(session):
    result = run(session, "--no-skips")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--no-skips: 1 skipped that had to run", "*needs_a_broker*mosquitto is not installed"])


def test_a_skipped_module_fails_the_session(pytester):
    pytester.makepyfile("import pytest\npytest.importorskip('no_such_engine')")
    assert run(pytester, "--no-skips").ret == pytest.ExitCode.TESTS_FAILED


def test_an_accepted_reason_passes(session):
    assert run(session, "--no-skips", "--may-skip=mosquitto").ret == pytest.ExitCode.OK


def test_a_session_without_tests_is_no_success(pytester):
    assert run(pytester, "--no-skips").ret == pytest.ExitCode.NO_TESTS_COLLECTED
