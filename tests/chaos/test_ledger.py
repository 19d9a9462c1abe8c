"""The ledger finds every kind of wrong, and nothing wrong in what is right."""

import pytest

from tests.chaos.ledger import (
    Outcome,
    Record,
    Row,
    Verdict,
    judge,
)
from tests.chaos.tape import Tape, token_of, word

EPOCH = "abcdef0123"
ITEM, OTHER = "item:1", "item:2"


def cursor(position: int, epoch: str = EPOCH) -> str:
    return f"{epoch}-{position}"


class Story:
    """Five appends of one publisher, three of them to the item that a subscriber watches."""

    def __init__(self) -> None:
        self.record = Record()
        self.rows = []
        for position, channel in enumerate((ITEM, OTHER, ITEM, OTHER, ITEM), start=1):
            token = self.record.intend("person", [channel])
            self.record.know(token, Outcome.ACKNOWLEDGED)
            self.rows.append(Row(position, (channel,), token))
        self.tape = Tape("lean-1", [ITEM], EPOCH)

    def connect(self, last: int | None = None) -> None:
        self.tape.observe({"k": "connect", "last": None if last is None else cursor(last)})

    def open(self, position: int, mode: str = "live") -> None:
        data = {"mode": mode, "cursor": cursor(position), "missed": 0}
        self.frame(position, "stream.open", data=data)

    def frame(self, position: int | None, event: str | None = "Noted", **more: object) -> None:
        id_ = None if position is None else cursor(position)
        self.tape.observe({"k": "frame", "id": id_, "event": event, "token": None, **more})

    def get(self, *positions: int) -> None:
        for position in positions:
            self.frame(position, token=word(self.rows[position - 1].token))

    def judge(self) -> Verdict:
        return judge(self.record, self.rows, [self.tape])

    def wrong(self) -> dict[str, int]:
        return {what: count for what, count in self.judge().counts.items() if count}


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def opened(story) -> Story:
    story.connect()
    story.open(0)
    return story


# --- what is right --------------------------------------------------------------------------------


def test_all_of_it_in_order_over_several_connections_is_good(opened):
    opened.get(1)
    opened.tape.observe({"k": "cut", "why": "closed"})
    opened.connect(1)
    opened.open(1, "resumed")
    opened.get(3)
    opened.frame(3, "stream.live", data={})
    opened.frame(4, None)
    opened.frame(None, "stream.end", data={"reason": "max_age"})
    opened.connect(4)
    opened.open(4, "resumed")
    opened.get(5)

    assert opened.judge().good
    assert opened.tape.deliveries == 3
    assert opened.tape.connections == 3


def test_what_was_there_before_the_first_opening_is_not_missed(story):
    story.connect()
    story.open(3)
    story.get(5)

    assert story.judge().good


def test_what_was_placed_after_the_log_was_read_is_not_held_against_anyone(opened):
    opened.get(1, 3, 5)
    opened.frame(6)

    assert opened.judge().good


def test_an_append_of_unknown_outcome_may_be_in_the_log_or_not(opened):
    opened.get(1, 3, 5)
    for row in (4, None):
        token = opened.record.intend("other", [OTHER])
        if row is not None:
            opened.rows.append(Row(6, (OTHER,), token))

    assert opened.judge().good


def test_an_event_that_no_publisher_appended_belongs_to_its_channels_all_the_same(opened):
    opened.get(1, 3, 5)
    opened.rows.append(Row(6, (ITEM,), -1))

    assert opened.wrong() == {Verdict.LOST: 1}


# --- what a subscriber got ------------------------------------------------------------------------


def test_what_did_not_come_is_lost(opened):
    opened.get(1)

    assert opened.wrong() == {Verdict.LOST: 2}


def test_a_gap_is_lost(opened):
    opened.get(1, 5)

    assert opened.wrong() == {Verdict.LOST: 1}


def test_what_came_twice_is_duplicated(opened):
    opened.get(1, 3, 3, 5, 1)

    assert opened.wrong() == {Verdict.DUPLICATED: 2}


