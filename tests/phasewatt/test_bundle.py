"""Bundles and the certificates in them: whole or refused, in words."""

from __future__ import annotations

import contextlib
import ssl
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import issuing
from phasewatt import bundle as bundles
from phasewatt import certificate
from phasewatt.bundle import Bundle
from phasewatt.errors import ConfigInvalid

NOW_UNIX_S = 1_790_000_000.0
WITH_PASSWORD = Bundle(
    device="board-1", broker="h:8883", root="phasewatt/v1", ca="CA", issued_unix_s=NOW_UNIX_S, password="secret"
)
WHOLE = bundles.encode(WITH_PASSWORD)


@pytest.fixture(scope="module")
def pem() -> str:
    by = issuing.authority("an authority", NOW_UNIX_S)
    return issuing.client(by, "orin-1", NOW_UNIX_S, 30).certificate.decode()


def test_a_bundle_comes_back_as_it_was_written():
    assert bundles.decode(WHOLE) == WITH_PASSWORD


def test_a_fingerprint_is_of_the_content():
    assert bundles.fingerprint(bundles.decode(WHOLE)) == bundles.fingerprint(WITH_PASSWORD)
    other = msgspec.structs.replace(WITH_PASSWORD, broker="evil:8883")
    assert bundles.fingerprint(other) != bundles.fingerprint(WITH_PASSWORD)


@given(st.integers(0, len(WHOLE) - 3))
def test_a_half_written_bundle_is_refused(length):
    with pytest.raises(ConfigInvalid, match="not a whole bundle"):
        bundles.decode(WHOLE[:length])


@pytest.mark.parametrize(
    ("old", "new"), [(b"board-1", b"board-2"), (b"h:8883", b"e:8883"), (b'"secret"', b'"guess!"'), (b'"CA"', b'"CB"')]
)
def test_a_changed_bundle_is_refused(old, new):
    with pytest.raises(ConfigInvalid, match="its digest does not match"):
        bundles.decode(WHOLE.replace(old, new))


@pytest.mark.parametrize("fields", [{"password": None}, {"certificate": "c"}, {"key": "k", "password": None}])
def test_a_bundle_without_one_whole_proof_is_refused(fields):
    with pytest.raises(ConfigInvalid, match="expected a certificate with its key, or a password"):
        bundles.decode(bundles.encode(msgspec.structs.replace(WITH_PASSWORD, **fields)))


@given(st.binary(max_size=200))
def test_any_other_file_is_refused(content):
    with pytest.raises(ConfigInvalid):
        bundles.decode(content)
    with pytest.raises(ConfigInvalid, match="too long"):
        bundles.decode(b"x" * (bundles.MOST_BYTES + 1))


def test_a_certificate_tells_its_name_and_dates(pem):
    found = certificate.described(pem)
    assert found.common_name == "orin-1"
    assert found.not_before_unix_s == NOW_UNIX_S - 86400
    assert found.not_after_unix_s == NOW_UNIX_S + 30 * 86400


def test_dates_are_read_as_openssl_reads_them(pem, tmp_path):
    file = tmp_path / "c.pem"
    file.write_text(pem)
    by_openssl = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]
    assert certificate.described(pem).not_after_unix_s == ssl.cert_time_to_seconds(by_openssl["notAfter"])


def test_a_date_beyond_2050_is_written_otherwise_and_read():
    far = issuing.authority("far", time.mktime((2045, 1, 1, 0, 0, 0, 0, 0, 0)))
    assert certificate.described(far.certificate.decode()).not_after_unix_s > 2.9e9


@given(st.data())
def test_a_damaged_certificate_is_refused_or_read_and_nothing_else(pem, data):
    at = data.draw(st.integers(0, len(pem) - 1))
    with_one_changed = pem[:at] + data.draw(st.characters(codec="ascii")) + pem[at + 1 :]
    for damaged in (with_one_changed, pem[:at], ""):
        with contextlib.suppress(ConfigInvalid):
            assert certificate.described(damaged).not_after_unix_s is not None
