from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from audit import supervisor
from audit.supervisor import ProcessError, Service, supervise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Each writes its name to a file when it is up, and again, in capitals, when told to stop. The signal is blocked before
# that, and waited for: a handler would note one that comes just before a pause, and the pause sleep through it.
CHILD = """
import signal, sys
name, path = sys.argv[1:]
def say(word):
    with open(path, "a") as file:
        print(word, file=file)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
say(name)
while True:
    signal.sigwait({signal.SIGTERM})
    say(name.upper())
    sys.exit(0)
"""

STUBBORN = CHILD.replace("    sys.exit(0)\n", "")


def stop_this() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stop_instead() -> bool:
    stop_this()
    return False


class Children:
    """Services that run the scripts above, and what they have written."""

    def __init__(self, path: Path) -> None:
        self._path = path / "said"
        self._path.touch()

    def said(self) -> list[str]:
        """What they have written so far, in order."""
        return self._path.read_text().split()

    def service(
        self,
        name: str,
        script: str = CHILD,
        settled: Callable[[], bool] = lambda: True,
    ) -> Service:
        """A service of that name."""
        arguments = ("-c", script, name, str(self._path))
        return Service(name, arguments, ready=lambda: name in self.said(), settled=settled)


@pytest.fixture
def children(tmp_path: Path) -> Children:
    return Children(tmp_path)


