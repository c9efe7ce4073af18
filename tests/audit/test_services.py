from __future__ import annotations

import socket
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from audit import services
from audit.folder import DataFolder
from audit.options import Front
from audit.services import Address, free
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback that something listens at."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("localhost", "http://localhost:8080"),
        ("::1", "http://[::1]:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),  # noqa: S104 - as people give it
        ("::", "http://[::1]:8080"),
    ],
)
def test_a_url_leads_to_the_address(host: str, url: str) -> None:
    """A URL names a host that can be connected to, in brackets where it is an IPv6 address."""
    assert Address(host, 8080).url == url


def test_free_ports_are_found() -> None:
    """Port 0 becomes a free port, another for each address."""
    one, two = free({"--port": Address("127.0.0.1", 0), "--publish-port": Address("127.0.0.1", 0)})

    assert one.port != two.port
    assert free({"--port": one, "--publish-port": two}) == [one, two]


def test_a_taken_port_is_an_error_with_a_remedy(taken: int) -> None:
    """A port in use is told with the option that chooses another."""
    with pytest.raises(ConfigurationError, match=rf"port {taken} of '127\.0\.0\.1' is in use: .*--publish-port$"):
        free({"--port": Address("127.0.0.1", 0), "--publish-port": Address("127.0.0.1", taken)})


def test_two_services_need_two_ports() -> None:
    """The same port for both is found out before either starts."""
    (address,) = free({"--port": Address("127.0.0.1", 0)})

    with pytest.raises(ConfigurationError, match="in use"):
        free({"--port": address, "--publish-port": address})


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "\udcff", "n" * 64])
def test_a_host_that_is_not_this_machines_is_an_error(host: str) -> None:
    """An address that can't be listened at is told as such, with the option."""
    with pytest.raises(ConfigurationError, match=r"can't listen at port 0 of .*--port"):
        free({"--port": Address(host, 0)})


def test_a_data_folder_and_addresses_reach_each_process(tmp_path: Path) -> None:
    """All are started in order, each as its own command, on this folder, where it was asked for."""
    receiver, publisher = Address("127.0.0.1", 1), Address("::1", 2)

    started = services.of_installation(DataFolder(tmp_path), receiver, publisher, public=False)

    assert [service.name for service in started] == ["receiver", "sealer", "projector", "Datasette"]
    assert [service.arguments[:4] for service in started] == [
        ("-m", "audit", command, "--supervised") for command in ("receive", "seal", "project", "publish")
    ]
    assert all(f"--data={tmp_path}" in service.arguments for service in started)
    assert {"--host=127.0.0.1", "--port=1"} <= set(started[0].arguments)
    assert {"--host=::1", "--port=2"} <= set(started[3].arguments)
    assert not any("--public" in service.arguments for service in started)


def test_what_the_receiver_is_told_reaches_it_by_variables(tmp_path: Path) -> None:
    """Its options beyond the address are set in its environment, and in no other process's."""
    front = Front(tmp_path / "c.pem", None, "192.0.2.1")
    there = Address("127.0.0.1", 1, front.tls)

    receiver, *others = services.of_installation(
        DataFolder(tmp_path), there, there, public=False, receiving=front.variables
    )

    variables = {"SIMTRAIL_TLS_CERT": str(tmp_path / "c.pem"), "SIMTRAIL_FORWARDED_ALLOW_IPS": "192.0.2.1"}
    assert receiver.environment.items() >= variables.items()
    assert "SIMTRAIL_TLS_KEY" not in receiver.environment
    assert not any(variables.keys() & other.environment.keys() for other in others)
    assert there.url == "https://127.0.0.1:1"


@pytest.mark.parametrize(("status", "ready"), [(200, True), (404, True), (500, False)])
def test_a_service_is_ready_when_it_answers(tmp_path: Path, status: int, ready: bool) -> None:  # noqa: FBT001
    """Any answer but a failure counts; a port that nobody listens at doesn't."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        address = Address("127.0.0.1", server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        receiver, _, projector, datasette = services.of_installation(
            DataFolder(tmp_path), address, address, public=True
        )
        answers = receiver.ready(), projector.ready(), datasette.ready()
        server.shutdown()
        thread.join()

    assert answers == (ready, False, ready)
    assert not receiver.ready()


def test_what_is_no_read_model_yet_is_not_ready(tmp_path: Path) -> None:
    """A read model that is only being made isn't there yet; nor is there anything to settle without a log."""
    (tmp_path / "audit.db").touch()

    _, sealer, projector, _ = services.of_installation(
        DataFolder(tmp_path), Address("::1", 1), Address("::1", 2), public=False
    )

    assert not projector.ready()
    assert projector.settled()
    assert not sealer.ready()
    assert sealer.settled()
