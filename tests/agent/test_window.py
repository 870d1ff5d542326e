"""The window: how much may be unreceipted, and how a row that never arrives is kept from holding up the rest."""

from __future__ import annotations

from math import inf

from agent.window import Window

FULL_BYTES = 1600


def window(**limits: float) -> Window:
    return Window(**{"messages": 4, "max_bytes": 1000, "patience_s": 30.0, "message_bytes": FULL_BYTES, **limits})


def send(to: Window, *seqs: int, at_s: float = 0.0, size_bytes: int = 10) -> None:
    to.sent(frozenset(seqs), size_bytes, at_s)


def under_suspicion(*seqs: int) -> Window:
    """A window whose rows failed three times at second 0."""
    made = window()
    for _ in range(3):
        send(made, *seqs)
        made.lose(0.0)
    return made


def test_it_has_room_up_to_its_messages_and_its_bytes():
    by_messages, by_bytes = window(messages=2), window(max_bytes=20)
    for seq in (1, 2):
        assert by_messages.has_room()
        assert by_bytes.has_room()
        send(by_messages, seq)
        send(by_bytes, seq)
    assert not by_messages.has_room()
    assert not by_bytes.has_room()


def test_a_row_on_its_way_is_not_sent_again_until_its_receipt_is_late():
    rows = window()
    send(rows, 1, 2, at_s=100.0)
    rows.expire(129.0)
    assert 1 in rows
    assert rows.next_s(129.0) == 130.0
    rows.expire(130.0)
    assert rows.another_round() and 1 not in rows
    assert rows.next_s(130.0) == inf


def test_a_receipt_makes_room_once_the_whole_message_is_covered():
    rows = window(messages=1)
    send(rows, 1, 2, 3)
    rows.settle([(1, 1), (3, 900)], 1.0)
    assert not rows.has_room()
    rows.settle([(2, 2)], 1.0)
    assert rows.has_room()


def test_the_wait_doubles_while_nothing_comes_and_shrinks_when_something_does():
    rows, now_s, waits = window(), 0.0, []
    for _ in range(7):
        send(rows, 1, at_s=now_s)
        waits.append(rows.next_s(now_s) - now_s)
        now_s = rows.next_s(now_s)
        rows.expire(now_s)
    assert waits == [30, 60, 120, 240, 480, 960, 960]
    send(rows, 1, at_s=now_s)
    rows.settle([(1, 1)], now_s)
    send(rows, 2, at_s=now_s)
    assert rows.next_s(now_s) - now_s == 480


def test_messages_shrink_when_one_fails_and_grow_slowly_when_they_arrive():
    rows, now_s = window(), 0.0
    for expected in (200, 25, 3, 1, 1):
        send(rows, 1, at_s=now_s)
        now_s += 1000.0
        rows.expire(now_s)
        assert rows.message_bytes == expected
    for seq in range(20):
        send(rows, seq)
        rows.settle([(seq, seq)], 0.0)
    assert rows.message_bytes == FULL_BYTES


def test_fewer_are_on_their_way_after_a_late_one_and_one_more_for_each_that_arrives():
    rows = window(messages=8)

    def fills(at_s: float) -> int:
        """How many messages fit; they are left on their way, each with the row of its number."""
        count = 0
        while rows.has_room():
            count += 1
            send(rows, count, at_s=at_s)
        return count

    assert fills(0.0) == 8
    rows.expire(30.0)
    assert fills(30.0) == 4
    rows.expire(90.0)
    assert fills(90.0) == 2
    rows.expire(210.0)
    assert fills(210.0) == 2  # one may be what never arrives
    rows.settle([(1, 1)], 211.0)
    assert fills(211.0) == 2  # three now, with the one that is still on its way
    rows.settle([(1, 8)], 212.0)
    assert fills(212.0) == 6
    rows.settle([(1, 8)], 213.0)
    assert fills(213.0) == 8  # no more than at first


def test_another_connection_has_all_places_again():
    rows = window(messages=8)
    send(rows, 1, at_s=0.0)
    rows.expire(30.0)
    rows.lose(31.0)
    for seq in range(8):
        assert rows.has_room()
        send(rows, seq, at_s=32.0)


def test_messages_that_were_on_their_way_together_are_one_loss():
    """Each has its own deadline, a moment after the one before."""
    rows = window(messages=16)
    for seq in range(8):
        send(rows, seq, at_s=seq / 1000)
    for seq in range(8):
        rows.expire(30.0 + seq / 1000)
    assert rows.message_bytes == FULL_BYTES // 8
    send(rows, 8, at_s=31.0)
    assert rows.next_s(31.0) == 31.0 + 60.0  # waits twice as long, not 256 times
    rows.expire(91.0)
    assert rows.message_bytes == FULL_BYTES // 64