def test_what_came_after_a_later_one_is_out_of_order(opened):
    opened.get(1, 5, 3)

    assert opened.wrong() == {Verdict.OUT_OF_ORDER: 1}


def test_an_event_at_or_below_a_heartbeats_cursor_is_out_of_order(opened):
    opened.get(1)
    opened.frame(3, None)
    opened.get(3, 5)

    assert opened.wrong() == {Verdict.OUT_OF_ORDER: 1}


def test_what_is_missed_by_a_cursor_that_was_too_far_is_lost(opened):
    opened.get(1)
    opened.frame(3, None)
    opened.connect(3)
    opened.open(3, "resumed")
    opened.get(5)

    assert opened.wrong() == {Verdict.LOST: 1}


def test_going_live_again_past_something_loses_it(opened):
    opened.get(1)
    opened.connect()
    opened.open(4)
    opened.get(5)

    assert opened.wrong() == {Verdict.LOST: 1}


def test_a_reset_is_unexplained_and_what_it_passed_is_lost(opened):
    opened.get(1)
    opened.connect(1)
    opened.open(4, "reset")
    opened.frame(4, "stream.reset", data={"reason": "ahead"})
    opened.get(5)

    assert opened.wrong() == {Verdict.RESETS: 1, Verdict.LOST: 1}
    assert "ahead" in opened.judge().words[Verdict.RESETS][0]


def test_one_who_gave_up_is_a_loss_even_if_nothing_came_after(opened):
    opened.get(1, 3, 5)
    opened.tape.observe({"k": "gaveup", "why": "status 403"})

    assert opened.wrong() == {Verdict.LOST: 1}


def test_one_who_never_got_a_stream_is_a_loss(story):
    story.connect()

    assert story.wrong() == {Verdict.LOST: 1}


def test_an_event_of_another_channel_is_wrong(opened):
    opened.get(1, 2, 3, 5)

    assert opened.wrong() == {Verdict.STRANGE: 1}


def test_an_event_with_anothers_text_is_wrong(opened):
    opened.frame(1, token=word(4))
    opened.get(3, 5)

    assert opened.wrong() == {Verdict.STRANGE: 1}


def test_an_event_of_another_epoch_is_wrong(opened):
    opened.get(1, 3, 5)
    opened.tape.observe({"k": "frame", "id": cursor(9, "fedcba"), "event": "Noted", "token": None})

    assert opened.wrong()[Verdict.STRANGE] > 0


def test_who_has_an_item_open_is_told_beside_the_log(opened):
    opened.get(1)
    opened.frame(None, "PresenceChanged", data={"item_id": "1", "users": [], "total": None})
    opened.get(3, 5)

    assert opened.wrong() == {}
    assert opened.tape.deliveries == 3


@pytest.mark.parametrize(("position", "item"), [(3, "1"), (5, "1"), (None, "2"), (None, None)])
def test_presence_with_an_id_or_of_another_item_is_wrong(opened, position, item):
    opened.get(1, 3, 5)
    opened.frame(position, "PresenceChanged", data={"item_id": item, "users": [], "total": 0})

    assert opened.wrong() == {Verdict.STRANGE: 1}


def test_presence_before_the_stream_is_opened_is_wrong(story):
    story.connect()
    story.frame(None, "PresenceChanged", data={"item_id": "1", "users": [], "total": 0})
    story.open(0)
    story.get(1, 3, 5)

    assert story.wrong() == {Verdict.STRANGE: 1}


def test_a_cursor_that_goes_back_is_wrong(opened):
    opened.get(1, 3)
    opened.frame(2, None)
    opened.get(5)

    assert opened.wrong() == {Verdict.STRANGE: 1}


def test_one_who_came_with_an_id_and_went_live_is_wrong_even_if_nothing_was_missed(opened):
    opened.get(1, 3, 5)
    opened.connect(5)
    opened.open(5)

    assert opened.wrong() == {Verdict.STRANGE: 1}


def test_a_browser_comes_with_its_id_without_saying_so(story):
    for mode in ("live", "live", "resumed"):
        story.tape.observe({"k": "connect", "last": None, "unknown": True})
        story.open(5, mode)

    assert story.wrong() == {Verdict.STRANGE: 1}


