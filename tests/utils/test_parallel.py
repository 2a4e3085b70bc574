from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from audionet.utils.parallel import WorkerDied, local_processes, map_unordered


class Batch(NamedTuple):
    folder: Path
    numbers: list[int]


def squares(batch: Batch) -> list[int]:
    for number in batch.numbers:
        if number == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 7 and not (batch.folder / "killed once").exists():
            (batch.folder / "killed once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 99:
            raise ValueError("ninety-nine")
    return [number**2 for number in batch.numbers]


def slow(batch: Batch) -> int:
    time.sleep(2.5)
    return len(batch.numbers)


def alone(batch: Batch) -> list[Batch]:
    return [batch._replace(numbers=[number]) for number in batch.numbers]


def batches(folder: Path, numbers: range, size: int = 5) -> list[Batch]:
    return [Batch(folder, list(numbers[i : i + size])) for i in range(0, len(numbers), size)]


@pytest.mark.parametrize("size", [1, 5])
def test_a_killed_worker_costs_a_retry_and_only_what_kills_it_is_left_out(tmp_path: Path, size: int) -> None:
    with local_processes(2) as pool:
        found = list(map_unordered(pool, squares, batches(tmp_path, range(60), size), alone))
    dead = [batch.numbers for batch, result in found if isinstance(result, WorkerDied)]
    done = {
        n: s for batch, result in found if isinstance(result, list) for n, s in zip(batch.numbers, result, strict=True)
    }
    assert dead == [[13]]
    assert done == {n: n**2 for n in range(60) if n != 13}
    assert sum(len(batch.numbers) for batch, _ in found) == 60  # nothing twice


def test_items_are_drawn_as_work_finishes(tmp_path: Path) -> None:
    drawn = []

    def items():
        for batch in batches(tmp_path, range(200, 400), 1):
            drawn.append(batch)
            yield batch

    with local_processes(2) as pool:
        results = map_unordered(pool, squares, items(), alone)
        next(results)
        assert len(drawn) < 20
        assert len(list(results)) == 199


def test_an_error_in_the_work_is_raised_here(tmp_path: Path) -> None:
    with local_processes(1) as pool, pytest.raises(ValueError, match="ninety-nine"):
        list(map_unordered(pool, squares, batches(tmp_path, range(90, 110)), alone))


def test_what_waits_is_told_every_second(tmp_path: Path) -> None:
    calls: list[float] = []
    with local_processes(1) as pool:
        list(map_unordered(pool, slow, batches(tmp_path, range(2), 2), alone, lambda: calls.append(time.monotonic())))
    assert len(calls) >= 2
