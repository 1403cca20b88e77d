"""Shards share the images out: each once, in order, in the batches of the whole run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.run.pipeline import chunks
from harness.run.shard import Shard, parse_shard

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@given(st.integers(1, 400), SIZES, st.data())
def test_batches_of_all_shards_are_those_of_the_whole_run(images: int, sizes: list[int], data: st.DataObject) -> None:
    of = data.draw(st.integers(1, math.ceil(images / math.lcm(*sizes))))
    ids = range(100, 100 + images)
    parts = [Shard(index, of).images(ids, sizes) for index in range(1, of + 1)]
    assert all(parts)
    for size in sizes:
        assert [batch for part in parts for batch in chunks(part, size)] == list(chunks(ids, size))


@given(st.integers(1, 400), SIZES)
def test_as_many_shards_as_are_named_by_the_refusal_can_be(images: int, sizes: list[int]) -> None:
    with pytest.raises(HarnessError) as caught:
        Shard(1, 9999).images(range(images), sizes)
    most = int(str(caught.value.remedy).partition("among ")[2].partition(",")[0])
    assert all(Shard(index, most).images(range(images), sizes) for index in range(1, most + 1))


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "-1/3", "1/0", "1/3/5", "a/b", "1.0/3", "1/99999", "¹/3"])
def test_text_that_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(HarnessError, match="no part of a run") as caught:
        parse_shard(text)
    assert caught.value.field == "--shard"


def test_part_is_read_as_it_is_written() -> None:
    assert str(parse_shard(" 2 / 5 ")) == "2/5"
