"""What each command takes, says and exits with, in one process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import pytest
from click.testing import CliRunner, Result

from audit import append as capture
from audit import command, projector
from audit import folder as folders
from audit.command import main
from audit.supervisor import ProcessError
from audit.verify_command import DOES_NOT_HOLD
from ingest.sources import Sources, listed
from schema.errors import ConfigurationError
from schema.log import open_to_read

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping

COMMANDS = [
    "serve",
    "receive",
    "project",
    "publish",
    "seal",
    "sources",
    "users",
    "correct",
    "rebuild",
    "asof",
    "export",
]
COMMANDS += ["status", "append", "verify", "keys", "witness", "tiles", "doctor", "log", "backup", "simulate"]


def run(*arguments: str | Path, stdin: bytes | None = None, variables: Mapping[str, str] | None = None) -> Result:
    return CliRunner(env=variables).invoke(main, [str(argument) for argument in arguments], input=stdin)


def all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, each in group.commands.items():
        yield (*path, name), each
        if isinstance(each, click.Group):
            yield from all_commands(each, (*path, name))


EVERY = dict(all_commands(main))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SIMTRAIL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one source, main."""
    assert run("sources", "add", "main", "--data", tmp_path / "data").exit_code == 0
    return tmp_path / "data"


def positions(data: Path) -> list[int]:
    with open_to_read(data / "log.db") as log:
        return [event.position for event in log.after(0)]


# What is offered.


def test_help_lists_the_commands_in_the_order_of_use() -> None:
    """What most people need comes first, each command with one line that isn't cut off."""
    shown = run("--help").stdout

    lines = shown.split("Commands:")[1].split("Exit codes:")[0].splitlines()
    assert [line.split()[0] for line in lines if line.strip()] == COMMANDS
    assert "..." not in "".join(lines)
    codes = [line.split()[0] for line in shown.split("Exit codes:")[1].splitlines() if line.strip()]
    assert codes == ["0", "1", "2", str(DOES_NOT_HOLD), "130"]


SHARED: dict[str | tuple[str, str], str] = {
    "log": "SIMTRAIL_LOG",
    "tls-cert": "SIMTRAIL_TLS_CERT",
    "tls-key": "SIMTRAIL_TLS_KEY",
    "forwarded-allow-ips": "SIMTRAIL_FORWARDED_ALLOW_IPS",
    "no-delivery-lines": "SIMTRAIL_NO_DELIVERY_LINES",
    "data": "SIMTRAIL_DATA",
    "host": "SIMTRAIL_HOST",
    "port": "SIMTRAIL_PORT",
    "base-url": "SIMTRAIL_BASE_URL",
    "url": "SIMTRAIL_URL",
    "publish-host": "SIMTRAIL_PUBLISH_HOST",
    "publish-port": "SIMTRAIL_PUBLISH_PORT",
    "public": "SIMTRAIL_PUBLIC",
    ("witness", "host"): "SIMTRAIL_WITNESS_HOST",
    ("witness", "port"): "SIMTRAIL_WITNESS_PORT",
    ("publish", "host"): "SIMTRAIL_PUBLISH_HOST",
    ("publish", "port"): "SIMTRAIL_PUBLISH_PORT",
}
"""Options that have one variable for all commands; any other has the command's name in it."""


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    """Each command's help exits with 0, names each option that isn't hidden, and each option has a text."""
    result = run(*path, "--help")

    assert result.exit_code == 0
    assert EVERY[path].help
    for parameter in EVERY[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.hidden or parameter.opts[0] in result.stdout


@pytest.mark.parametrize(
    "path", [path for path, each in EVERY.items() if not isinstance(each, click.Group)], ids=" ".join
)
def test_every_option_names_its_variable(path: tuple[str, ...]) -> None:
    """Each option that people may set can also be set by the variable that its help names."""
    shown = run(*path, "--help").stdout
    for parameter in EVERY[path].params:
        if isinstance(parameter, click.Option) and not parameter.hidden and not parameter.is_eager:
            option = parameter.opts[0].removeprefix("--")
            own = "_".join(["SIMTRAIL", *path, option]).upper().replace("-", "_")
            assert f"env var: {SHARED.get((path[0], option)) or SHARED.get(option, own)}" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("path", "setting", "parameter", "expected"),
    [
        ("serve", "SIMTRAIL_DATA=/a", "data", Path("/a")),
        ("serve", "SIMTRAIL_HOST=::1", "host", "::1"),
        ("serve", "SIMTRAIL_PORT=1", "port", 1),
        ("serve", "SIMTRAIL_PUBLISH_HOST=::1", "publish_host", "::1"),
        ("serve", "SIMTRAIL_PUBLISH_PORT=2", "publish_port", 2),
        ("serve", "SIMTRAIL_BASE_URL=https://x", "base_url", "https://x"),
        ("receive", "SIMTRAIL_PORT=1", "port", 1),
        ("receive", "SIMTRAIL_TLS_CERT=/c", "tls_cert", Path("/c")),
        ("receive", "SIMTRAIL_TLS_KEY=/k", "tls_key", Path("/k")),
        ("receive", "SIMTRAIL_FORWARDED_ALLOW_IPS=::1", "forwarded_allow_ips", "::1"),
        ("receive", "SIMTRAIL_NO_DELIVERY_LINES=1", "no_delivery_lines", True),
        ("receive", "SIMTRAIL_HOST=::1", "host", "::1"),
        ("publish", "SIMTRAIL_PUBLISH_PORT=2", "publish_port", 2),
        ("publish", "SIMTRAIL_PUBLISH_HOST=::1", "publish_host", "::1"),
        ("project", "SIMTRAIL_PROJECT_ONCE=1", "once", True),
        ("status", "SIMTRAIL_DATA=/a", "data", Path("/a")),
        ("status", "SIMTRAIL_STATUS_JSON=1", "as_json", True),
        ("doctor", "SIMTRAIL_PORT=1", "port", 1),
        ("doctor", "SIMTRAIL_DOCTOR_FULL=1", "full", True),
        ("doctor", "SIMTRAIL_DOCTOR_JSON=1", "as_json", True),
    ],
)
def test_a_setting_comes_from_its_variable(
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    setting: str,
    parameter: str,
    expected: object,
) -> None:
    """One name serves every command: the receiver's port is SIMTRAIL_PORT wherever it is asked for."""
    monkeypatch.setenv(*setting.split("=", 1))
    parent = main.make_context("simtrail", ["status"])

    context = EVERY[path,].make_context(path, [], parent=parent)

    assert context.params[parameter] == expected


