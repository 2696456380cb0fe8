"""How long a client's connection may keep us waiting."""

from tenantry_service.proxy.patience import LINGER_SECONDS, Overdue, Patience


def test_a_reader_that_takes_anything_is_not_stalled_and_one_that_takes_nothing_is() -> None:
    patience = Patience(10.0)
    patience.expect_reading(0.0, 1000)
    assert patience.overdue(9.0, 999) is None
    assert patience.overdue(18.0, 999) is None
    assert patience.overdue(19.0, 999) is Overdue.READ


def test_a_reader_that_has_caught_up_owes_nothing() -> None:
    patience = Patience(10.0)
    patience.expect_reading(0.0, 1000)
    patience.has_read()
    assert not patience.watches_output
    assert patience.overdue(99.0, 0) is None


def test_lingering_begins_when_the_last_answer_has_been_taken() -> None:
    patience = Patience(10.0)
    patience.expect_closing(0.0, 1000)
    assert patience.overdue(5.0, 500) is None
    assert patience.overdue(9.0, 0) is Overdue.CLOSE
    patience.expect_closing(20.0, 1000)
    assert patience.overdue(21.0, 1) is None
    assert patience.overdue(21.5 + LINGER_SECONDS, 1) is None
    assert patience.overdue(31.0, 1) is Overdue.READ


def test_what_must_be_sent_and_what_must_be_read_do_not_hide_each_other() -> None:
    patience = Patience(10.0)
    patience.send_by = 3.0
    patience.expect_reading(0.0, 1000)
    patience.has_read()
    assert patience.overdue(3.0, 0) is Overdue.SEND
