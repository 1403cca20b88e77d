"""Order of the images: every image once an epoch, and a resumed run goes on in it."""

from harness.training.order import SampleNumbers, place_of


def test_every_epoch_shows_every_image_once_in_another_order() -> None:
    epochs = [tuple(place_of(number, 6, 3) for number in range(start, start + 6)) for start in range(0, 60, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len(set(epochs)) > 5
    assert epochs != [tuple(place_of(number, 6, 4) for number in range(start, start + 6)) for start in range(0, 60, 6)]


def test_resumed_run_draws_the_numbers_that_are_left() -> None:
    whole = list(SampleNumbers(0, 5, 3))
    assert [number for batch in whole for number in batch] == list(range(15))
    assert list(SampleNumbers(2, 5, 3)) == whole[2:]
    assert len(SampleNumbers(2, 5, 3)) == 3
