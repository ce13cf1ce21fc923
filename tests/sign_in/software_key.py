"""An authenticator in software, for tests that sign messages which a browser would refuse to sign."""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256
from fido2.utils import websafe_encode

PRESENT, VERIFIED, NEW = 0x01, 0x04, 0x40


class SoftwareKey:
    """One key pair for one host. `answer` and `sign` return what a browser sends; keywords change single parts."""

    def __init__(self, host: str, origin: str) -> None:
        self.host, self.origin = host, origin
        self.number = secrets.token_bytes(16)
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.handle = ""

    def register(self, options: dict[str, Any], **changed: Any) -> dict[str, Any]:
        asked = options["publicKey"]
        self.handle = asked["user"]["id"]
        public = cbor.encode(dict(ES256.from_cryptography_key(self.private.public_key())))
        credential = bytes(16) + struct.pack(">H", len(self.number)) + self.number + public
        data = self._data(NEW | changed.pop("flags", PRESENT | VERIFIED)) + credential
        attestation = cbor.encode({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._client({"type": "webauthn.create", "challenge": asked["challenge"]} | changed)
        response = {"clientDataJSON": websafe_encode(client), "attestationObject": websafe_encode(attestation)}
        return self._credential(response) | {"clientExtensionResults": {"credProps": {"rk": True}}}

    def sign(self, options: dict[str, Any], **changed: Any) -> dict[str, Any]:
        data = self._data(changed.pop("flags", PRESENT | VERIFIED))
        handle = changed.pop("handle", self.handle)
        client = self._client({"type": "webauthn.get", "challenge": options["publicKey"]["challenge"]} | changed)
        signature = self.private.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        parts = {"clientDataJSON": client, "authenticatorData": data, "signature": signature}
        encoded: dict[str, Any] = {name: websafe_encode(part) for name, part in parts.items()}
        return self._credential(encoded | {"userHandle": handle})

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.host.encode()).digest() + struct.pack(">BI", flags, 0)

    def _client(self, told: dict[str, Any]) -> bytes:
        return json.dumps({"origin": self.origin, "crossOrigin": False} | told).encode()

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        number = websafe_encode(self.number)
        return {
            "id": number, "rawId": number, "type": "public-key", "response": response, "clientExtensionResults": {},
        }  # fmt: skip
