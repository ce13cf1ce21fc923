"""Random commands to ranks started by `train --nproc`; `make test` sends them to ranks of two nodes."""

from __future__ import annotations

from tests.control.test_several_ranks import random_commands_to


def test_random_commands_to_ranks_of_one_node_take_effect_at_the_same_step() -> None:
    random_commands_to()
