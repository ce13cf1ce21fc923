"""Redis over TLS with a private authority, named in the address."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitor_site.serving.embedded_server import find_server
from tests.repository.test_docker import listens
from tests.support.stack import Stack, free_port, wait_for
from tests.support.tls.certificate import write_certificate

THERE_AND_BACK = """
import asyncio
from channels.layers import get_channel_layer
async def there_and_back():
    layer = get_channel_layer()
    name = await layer.new_channel()
    await layer.send(name, {"type": "heard"})
    print((await asyncio.wait_for(layer.receive(name), 60))["type"])
asyncio.run(there_and_back())
"""


@contextmanager
def redis_over_tls(certificate: Path) -> Iterator[int]:
    """Run a server behind a TLS proxy, because the bundled server does not support TLS; yield the port of the proxy."""
    inside, outside = free_port(), free_port()
    server = subprocess.Popen([str(find_server().path), "--port", str(inside), "--bind", "127.0.0.1", "--save", ""],
                              stdout=subprocess.DEVNULL)  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "fullchain.pem", certificate / "privkey.pem")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", inside)
        await asyncio.gather(pass_on(reader, there_writer), pass_on(there_reader, writer), return_exceptions=True)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.start_server(connected, "127.0.0.1", outside, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        wait_for(lambda: listens(inside), "the server")
        yield outside
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.kill()
        server.wait()


def test_the_authority_of_its_certificate_is_named_in_the_address(tmp_path: Path) -> None:
    certificate = tmp_path / "ssl"
    write_certificate(certificate, "localhost")
    with redis_over_tls(certificate) as port, Stack() as stack:
        stack.migrate()
        address = f"rediss://localhost:{port}/0"
        for named, heard in ((f"{address}?ssl_ca_certs={certificate}/fullchain.pem", True), (address, False)):
            stack.environment["STEERSMAN_REDIS_URL"] = named
            told = stack.manage("shell", "-v", "0", "-c", THERE_AND_BACK, check=False)
            assert (told.stdout.strip() == "heard") == heard, told.stderr
            looked = stack.manage("doctor", check=False)
            assert ("certificate verify failed" not in looked.stdout) == heard, looked.stdout