def test_a_process_is_not_made_supervised_by_a_variable() -> None:
    """What serve says to its processes can't be said by accident, for it ends them with their input."""
    for path in ("receive", "project", "publish"):
        (parameter,) = [each for each in EVERY[path,].params if each.name == "supervised"]
        assert isinstance(parameter, click.Option)
        assert not parameter.allow_from_autoenv


def test_the_version_is_the_installed_one() -> None:
    """--version names the command and its version, whatever variables say."""
    try:
        version = metadata.version("simtrail")
    except metadata.PackageNotFoundError:
        pytest.skip("simtrail isn't installed in this environment")

    result = run("--version", variables={"SIMTRAIL_VERSION": "7"})

    assert (result.exit_code, result.stdout.split()) == (0, ["simtrail", version])


def test_a_variable_does_not_ask_for_the_version(tmp_path: Path) -> None:
    """A variable SIMTRAIL_VERSION, which an image may well set, changes nothing."""
    assert run("status", "--data", tmp_path, variables={"SIMTRAIL_VERSION": "1.2"}).exit_code == 0


# How errors are told.


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("status", "--nosuch"),
        ("serve", "--port", "65536"),
        ("append",),
        ("append", "nosuch.json"),
        ("append", "--format", "xml", __file__),
        ("sources", "add"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    """What can't be understood is usage, told apart from what can't be done."""
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("doctor",),
        ("backup", "copy"),
        ("append", __file__),
        ("project",),
        ("project", "--once"),
        ("publish",),
        ("sources", "list"),
        ("sources", "rotate", "main"),
        ("sources", "remove", "main"),
        ("sources", "allow", "main", "192.0.2.7"),
        ("sources", "limit", "main", "5"),
    ],
    ids=" ".join,
)
def test_a_missing_folder_is_one_line_with_a_remedy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A command that needs a data folder says that there is none, in one line, and makes none."""
    result = run(*arguments, "--data", tmp_path / "none")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: there is no data folder")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("sources", "rotate", "nosuch"),
        ("sources", "remove", "nosuch"),
        ("sources", "remove", "main", "--secret", "0"),
        ("sources", "allow", "nosuch", "192.0.2.7"),
        ("sources", "allow", "main", "192.0.2.7/8"),
        ("sources", "limit", "nosuch", "5"),
        ("sources", "add", "main"),
        ("sources", "add", "../x"),
        ("append", "--source", "nosuch", __file__),
        ("append", "--format", "json", __file__),
        ("project", "--once"),
        ("publish", "--port", "0"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_one_line_and_1(data: Path, arguments: tuple[str, ...]) -> None:
    """An error is told in one line on standard error, without a traceback."""
    result = run(*arguments, "--data", data)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_exits_with_130(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command cut short by Ctrl-C says so by its exit code, without a traceback."""

    def interrupted(_folder: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "status_of", interrupted)

    result = run("status", "--data", data)

    assert (result.exit_code, result.output) == (130, "\n")


