from service.leavers import LATE, LEFT, Leaver, Leavers


def test_those_that_left_are_bounded_and_no_number_of_copies_drives_out_another() -> None:
    leavers = Leavers(lambda: 0.0)
    for name in ("other", *["copy"] * LEFT * 2):
        leavers.add(Leaver(name, 1, 2, on_trial=False))
    assert len(leavers.all()) == LEFT
    assert {leaver.fingerprint for leaver in leavers.all()} == {"other", "copy"}


def test_a_piece_that_was_read_right_after_one_left_acquits_nobody() -> None:
    heard = 10.0
    leavers = Leavers(lambda: heard)
    leavers.add(Leaver("a", 1, 10, on_trial=False))
    for heard, left in ((10 + LATE, 1), (10.1 + LATE, 0)):  # noqa: B007
        assert len(leavers.all()) == left
