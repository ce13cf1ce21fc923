"""How long the parts of a launch wait for one another, in seconds. They depend on each other: change them together.

A launch over several hosts begins with rank 0's attempt in shared storage, which the others join; it ends when one rank
ends, a connection stays broken, or a signal comes.
"""

from __future__ import annotations

# Beginning. The longest time in which rank 0 may open its attempt: it verifies checkpoints of any size before that.
JOIN_TIMEOUT_S = 1800.0
# All processes of a launch over several nodes start within seconds of each other: an announcement that was there when
# this process came, and is still the same after this time, is not an earlier launch's.
STALE_AFTER_S = 30.0
# A rank on this host has recorded its process by then: torchrun starts its processes at about the same time.
STARTED_AFTER_S = 120.0
# A node that sees nothing of the attempt gives up: longer than NFS hides a new file from a host that has looked for it
# before (a minute, by its default), and so longer than STARTED_AFTER_S.
SHARED_AFTER_S = 180.0
# Rank 0 gives up a node that has not joined: its processes start like those here, and may see the attempt a minute
# later. Not longer than SHARED_AFTER_S, by which such a node has given up itself.
JOINED_AFTER_S = STARTED_AFTER_S + 60.0

# Connecting. What one try of a node may take, at the beginning or after a break: first for TCP, then for each of the
# three messages that it waits for: the greeting of rank 0, its answer to the node's, and the present state.
TCP_CONNECT_TIMEOUT_S = 2.0
HANDSHAKE_MESSAGE_TIMEOUT_S = 3.0
# Rank 0 closes a connection on which no greeting has come. Longer than a node waits for rank 0's own greeting, since it
# answers that one.
GREETING_TIMEOUT_S = 10.0

# A broken connection. Both ends count from when they notice it. Within this time the node connects again and nothing is
# lost; after it, rank 0 calls the node lost and refuses it, and the node begins no further try and ends its ranks.
LOST_AFTER_S = 2.5
# The node finishes a try that it has begun, so it may end its ranks later than rank 0 calls it lost:
# - LOST_AFTER_S + TCP_CONNECT_TIMEOUT_S = 4.5 s after it noticed the break, if the host of rank 0 does not answer;
# - LOST_AFTER_S + HANDSHAKE_MESSAGE_TIMEOUT_S = 5.5 s, if rank 0 is suspended: TCP connects, but no greeting comes. One
#   such wait is longer than LOST_AFTER_S: if rank 0 was suspended at the break, the first try is the only one.
# A break is noticed within 4 s (keep-alive, see node_connection), and KILL_LOST_AFTER_S follows: in both cases no rank
# of the node is alive when the run of a dead rank 0 counts as lost, 12 s after its last heartbeat. A try takes longer
# only if rank 0 sends each message just in time; then it also sends heartbeats.

# End. A rank that was asked to end may finish its step; one that waits for a rank that is gone waits in vain, and is
# killed after this time.
KILL_AFTER_S = 5.0
# After a node was lost no checkpoint can be saved any longer, and LOST_AFTER_S has passed already: shorter than
# KILL_AFTER_S. Both together are shorter than the 12 s after which a run without heartbeat is lost.
KILL_LOST_AFTER_S = 2.0
# The process that started a rank records how it ended: a rank that is gone for longer has no known exit code.
EXIT_KNOWN_AFTER_S = 1.0
# A signal to a rank other than 0 waits so long for the `train` of rank 0, which stops all ranks at one step, and goes
# to the rank itself if that one is dead. Far shorter than the 30 s after which torchrun kills what it asked to end.
FORWARD_AFTER_S = 2.0