def test_services_start_and_stop_in_order(children: Children) -> None:
    """Each starts once the one before is ready, and each stops once the one before has."""
    supervise([children.service(name) for name in ("one", "two", "three")], announce=stop_this)

    assert children.said() == ["one", "two", "three", "ONE", "TWO", "THREE"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_stops(children: Children, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM stop all; afterwards the signals have the handlers they had."""
    before = signal.getsignal(number)

    supervise([children.service("one")], announce=lambda: os.kill(os.getpid(), number))

    assert children.said() == ["one", "ONE"]
    assert signal.getsignal(number) is before


def test_a_signal_during_the_start_stops_what_has_started(children: Children) -> None:
    """Asked to stop before all are ready, nothing more starts and nothing is announced."""
    never = Service("two", children.service("two").arguments, ready=stop_instead)

    supervise([children.service("one"), never, children.service("three")], announce=pytest.fail)

    assert "ONE" in children.said()
    assert "three" not in children.said()


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("import os; os.kill(os.getpid(), 9)", r"was ended by signal 9 \(Killed\)"),
        ("raise SystemExit(3)", "ended with status 3"),
        ("pass", "ended with status 0"),
    ],
)
def test_a_service_that_ends_by_itself_is_named_and_the_others_stop(
    children: Children,
    capfd: pytest.CaptureFixture[str],
    script: str,
    end: str,
) -> None:
    """However a process ends unasked, that is an error that names it, once, and no other is left."""
    doomed = Service("two", ("-c", script), ready=lambda: True)

    with pytest.raises(ProcessError, match=f"the two {end} by itself"):
        supervise([children.service("one"), doomed], announce=lambda: None)

    assert children.said() == ["one", "ONE"]
    assert capfd.readouterr().err == ""


def test_trouble_while_the_others_stop_is_told_too(children: Children, capfd: pytest.CaptureFixture[str]) -> None:
    """Where another one stops badly because of the first, both are named, the first as the cause."""
    bad = children.service("one", CHILD.replace("sys.exit(0)", "sys.exit(4)"))
    doomed = Service("two", ("-c", "raise SystemExit(3)"), ready=lambda: True)

    with pytest.raises(ProcessError, match="the two ended with status 3 by itself"):
        supervise([bad, doomed], announce=lambda: None)

    assert capfd.readouterr().err == "While stopping, the one ended with status 4 while it stopped.\n"


def test_a_service_that_never_gets_ready_is_noticed_when_it_ends(children: Children) -> None:
    """A process that ends before it is ready fails the start, and those after it never start."""
    doomed = Service("two", ("-c", "raise SystemExit(1)"), ready=lambda: False)

    with pytest.raises(ProcessError, match="the two ended with status 1"):
        supervise([children.service("one"), doomed, children.service("three")], announce=pytest.fail)

    assert children.said() == ["one", "ONE"]


def test_a_slow_start_is_explained(
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A start that takes long is waited for, and said so once, by name."""
    monkeypatch.setattr(supervisor, "PATIENCE_S", 0)
    looks = iter([False, False, False, True])
    slow = Service("one", children.service("one").arguments, ready=lambda: next(looks))

    supervise([slow], announce=stop_this)

    assert capfd.readouterr().err.count("Still waiting for the one to be ready.") == 1


def test_a_service_may_settle_before_it_stops(children: Children) -> None:
    """One that still has something to finish isn't told to stop until it has."""
    seen: list[list[str]] = []

    def settled() -> bool:
        seen.append(children.said())
        return len(seen) == 3

    supervise([children.service("one"), children.service("two", settled=settled)], announce=stop_this)

    assert seen == [["one", "two", "ONE"]] * 3
    assert children.said()[-1] == "TWO"


def test_a_service_that_never_settles_is_stopped_all_the_same(
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a process would still like to finish delays the stop for a bounded time only."""
    monkeypatch.setattr(supervisor, "SETTLE_S", 0)

    supervise([children.service("one", settled=lambda: False)], announce=stop_this)

    assert children.said() == ["one", "ONE"]


def test_a_service_that_does_not_stop_is_killed_and_named(
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process deaf to SIGTERM is killed after its time; the others stop as ever, and the error names it."""
    monkeypatch.setattr(supervisor, "STOP_S", 0.5)

    with pytest.raises(ProcessError, match=r"^the one had not stopped yet and was killed$"):
        supervise([children.service("one", STUBBORN), children.service("two")], announce=stop_this)

    assert children.said()[-1] == "TWO"


def test_a_service_that_stops_badly_is_named(children: Children) -> None:
    """A process that ends with an error when told to stop makes the stop an error."""
    script = CHILD.replace("sys.exit(0)", "sys.exit(4)")

    with pytest.raises(ProcessError, match="the one ended with status 4 while it stopped"):
        supervise([children.service("one", script)], announce=stop_this)


def test_a_second_signal_kills(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks again need not wait, neither for what is left to finish nor for the stop: what is left is killed."""
    monkeypatch.setattr(supervisor, "HURRY_AFTER_S", 0)
    looks = []

    def settled() -> bool:
        looks.append(True)
        return stop_instead()

    with pytest.raises(ProcessError, match="the one had not stopped yet and was killed"):
        supervise([children.service("one", STUBBORN, settled=settled)], announce=stop_this)

    assert len(looks) == 2


def test_an_echo_of_the_first_signal_kills_nothing(children: Children) -> None:
    """A signal that arrives twice at once stops as one does."""

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        stop_this()

    supervise([children.service("one"), children.service("two")], announce=twice)

    assert children.said() == ["one", "two", "ONE", "TWO"]


def test_a_process_has_a_session_of_its_own_and_leaves_standard_output_alone(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C in the terminal reaches the supervisor alone, and standard output is for its own words."""
    script = f"import os, signal; print(os.getsid(0), flush=True); open({str(tmp_path / 'up')!r}, 'w'); signal.pause()"

    supervise([Service("one", ("-c", script), ready=(tmp_path / "up").exists)], announce=stop_this)

    out, err = capfd.readouterr()
    assert out == ""
    assert int(err) != os.getsid(0)


@pytest.mark.parametrize(
    ("disposition", "ended_by"),
    [("SIG_DFL", signal.SIGTERM), ("SIG_IGN", signal.SIGKILL)],
)
def test_a_supervised_process_ends_when_its_supervisor_is_gone(
    environment: dict[str, str],
    disposition: str,
    ended_by: signal.Signals,
) -> None:
    """The end of standard input ends a supervised process, if need be by SIGKILL."""
    script = f"""
import signal
from audit import supervisor
supervisor.SETTLE_S = 0
signal.signal(signal.SIGTERM, signal.{disposition})
supervisor.end_with_supervisor()
while True:
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        try:
            assert process.wait(30) == -ended_by
        finally:
            process.kill()