# serve, but for its processes.


def serve(data: Path, *options: str, variables: Mapping[str, str] | None = None) -> Result:
    return run("serve", "--data", data, "--port", "0", "--publish-port", "0", *options, variables=variables)


@pytest.mark.parametrize(
    ("options", "variables"),
    [(["--base-url", "https://a.example/in/"], {}), ([], {"SIMTRAIL_BASE_URL": "https://a.example/in"})],
)
def test_serve_prints_the_urls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    variables: dict[str, str],
) -> None:
    """When all answer, standard output has the two URLs, labelled, each whole on its line, and nothing else."""
    monkeypatch.setattr(command, "supervise", lambda _services, announce: announce())

    result = serve(tmp_path, *options, variables=variables)

    webhook, datasette = result.stdout.splitlines()
    label, _, url = webhook.partition(": ")
    assert label == "Webhook URL"
    assert url.startswith("https://a.example/in/webhooks/main/")
    assert Sources(tmp_path / "sources.json").authenticate("main", url.rsplit("/", 1)[1])
    assert re.fullmatch(r"Datasette URL: http://127\.0\.0\.1:\d+/", datasette)
    assert url not in result.stderr


def test_serve_starts_again_without_a_secret(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are sources none is made; as secrets aren't kept, the way to a new one is shown instead."""
    monkeypatch.setattr(command, "supervise", lambda _services, announce: announce())
    run("sources", "add", "second", "--data", data)

    result = serve(data)

    assert re.search(
        rf"^Webhook URL: .* simtrail sources rotate main --data {data} --base-url http://127\.0\.0\.1:\d+$",
        result.stdout,
        re.MULTILINE,
    )
    assert [source.name for source in listed(data / "sources.json")] == ["main", "second"]


def test_a_failed_first_start_leaves_no_source_that_nobody_knows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A secret that was never shown doesn't stay, so that the next start shows one."""

    def fail(*_: object) -> None:
        msg = "the receiver ended"
        raise ProcessError(msg)

    monkeypatch.setattr(command, "supervise", fail)

    assert serve(tmp_path).exit_code == 1
    assert listed(tmp_path / "sources.json") == ()


def test_serve_refuses_a_port_in_use(tmp_path: Path) -> None:
    """A taken port is told in one line that names the option, and no source is made for nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        result = run("serve", "--data", tmp_path, "--port", "0", "--publish-port", port)

    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: port {port} of '127.0.0.1' is in use: stop what uses it, or choose another with --publish-port\n"
    )
    assert listed(tmp_path / "sources.json") == ()


@pytest.mark.parametrize("role", folders.ROLES)
def test_serve_refuses_a_folder_at_work(tmp_path: Path, role: folders.Role) -> None:
    """A second serve on a folder is told in one line who is at work in it."""
    with folders.hold(folders.DataFolder(tmp_path), role):
        result = serve(tmp_path)

    assert result.exit_code == 1
    assert f"another {role} (process {os.getpid()}) is at work in the data folder {tmp_path}" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "role"), [("receive", "receiver"), ("project", "projector")])
def test_a_process_of_its_own_refuses_a_folder_at_work(data: Path, name: str, role: folders.Role) -> None:
    """Each process alone holds its role, so a second one is refused."""
    with folders.hold(folders.DataFolder(data), role):
        result = run(name, "--data", data)

    assert result.exit_code == 1
    assert f"another {role}" in result.stderr


def test_a_source_is_held_to_addresses_and_a_rate(tmp_path: Path) -> None:
    """What is set is listed, and can be taken back."""
    data = ("--data", tmp_path)
    run("sources", "add", "main", *data)

    assert run("sources", "allow", "main", "192.0.2.7", "2001:db8::/32", *data).stderr == (
        "main may deliver from 192.0.2.7, 2001:db8::/32.\n"
    )
    assert run("sources", "limit", "main", "50", *data).stderr == "main may deliver 50 times a second.\n"
    shown = run("sources", "list", *data).stdout
    assert shown.endswith("\tfrom 192.0.2.7/32, 2001:db8::/32\tat most 50 a second\n")
    assert run("sources", "allow", "main", *data).stderr == "main may deliver from anywhere.\n"
    assert run("sources", "limit", "main", "0", *data).stderr == "main may deliver at any rate.\n"
    assert "\tfrom " not in run("sources", "list", *data).stdout


@pytest.mark.parametrize("name", ["serve", "receive", "sources add x"])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, name: str) -> None:
    """Where no data folder can be, one line says so."""
    (tmp_path / "file").touch()

    result = run(*name.split(), "--data", tmp_path / "file" / "data")

    assert result.exit_code == 1
    assert "--data" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["serve", "project"])
def test_a_configuration_that_cannot_be_used_is_refused(data: Path, name: str) -> None:
    """A broken simtrail.toml is told before anything starts."""
    (data / "simtrail.toml").write_text("= nonsense")

    result = run(name, "--data", data)

    assert result.exit_code == 1
    assert "simtrail.toml" in result.stderr


# sources.


def test_a_webhook_url_is_where_the_receiver_is_at_work(tmp_path: Path) -> None:
    """What is said counts first; one that has ended counts no more."""
    folder = folders.create(tmp_path / "data")

    def front(*command: str) -> str:
        told = run("sources", *command, "--data", folder.path)
        url = told.stdout.partition("/webhooks/")[0]
        guesses.append(f"so {url} is a guess: say with --base-url, or --host and --port," in told.stderr)
        return url

    guesses: list[bool] = []
    assert front("add", "one") == "http://127.0.0.1:8080"
    with folders.hold_to_append(folder):
        assert front("add", "two") == "http://127.0.0.1:8080"
        folders.tell_receiving(folder, "https://192.0.2.1:9443")
        assert front("add", "three") == front("rotate", "one") == "https://192.0.2.1:9443"
        assert front("add", "four", "--port", "81") == "http://127.0.0.1:81"
        assert front("add", "five", "--base-url", "https://in.example") == "https://in.example"
        with pytest.raises(ConfigurationError, match=rf"another receiver \(process {os.getpid()}\) is at work"):
            folders.require_free(folder, "receiver")
    assert front("add", "six") == "http://127.0.0.1:8080"
    assert guesses == [True, True, False, False, False, False, True]


def test_add_prints_the_webhook_url_alone(tmp_path: Path) -> None:
    """A source's first URL is all of standard output, leads to the receiver's default place, and lets in."""
    result = run("sources", "add", "main", "--data", tmp_path)

    url = urlsplit(result.stdout.rstrip("\n"))
    _, webhooks, name, secret = url.path.split("/")
    assert (url.scheme, url.netloc, webhooks, name) == ("http", "127.0.0.1:8080", "webhooks", "main")
    assert Sources(tmp_path / "sources.json").authenticate("main", secret)
    assert result.stdout.count("\n") == 1
    assert secret not in result.stderr


@pytest.mark.parametrize("verb", ["add", "rotate"])
@pytest.mark.parametrize(
    ("options", "variables", "front"),
    [
        (("--base-url", "https://a.example/in/"), {}, "https://a.example/in"),
        (("--host", "::1", "--port", "9"), {}, "http://[::1]:9"),
        ((), {"SIMTRAIL_BASE_URL": "https://b.example"}, "https://b.example"),
        ((), {"SIMTRAIL_HOST": "10.0.0.1", "SIMTRAIL_PORT": "99"}, "http://10.0.0.1:99"),
    ],
)
def test_a_webhook_url_has_the_front_asked_for(
    data: Path,
    verb: str,
    options: tuple[str, ...],
    variables: dict[str, str],
    front: str,
) -> None:
    """The URL begins as the platform has to call it, by option or by variable."""
    name = {"add": "another", "rotate": "main"}[verb]

    result = run("sources", verb, name, "--data", data, *options, variables=variables)

    assert result.stdout.startswith(f"{front}/webhooks/{name}/")


def test_rotate_keeps_the_old_secret_until_it_is_removed(data: Path) -> None:
    """After a rotation both URLs let in, until the old secret is removed by its id."""
    new = run("sources", "rotate", "main", "--data", data).stdout.rsplit("/", 1)[1].strip()
    (source,) = listed(data / "sources.json")
    assert len(source.secrets) == 2

    removed = run("sources", "remove", "main", "--secret", source.secrets[0].id, "--data", data)

    assert (removed.exit_code, removed.stdout) == (0, "")
    assert [kept.id for kept in listed(data / "sources.json")[0].secrets] == [source.secrets[1].id]
    assert Sources(data / "sources.json").authenticate("main", new)


def test_rotate_can_end_the_old_secrets_at_once(data: Path) -> None:
    """After a leak only the new URL lets in."""
    run("sources", "rotate", "main", "--drop-old", "--data", data)

    assert len(listed(data / "sources.json")[0].secrets) == 1


def test_remove_removes_the_source(data: Path) -> None:
    """A removed source is no longer listed."""
    result = run("sources", "remove", "main", "--data", data)

    assert (result.exit_code, result.stdout) == (0, "")
    assert listed(data / "sources.json") == ()


def test_list_names_sources_and_secrets_by_their_ids(data: Path) -> None:
    """Both forms of the list tell names, times and ids, and nothing that lets in."""
    (source,) = listed(data / "sources.json")
    (secret,) = source.secrets

    as_json = json.loads(run("sources", "list", "--json", "--data", data).stdout)
    as_text = run("sources", "list", "--data", data).stdout

    assert as_json == [
        {
            "name": "main",
            "added_at": source.added_at,
            "secrets": [{"id": secret.id, "added_at": secret.added_at}],
            "networks": [],
            "per_second": 0,
        },
    ]
    assert as_text == f"main\tadded {source.added_at}\tsecrets {secret.id}\n"
    assert secret.sha256 not in as_text


def test_list_of_nothing(tmp_path: Path) -> None:
    """Without sources the list is empty, in both forms."""
    assert run("sources", "list", "--data", tmp_path).stdout == ""
    assert (
        json.loads(run("sources", "list", "--data", tmp_path, variables={"SIMTRAIL_SOURCES_LIST_JSON": "1"}).stdout)
        == []
    )


# append.


def test_append_records_files_and_prints_positions(data: Path, tmp_path: Path) -> None:
    """Each body of each file, in order, becomes an event of the source; its position is printed with the file's name."""
    (tmp_path / "a.json").write_bytes(b'{"a": 1}\n')
    (tmp_path / "b.ndjson").write_bytes(b'{"b":1}\n{"b":2}\n')
    (tmp_path / "c.txt").write_bytes(b"\x00\xff")
    run("sources", "add", "second", "--data", data)

    result = run(
        "append", "--source", "second", "--data", data, *(tmp_path / name for name in ("a.json", "b.ndjson", "c.txt")),
    )  # fmt: skip

    assert result.stdout == "1\ta.json\n2\tb.ndjson\n3\tb.ndjson\n4\tc.txt\n"
    with open_to_read(data / "log.db") as log:
        deliveries = [event.delivery for event in log.after(0)]
    assert [delivery.body for delivery in deliveries] == [b'{"a": 1}\n', b'{"b":1}', b'{"b":2}', b"\x00\xff"]
    assert {delivery.source for delivery in deliveries} == {"second"}


@pytest.mark.parametrize(("form", "bodies"), [(None, 1), ("raw", 1), ("ndjson", 2)])
def test_append_takes_standard_input(data: Path, form: str | None, bodies: int) -> None:
    """A hyphen is standard input, raw unless the format says otherwise."""
    options = ["--format", form] if form else []

    result = run("append", "-", *options, "--data", data, stdin=b"1\n2\n")

    assert result.stdout == "".join(f"{n}\t-\n" for n in range(1, bodies + 1))


def test_append_takes_its_options_from_variables(data: Path, tmp_path: Path) -> None:
    """Source and format can be set by variables."""
    (tmp_path / "a.json").write_bytes(b"not json")

    variables = {"SIMTRAIL_APPEND_FORMAT": "raw", "SIMTRAIL_APPEND_SOURCE": "main"}
    result = run("append", tmp_path / "a.json", "--data", data, variables=variables)

    assert result.stdout == "1\ta.json\n"


def test_append_tells_what_was_recorded_before_an_error(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Positions printed are in the log even where a later body is refused, and no others are."""
    monkeypatch.setattr(capture, "GROUP_DELIVERIES", 1)
    (tmp_path / "a.jsonl").write_bytes(b"1\n{\n")

    result = run("append", tmp_path / "a.jsonl", "--data", data)

    assert (result.exit_code, result.stdout) == (1, "1\ta.jsonl\n")
    assert "a.jsonl, line 2, is not JSON" in result.stderr
    assert positions(data) == [1]


# project and status.


def test_status_tells_the_same_as_text_and_as_json(data: Path, tmp_path: Path) -> None:
    """Both forms tell the documented keys, in their order."""
    (tmp_path / "a.json").write_bytes(b"{}")
    run("append", tmp_path / "a.json", "--data", data)

    as_json = json.loads(run("status", "--json", "--data", data).stdout)
    as_text = run("status", "--data", data).stdout

    assert list(as_json) == [
        "head", "projected", "lag", "standstill", "sources", "deliveries", "quarantine", "last_received_at", "sealed", "refusals",
    ]  # fmt: skip
    assert as_json["sources"] == ["main"]
    assert as_json["lag"] == 1
    assert [line.split()[-1] for line in as_text.splitlines()] == [
        "1", "0", "1", "none", "main", "0", "0", as_json["last_received_at"], "0", "none",
    ]  # fmt: skip
    documented = run("status", "--help").stdout
    assert all(f"\n  {key} " in documented for key in as_json)


def test_status_of_an_empty_folder(tmp_path: Path) -> None:
    """An empty folder is told as zeros and nothing, not as an error."""
    shown = [line.split()[-1] for line in run("status", "--data", tmp_path).stdout.splitlines()]

    assert shown == ["0", "0", "0", "none", "none", "0", "0", "none", "0", "none"]


def test_project_once_brings_the_read_model_up_to_the_log(data: Path, tmp_path: Path) -> None:
    """Once, the projector takes in all that is recorded, says how far it got, and ends."""
    (tmp_path / "a.jsonl").write_bytes(b"{}\n" * 3)
    run("append", tmp_path / "a.jsonl", "--data", data)

    result = run("project", "--once", "--data", data)

    assert (result.exit_code, result.output) == (0, "The read model is at position 3.\n")
    assert json.loads(run("status", "--json", "--data", data).stdout)["lag"] == 0


@pytest.mark.parametrize(
    ("options", "number", "code"),
    [
        (["--once"], signal.SIGINT, 130),
        (["--once"], signal.SIGTERM, 143),
        ([], signal.SIGINT, 0),
        ([], signal.SIGTERM, 0),
    ],
)
def test_project_stops_after_the_batch_under_way(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    number: signal.Signals,
    code: int,
) -> None:
    """A signal cuts --once short and says so; it is how following ends. Either way the batch under way is finished."""

    def follow(*_: object, stop: threading.Event, **__: object) -> int:
        os.kill(os.getpid(), number)
        assert stop.wait(30)
        return 7

    monkeypatch.setattr(projector, "follow", follow)
    before = signal.getsignal(number)

    result = run("project", *options, "--data", data)

    assert (result.exit_code, result.output) == (code, "The read model is at position 7.\n")
    assert signal.getsignal(number) is before


def test_every_command_that_opens_the_log_takes_its_place() -> None:
    """A command with --data has --log too, unless it opens no log."""
    without = {("simulate",), *(path for path in EVERY if path[0] in {"sources", "users", "keys", "witness"})}
    taking = {path for path, each in EVERY.items() if "--log" in {name for p in each.params for name in p.opts}}
    folders = {path for path, each in EVERY.items() if "--data" in {name for p in each.params for name in p.opts}}
    assert taking - {("log", "init")} == folders - without


def test_a_log_that_is_no_place_is_wrong_usage(data: Path) -> None:
    """The option says which places there are, and repeats no password."""
    result = run("status", "--data", data, "--log", "mysql://u:geheim@h/d")
    assert result.exit_code == 2
    assert "sqlite:///PATH" in result.output
    assert "geheim" not in result.output


def test_a_log_may_be_a_file_elsewhere(data: Path, tmp_path: Path) -> None:
    """Appended to, projected and told of where --log says, in the environment too; and not made in the folder."""
    body = tmp_path / "body.json"
    body.write_bytes(b"{}")
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    assert run("append", body, "--data", data, "--log", elsewhere).exit_code == 0
    assert run("project", "--once", "--data", data, variables={"SIMTRAIL_LOG": elsewhere}).exit_code == 0
    assert json.loads(run("status", "--json", "--data", data, "--log", elsewhere).stdout)["projected"] == 1
    assert not (data / "log.db").exists()
