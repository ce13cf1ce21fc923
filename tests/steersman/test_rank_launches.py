"""The launch of several ranks: their number, how each identifies its launch, and how it learns that nothing trains."""

from __future__ import annotations

import argparse
import threading

import pytest

from steersman.agent.launch.torchrun import (
    Launch,
    LaunchError,
    NoAttempt,
    announce_failure,
    join,
    number_of_ranks,
    torchrun_launch,
)
from steersman.agent.supervise.interrupts import Interrupts
from tests.support.stack import ROOT


@pytest.mark.parametrize("text", ["0", "-1", "5000"])
def test_a_number_of_ranks_that_cannot_be_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="1 to 1024"):
        number_of_ranks(text)


def torchrun_environment(**variables: str) -> dict[str, str]:
    return {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", **variables}


def test_ranks_of_one_launch_know_it_by_the_same_key_and_no_other():
    first, second = (torchrun_launch(torchrun_environment(RANK=rank)) for rank in ("0", "3"))
    assert first is not None and second is not None and first.key == second.key
    assert (first.rank, second.rank, second.ranks) == (0, 3, 4)
    again = torchrun_launch(torchrun_environment(TORCHELASTIC_RESTART_COUNT="1"))
    assert again is not None and again.key != first.key and len(again.key) <= 100
    assert torchrun_launch({}) is None and torchrun_launch(torchrun_environment(WORLD_SIZE="1")) is None


def test_ranks_on_several_nodes_know_their_launch_by_what_the_nodes_have_in_common():
    of_all = {"LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "n" * 253, "MASTER_PORT": "29500"}
    first = torchrun_launch(torchrun_environment(RANK="1", LOCAL_RANK="1", GROUP_RANK="0", **of_all))
    restarted = {"TORCHELASTIC_RESTART_COUNT": "1"}
    second = torchrun_launch(torchrun_environment(RANK="3", LOCAL_RANK="1", GROUP_RANK="1", **of_all, **restarted))
    assert first is not None and second is not None
    assert first.key == second.key and len(first.key) <= 100 and "nnn" not in first.key
    assert (first.node, list(first.own), second.node, list(second.own)) == (0, [0, 1], 1, [2, 3])
    assert (second.nodes, second.ranks, second.address) == (2, 4, "n" * 253)
    with pytest.raises(LaunchError, match="GROUP_RANK"):
        torchrun_launch(torchrun_environment(LOCAL_RANK="1", **of_all))


def test_a_rank_learns_that_there_is_nothing_to_train(tmp_path):
    """The remains of an earlier launch do not count."""
    launch = Launch("this", 1, 2)
    announce_failure(tmp_path, 7, Launch("before", 0, 2), 2)
    interrupts = Interrupts()
    later = threading.Timer(0.2, announce_failure, (tmp_path, 7, launch, 3))
    later.start()
    with pytest.raises(NoAttempt) as refused:
        join(tmp_path, ROOT, 7, launch, interrupts, {})
    assert refused.value.exit_code == 3
    interrupts.stops = 1
    with pytest.raises(NoAttempt, match="before the training began"):
        join(tmp_path, ROOT, 8, launch, interrupts, {})
