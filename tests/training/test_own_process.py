"""Processes that measure."""

import operator
import os

import pytest

from outrageous.errors import UserError
from outrageous.training.own_process import in_own_process


def test_a_process_of_its_own_may_start_another() -> None:
    assert in_own_process(in_own_process, operator.add, 2, 3) == 5


def test_a_process_that_the_system_ends_is_named() -> None:
    with pytest.raises(UserError, match="the process that measured was ended"):
        in_own_process(os._exit, 1)