@pytest.mark.parametrize("reason", ["database", "drain", "idle", "max_age"])
def test_an_end_for_a_reason_that_there_can_be_is_good(opened, reason):
    opened.get(1, 3, 5)
    opened.frame(None, "stream.end", data={"reason": reason})

    assert opened.judge().good
    assert opened.tape.ends == {reason: 1}


@pytest.mark.parametrize("reason", ["capacity", "revoked", "error", ""])
def test_any_other_end_of_an_opened_stream_is_wrong(opened, reason):
    opened.get(1, 3, 5)
    opened.frame(None, "stream.end", data={"reason": reason})

    assert opened.wrong() == {Verdict.STRANGE: 1}
    assert opened.tape.ends == {reason: 1}


@pytest.mark.parametrize(("reason", "wrong"), [("revoked", {}), ("capacity", {Verdict.STRANGE: 1})])
def test_in_place_of_an_opening_one_may_be_asked_to_come_again_but_not_for_want_of_room(
    opened, reason, wrong
):
    opened.get(1, 3, 5)
    opened.connect(5)
    opened.frame(None, "stream.end", data={"reason": reason})

    assert opened.wrong() == wrong


def test_a_status_is_wrong_though_the_client_comes_back(opened):
    opened.get(1, 3, 5)
    opened.tape.observe({"k": "cut", "why": "status 500"})

    assert opened.wrong() == {Verdict.STRANGE: 1}
    assert "status 500" in opened.judge().words[Verdict.STRANGE][0]


# --- what the log holds -----------------------------------------------------------------------------


def test_an_acknowledged_append_that_is_not_in_the_log_is_lost(opened):
    opened.get(1, 3, 5)
    opened.record.know(opened.record.intend("person", [OTHER]), Outcome.ACKNOWLEDGED)

    assert opened.wrong() == {Verdict.LOST: 1}


@pytest.mark.parametrize("outcome", [Outcome.ACKNOWLEDGED, Outcome.UNKNOWN])
def test_an_append_that_is_twice_in_the_log_is_duplicated(opened, outcome):
    opened.get(1, 3, 5)
    token = opened.record.intend("other", [OTHER])
    opened.record.know(token, outcome)
    opened.rows += [Row(6, (OTHER,), token), Row(7, (OTHER,), token)]

    assert opened.wrong() == {Verdict.DUPLICATED: 1}


def test_what_was_rolled_back_and_is_in_the_log_is_wrong(opened):
    opened.get(1, 3, 5)
    opened.record.know(1, Outcome.ROLLED_BACK)

    assert opened.wrong() == {Verdict.STRANGE: 1}


def test_what_nobody_appended_is_wrong(opened):
    opened.get(1, 3, 5)
    opened.rows.append(Row(6, (OTHER,), 77))

    assert opened.wrong() == {Verdict.STRANGE: 1}


def test_a_hole_between_positions_is_wrong(opened):
    opened.get(1, 3, 5)
    token = opened.record.intend("other", [OTHER])
    opened.rows.append(Row(7, (OTHER,), token))

    assert opened.wrong() == {Verdict.STRANGE: 1}


def test_a_publishers_events_in_another_order_than_it_appended_them_are_out_of_order(opened):
    opened.get(1, 3, 5)
    first, second = (opened.record.intend("other", [OTHER]) for _ in range(2))
    for token in (first, second):
        opened.record.know(token, Outcome.ACKNOWLEDGED)
    opened.rows += [Row(6, (OTHER,), second), Row(7, (OTHER,), first)]

    assert opened.wrong() == {Verdict.OUT_OF_ORDER: 1}


def test_an_event_that_went_elsewhere_is_wrong(opened):
    opened.get(1, 3, 5)
    token = opened.record.intend("other", [OTHER])
    opened.rows.append(Row(6, ("item:3",), token))

    assert opened.wrong() == {Verdict.STRANGE: 1}


def test_a_token_is_read_as_it_was_written():
    assert token_of(word(12)) == 12
    assert [token_of(text) for text in (None, "", "t", "Hello", "tea", 7)] == [-1] * 6
