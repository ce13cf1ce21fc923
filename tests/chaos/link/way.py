"""The connection between a host side and its record side, which cuts, delays, repeats and reorders messages."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from steersman.messages.orders import Post
from steersman.wire.codec import decode
from steersman.wire.framing import Frames, framed

FAULTS = ("cut", "delayed", "repeated", "reordered", "old message")
CHANCE_OF_A_FAULT = 0.2
LONGEST_DELAY_S = 0.2
# If no other message arrives, a delayed one is sent after this time.
HELD_S = 0.1
KEPT_MESSAGES = 200


class Way:
    """Listens at `front` for host sides, and connects each of them to the record side at `behind`."""

    def __init__(self, front: Path, behind: Path, rng: random.Random) -> None:
        self.faults: Counter[str] = Counter()
        self.messages = 0
        self.late_posts = 0
        self.is_faulty = True
        self._behind = str(behind)
        self._rng = rng
        self._lock = threading.Lock()
        self._sent: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(front))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                host, _ = self._listener.accept()
                record = socket.socket(socket.AF_UNIX)
                try:
                    record.connect(self._behind)
                except OSError:
                    host.close()
                    continue
                for source, to, is_report in ((host, record, True), (record, host, False)):
                    threading.Thread(target=self._carry, args=(source, to, is_report), daemon=True).start()

    def _carry(self, source: socket.socket, to: socket.socket, from_host: bool) -> None:
        frames, held = Frames(), b""
        with suppress(OSError):
            source.settimeout(HELD_S)
            while True:
                try:
                    data = source.recv(1 << 18)
                except TimeoutError:
                    to.sendall(held)
                    held = b""
                    continue
                if not data:
                    break
                for message in frames.take(data):
                    held = self._pass(message, held, to, from_host)
        # Both directions end together.
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pass(self, message: bytes, held: bytes, to: socket.socket, from_host: bool) -> bytes:
        """Send a message, and a delayed one before or after it; return the one that is delayed now."""
        fault = self._note(message, from_host)
        whole = framed(message)
        match fault:
            case "cut":
                raise OSError("cut")
            case "delayed":
                time.sleep(self._rng.uniform(0, LONGEST_DELAY_S))
            case "repeated":
                whole *= 2
            case "reordered" if not held:
                return whole
            case "old message" if from_host:
                whole = framed(self._rng.choice(self._sent)) + whole
        to.sendall(whole + held)
        return b""

    def _note(self, message: bytes, from_host: bool) -> str:
        """Count a message; return the fault that it gets, "" if none."""
        with self._lock:
            self.messages += 1
            if from_host:
                self._sent = [*self._sent[-KEPT_MESSAGES:], message]
            else:
                found = decode(message)
                is_timed = isinstance(found, Post) and found.expires_in_s is not None
                self.late_posts += is_timed and found.expires_in_s <= 0
            if not self.is_faulty or self._rng.random() >= CHANCE_OF_A_FAULT:
                return ""
            fault = self._rng.choice(FAULTS if from_host else FAULTS[:-1])
            self.faults[fault] += 1
            return fault