def test_what_was_lost_lets_all_else_go_first_for_a_while():
    rows = window()
    send(rows, 1, at_s=0.0)
    send(rows, 2, at_s=0.0)
    rows.expire(30.0)
    assert 1 in rows and 2 in rows
    rows.expire(59.9)
    assert 1 in rows
    rows.expire(60.0)
    assert 1 not in rows and 2 not in rows


def test_what_was_lost_goes_at_once_where_nothing_else_waits():
    rows = window()
    assert not rows.another_round()
    send(rows, 1, at_s=0.0)
    rows.expire(30.0)
    assert rows.another_round() and 1 not in rows
    assert not rows.another_round()


def test_a_receipt_that_came_too_late_is_a_receipt():
    rows = window()
    send(rows, 1, at_s=0.0)
    rows.expire(30.0)
    rows.settle([(1, 1)], 30.5)
    assert 1 not in rows


def test_an_idle_connection_that_ends_shrinks_nothing():
    rows = window()
    rows.lose(0.0)
    assert rows.message_bytes == FULL_BYTES


def test_what_was_sent_before_a_collector_came_is_sent_again_soon():
    """It may have been there already: then the receipts come within the five seconds."""
    rows = window()
    send(rows, 1, at_s=0.0)
    rows.hurry(10.0)
    assert rows.next_s(10.0) == 15.0


def test_an_absent_collector_makes_no_suspects():
    rows = window()
    for turn in range(50):
        send(rows, 1, 2, at_s=1000.0 * turn)
        rows.expire(1000.0 * (turn + 1))
    assert rows.another_round() and 1 not in rows
    assert rows.suspect(inf) is None


def test_rows_that_fail_three_times_while_others_arrive_travel_alone():
    rows = window()
    for now_s in (0.0, 100.0, 200.0):
        send(rows, 1, 2, at_s=now_s)
        send(rows, 9, at_s=now_s)
        rows.settle([(9, 9)], now_s + 1)
        rows.expire(now_s + 60)
    assert 1 in rows
    assert 2 in rows
    assert rows.suspect(260.0) == 1
    send(rows, 1, at_s=260.0)
    assert rows.suspect(260.0) is None  # one at a time
    rows.settle([(1, 1)], 261.0)
    assert rows.suspect(261.0) == 2


def test_a_suspect_waits_ever_longer_and_lets_the_others_go_first():
    rows = under_suspicion(1, 2)
    waits = []
    for _ in range(7):
        send(rows, 1)
        rows.lose(0.0)
        waits.append(rows.next_s(0.0))
        assert rows.suspect(0.0) == 2
    assert waits == [60, 120, 240, 480, 600, 600, 600]


def test_a_suspect_without_a_receipt_goes_behind_the_others_though_nothing_speaks_against_it():
    rows = under_suspicion(1, 2)
    send(rows, 1, at_s=10.0)
    rows.expire(40.0)
    assert rows.suspect(40.0) == 2


def test_years_of_failures_of_one_row_overflow_nothing():
    rows = under_suspicion(1)
    for _ in range(3000):
        send(rows, 1)
        rows.lose(0.0)
    assert rows.next_s(0.0) == 600


def test_a_receipt_clears_a_row_of_suspicion():
    rows = under_suspicion(1, 2)
    rows.settle([(1, 1)], 0.0)
    rows.forget(2)
    assert 1 not in rows
    assert 2 not in rows
    send(rows, 1)
    rows.lose(0.0)
    assert 1 not in rows


def test_a_row_that_a_connection_cannot_carry_waits_for_another():
    rows = under_suspicion(1)
    rows.withhold(1)
    rows.withhold(2)
    assert (1 in rows, 2 in rows) == (True, True)
    assert rows.suspect(1000.0) is None
    rows.lose(1000.0)
    assert 2 not in rows
    assert rows.suspect(1000.0) == 1


def test_rows_with_other_numbers_are_under_no_suspicion():
    rows = under_suspicion(1, 2)
    send(rows, 3)
    rows.withhold(4)
    rows.clear()
    assert not any(seq in rows for seq in range(1, 5))
    assert (rows.suspect(inf), rows.next_s(0.0)) == (None, inf)
    assert rows.has_room()
