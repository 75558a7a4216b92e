"""Names of keys and ids of jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.queue import QUEUE_NAME
from shared.engine.keys import Keys, new_job_id, split_job_id
from shared.errors import JobNotFound, UnknownQueue

queue_names = st.from_regex(QUEUE_NAME, fullmatch=True)


def test_every_key_of_a_queue_shares_its_hash_tag() -> None:
    keys = Keys("cb", "excel-import")
    names = [keys.meta, keys.events, keys.wake, keys.job("x"), keys.log("x"), keys.state("waiting")]
    assert all(name.startswith("{cb:excel-import}:") for name in names)
    assert len(set(names)) == len(names)
    assert keys.meta == "{cb:excel-import}:meta", "the scripts cut 'meta' off to find the others"


@given(name=queue_names)
def test_a_job_id_leads_to_its_queue(name: str) -> None:
    job_id = new_job_id(name)
    queue, local_id = split_job_id(job_id)
    assert (queue, f"{queue}.{local_id}") == (name, job_id)
    assert len(local_id) == 26


def test_job_ids_are_never_the_same() -> None:
    assert len({new_job_id("q") for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize(
    "job_id",
    [
        "",
        ".",
        "q",
        "q.",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        ".01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "q.01ARZ3NDEKTSV4RRFFQ69G5FA",
        "q.01ARZ3NDEKTSV4RRFFQ69G5FAVX",
        "q.01ARZ3NDEKTSV4RRFFQ69G5FA*",
        "q.01ARZ3NDEKTSV4RRFFQ69G5FA\n",
        "q." + "é" * 26,
        "{q}.01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "1q.01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "a b.01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ],
)
def test_what_is_no_job_id(job_id: str) -> None:
    with pytest.raises(JobNotFound, match="is not a job id"):
        split_job_id(job_id)


@pytest.mark.parametrize("name", ["", "1", "a b", "a:b", "a{b", "a}", "ü", "a\n", "a" * 65, ".a", "-a"])
def test_what_is_no_queue(name: str) -> None:
    with pytest.raises(UnknownQueue, match="is not a queue name"):
        Keys("cb", name)
