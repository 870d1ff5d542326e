"""Identity: the same work has the same id everywhere and for ever, and other work has another."""

from __future__ import annotations

import hashlib

import pytest

from phasewatt import codec, identity
from phasewatt.fields import Kind
from phasewatt.work import Architecture, Experts, Task, Work
from tests.fixtures.records import architecture, changed, task, work

MIXTURE = Experts(count=4, per_token=2, intermediate_size=8)


class LaterExperts(Experts, frozen=True):
    """Experts of a version to come, with one more setting."""

    shared_gate: bool = False


class LaterArchitecture(Architecture, frozen=True):
    """An architecture of a version to come."""

    sliding_window: int | None = None


class LaterTask(Task, frozen=True):
    """A task of a version to come."""

    prefix_tokens: int = 0


def later(cls, record, **fields):
    """`record` as a version to come would hold it."""
    return cls(**{name: getattr(record, name) for name in record.__struct_fields__} | fields)


def weighing(**fields) -> Work:
    """The work with other weights."""
    return work(weights=changed(work().weights, **fields))


def test_ids_of_today_stay():
    """Golden: stored trials are paired by these; a change here orphans them all."""
    assert identity.task_id(task()) == "ba272062ae80fbeff6d2bbb0ad456702"
    assert identity.work_id(work()) == "2391851888017da3e78957e8b6af5f56"
    assert identity.task_id(task(architecture=architecture(experts=MIXTURE))) == "739a0fcf5343e0b1ea8ddb94eb4b3416"


def test_record_id_is_the_digest_of_kind_and_bytes():
    expected = hashlib.sha256(b"trial\x00{}").hexdigest()[:32]
    assert identity.record_id(Kind.TRIAL, b"{}") == expected
    assert identity.record_id(Kind.EVENT, b"{}") != expected


def test_name_is_no_part_of_identity():
    assert identity.task_id(task(architecture=architecture(name="other"))) == identity.task_id(task())


@pytest.mark.parametrize(
    "field", [name for name in Architecture.__struct_fields__ if name not in ("name", "family", "experts")]
)
def test_every_number_of_the_shape_is_part_of_identity(field):
    value = getattr(architecture(), field)
    other = not value if isinstance(value, bool) else value * 2
    assert identity.task_id(task(architecture=architecture(**{field: other}))) != identity.task_id(task())


@pytest.mark.parametrize(
    "fields", [{"batch": 2}, {"prompt_tokens": 5}, {"prompt_digest": "x"}, {"output_tokens": 4}], ids=str
)
def test_what_is_asked_is_part_of_identity(fields):
    assert identity.task_id(task(**fields)) != identity.task_id(task())


def test_family_and_experts_are_part_of_identity():
    shapes = [
        architecture(),
        architecture(family="qwen2"),
        architecture(experts=MIXTURE),
        architecture(experts=changed(MIXTURE, per_token=1)),
    ]
    assert len({identity.task_id(task(architecture=shape)) for shape in shapes}) == len(shapes)


def test_a_field_added_later_leaves_old_ids_as_they_are():
    mixture = architecture(experts=MIXTURE)
    shape = later(LaterArchitecture, mixture, experts=later(LaterExperts, MIXTURE))
    assert identity.task_id(later(LaterTask, task(architecture=shape))) == identity.task_id(task(architecture=mixture))


def test_a_field_added_later_counts_where_it_is_used():
    used = later(LaterArchitecture, architecture(), sliding_window=64)
    assert identity.task_id(task(architecture=used)) != identity.task_id(task())


def test_ids_survive_the_wire():
    """A whole number where a float is declared comes back as a float."""
    asked = task(architecture=architecture(rope_theta=500000, norm_eps=1))
    assert identity.task_id(codec.decode(codec.encode(asked), Task)) == identity.task_id(asked)


def test_work_is_the_task_its_weights_and_their_form():
    works = [
        work(),
        work(task=task(batch=2)),
        weighing(digest="d2"),
        work(dtype="bfloat16"),
        work(quantization="int4"),
    ]
    assert len({identity.work_id(each) for each in works}) == len(works)


def test_weights_with_a_digest_are_known_by_it_alone():
    renamed = weighing(source="path:/models/tiny", drawn_on=None, parameters=1)
    assert identity.work_id(renamed) == identity.work_id(work())


def test_weights_without_a_digest_are_known_by_source_and_place():
    drawn = {
        identity.work_id(weighing(digest=None, source=source, drawn_on=place))
        for source in ("random:0", "random:1")
        for place in ("cpu", "device")
    }
    assert len(drawn) == 4
