"""A sample of the faults that scripts/faults makes, the same each time."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.lab import lab
from tests.faults.operations import OPERATIONS, cases

COUNT, SEED = 30, 1


def test_a_sample_of_faults() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small file system this needs")
    with lab() as here:
        every = [case for one in OPERATIONS for case in cases(one, here.steps(one))]
        assert len(every) >= 300
        found = {str(case): here.run(case) for case in random.Random(SEED).sample(every, COUNT)}
    assert not {case: wrong for case, (_, wrong) in found.items() if wrong}
    # Not every step gives occasion for every fault.
    assert sum(code is not None for code, _ in found.values()) >= COUNT // 2
