"""Timeouts of the parts of a launch, in seconds. They depend on each other: change them together.

A launch over several hosts begins with rank 0's attempt in shared storage, which the others join; it ends when one rank
ends, a connection stays broken, or a signal arrives.
"""

from __future__ import annotations

# Beginning. The longest time until rank 0 opens its attempt: it first verifies checkpoints, which may be of any size.
JOIN_TIMEOUT_S = 1800.0
# All processes of a launch over several nodes start within seconds of each other. If an announcement existed when this
# process started, and is unchanged after this time, it does not belong to an earlier launch.
STALE_AFTER_S = 30.0
# By then, a rank on this host has recorded its process: torchrun starts its processes at about the same time.
STARTED_AFTER_S = 120.0
# A node that does not see the attempt gives up after this time. NFS may hide a new file from a host that has looked for
# it before for a minute (its default), and the time must also be longer than STARTED_AFTER_S.
SHARED_AFTER_S = 180.0
# Rank 0 gives up a node that has not joined: its processes start like those here, and may see the attempt a minute
# later. At most SHARED_AFTER_S, after which such a node has itself given up.
JOINED_AFTER_S = STARTED_AFTER_S + 60.0

# Connecting. Timeouts of one try of a node, at the beginning or after a break: for TCP, then for each of the three
# messages that it waits for: the greeting of rank 0, its answer to the node's greeting, and the current state.
TCP_CONNECT_TIMEOUT_S = 2.0
HANDSHAKE_MESSAGE_TIMEOUT_S = 3.0
# Rank 0 closes a connection without a greeting. Longer than a node waits for rank 0's greeting, because the node's
# greeting is the answer to it.
GREETING_TIMEOUT_S = 10.0

# A broken connection. Both ends count from when they notice it. Within this time the node connects again and nothing is
# lost. After it, rank 0 marks the node as lost and refuses it, and the node stops trying and ends its ranks.
LOST_AFTER_S = 2.5
# The node finishes a try that it has begun, so it may end its ranks later than rank 0 calls it lost:
# - LOST_AFTER_S + TCP_CONNECT_TIMEOUT_S = 4.5 s after it noticed the break, if the host of rank 0 does not answer;
# - LOST_AFTER_S + HANDSHAKE_MESSAGE_TIMEOUT_S = 5.5 s, if rank 0 is suspended: TCP connects, but no greeting comes. One
#   such wait is longer than LOST_AFTER_S: if rank 0 was suspended at the break, the first try is the only one.
# A break is noticed within 4 s (keep-alive, see node_connection), and KILL_LOST_AFTER_S follows: in both cases no rank
# of the node is alive when the run of a dead rank 0 counts as lost, 12 s after its last heartbeat. A try takes longer
# only if rank 0 sends each message just in time; then it also sends heartbeats.

# End. A rank that was asked to end may finish its step. If it waits for a rank that is gone, it never finishes, and is
# killed after this time.
KILL_AFTER_S = 5.0
# After a node was lost, no checkpoint can be saved any longer, and LOST_AFTER_S has already passed, so this is shorter
# than KILL_AFTER_S. Both together are shorter than the 12 s after which a run without heartbeat is lost.
KILL_LOST_AFTER_S = 2.0
# The process that started a rank records how it ended. If the record is missing for longer, the exit code is unknown.
EXIT_KNOWN_AFTER_S = 1.0
# A signal to a rank other than 0 waits this long for the `train` of rank 0, which stops all ranks at one step. If that
# is dead, the signal goes to the rank itself. Far shorter than the 30 s after which torchrun kills its processes.
FORWARD_AFTER_S = 2.0
# A script without a handler would be ended by the signal while it saves: it gets most of the 30 s that torchrun and
# Slurm give by default.
FORWARD_UNCAUGHT_AFTER_S = 20.0
