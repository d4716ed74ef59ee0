"""Many visitors of the page at once, over its websocket: errors, seconds of a slider, growth of the server's memory.

    python benchmarks/visitors.py [--visitors 50] [--minutes 10] [--think 10 30]

A visitor (Locust's) opens the comparison, moves one of its sliders to another place, reads for some seconds, moves the next, and
looks at another page now and then. A change counts from the message that the slider sends to the end of the script's run, with
all that it sends to the browser; it waits for its turn among those of the others. The scenario of each visitor drifts from those
of the others, so that answers are computed, not found. On a machine that does other work too, the CPU seconds an answer tell more
than its seconds. Memory is that of the server and its workers, at the end of the first fifth
of the time and at the end. Needs the extra ``load``: ``make load``.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from locust import User, between, events, task  # first: it makes sockets and threads those of gevent
from locust.env import Environment
from locust.exception import StopUser

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import browser as b
import gevent
import psutil
import websocket
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

PAGES = ("ask", "memory", "run", "serving", "roofline", "explore", "evidence", "compare")
LONGEST_S = 60.0
"""Of one answer; a browser's user has left by then."""
DONE = ForwardMsg.ScriptFinishedStatus.Value("FINISHED_SUCCESSFULLY")


class Visitor(User):
    """One browser: a session of its own."""

    def on_start(self) -> None:
        """Come to the comparison."""
        address = str(self.host).replace("http", "ws", 1)
        self.moved: dict[str, WidgetState] = {}
        self.sliders: dict[str, Any] = {}
        self.pages: dict[str, str] = {}
        self.query = ""
        self.at = "compare"
        try:
            self.socket = websocket.create_connection(
                f"{address}/_stcore/stream", subprotocols=["streamlit"], origin=str(self.host), timeout=LONGEST_S
            )
        except (OSError, websocket.WebSocketException) as error:
            self.told("connection", time.perf_counter(), error)
            raise StopUser from error
        self.ask("first page")

    def on_stop(self) -> None:
        """Leave."""
        if hasattr(self, "socket"):
            self.socket.close()

    @task(6)
    def move(self) -> None:
        """Another place for one slider of the page."""
        if not self.sliders:
            self.look()
            return
        slider = random.choice(list(self.sliders.values()))
        state = WidgetState(id=slider.id)
        now = list(self.moved[slider.id].string_array_value.data if slider.id in self.moved else slider.raw_value)
        state.string_array_value.data.append(random.choice([o for o in slider.options if [o] != now] or list(slider.options)))
        self.moved[slider.id] = state
        self.ask(f"slider on {self.at}")

    @task(1)
    def look(self) -> None:
        """Another page."""
        self.at = random.choice([page for page in PAGES if page != self.at])
        self.moved.clear()
        self.ask(f"page {self.at}")

    def ask(self, name: str) -> None:
        """Run the script and read what comes until it has ended; Locust counts seconds and errors."""
        message = BackMsg()
        run = message.rerun_script
        run.query_string = self.query
        if self.at in self.pages:
            run.page_script_hash = self.pages[self.at]
        else:
            run.page_name = self.at
        run.widget_states.widgets.extend(self.moved.values())
        since = time.perf_counter()
        try:
            self.socket.send_binary(message.SerializeToString())
            wrong = self.read(since)
        except (OSError, websocket.WebSocketException) as error:
            wrong = error
        self.told(name, since, wrong)
        if isinstance(wrong, OSError | websocket.WebSocketException):
            raise StopUser

    def read(self, since: float) -> Exception | None:
        """Take the answer in; what is wrong on it."""
        wrong: Exception | None = None
        while time.perf_counter() - since < LONGEST_S:
            message = ForwardMsg()
            message.ParseFromString(self.socket.recv())
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.sliders.clear()
            elif kind == "navigation":
                self.pages = {page.url_pathname: page.page_script_hash for page in message.navigation.app_pages}
            elif kind == "page_info_changed":
                self.query = message.page_info_changed.query_string
            elif kind == "delta":
                wrong = self.shown(message.delta.new_element) or wrong
            elif kind == "script_finished" and message.script_finished == DONE:
                self.moved = {name: state for name, state in self.moved.items() if name in self.sliders}  # as browsers do
                return wrong
        return TimeoutError(f"no answer in {LONGEST_S:g} s")

    def shown(self, element: Any) -> Exception | None:
        """Remember a slider; an error that is shown."""
        kind = element.WhichOneof("type")
        if kind == "slider" and len(element.slider.options) > 1 and not element.slider.disabled:
            self.sliders[element.slider.id] = element.slider
        if kind == "exception":
            return RuntimeError(element.exception.message[:200])
        if kind == "alert" and element.alert.format == element.alert.ERROR:
            return RuntimeError(element.alert.body[:200])
        return None

    def told(self, name: str, since: float, wrong: Exception | None) -> None:
        """Give Locust one more row."""
        taken = (time.perf_counter() - since) * 1e3
        events.request.fire(request_type="", name=name, response_time=taken, response_length=0, exception=wrong, context={})


def used() -> tuple[float, float]:
    """(Resident bytes, CPU seconds) of the server and its workers."""
    held = seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            held, seconds = held + process.memory_info().rss, seconds + times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return held, seconds


def main() -> None:
    """Print a row for each kind of answer, errors, and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--think", type=float, nargs=2, default=(10.0, 30.0), help="seconds between two changes, at least and at most"
    )
    options = parser.parse_args()
    Visitor.wait_time = between(*options.think)
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    with b.server() as address:
        world = Environment(user_classes=[Visitor], host=address, events=events)
        runner = world.create_local_runner()
        states = [used()]
        runner.start(options.visitors, spawn_rate=max(1.0, options.visitors / 20.0))
        for share in (0.2, 0.8):
            gevent.sleep(options.minutes * 60.0 * share)
            states.append(used())
        runner.quit()
        report(world.stats, states, options)
    sys.exit(bool(world.stats.total.num_failures))


def report(stats: Any, states: list[tuple[float, float]], options: Any) -> None:
    """The figures."""
    think = "{:g} to {:g} s".format(*options.think)
    print(f"{options.visitors} visitors, {options.minutes:g} minutes, a change every {think} each")
    print(f"{'':22}{'number':>8}{'errors':>8}{'median s':>10}{'p95 s':>8}{'worst s':>9}")
    for (name, _), one in sorted(stats.entries.items()):
        median, p95 = (one.get_response_time_percentile(share) or 0.0 for share in (0.5, 0.95))
        seconds = f"{median / 1e3:10.2f}{p95 / 1e3:8.2f}{one.max_response_time / 1e3:9.2f}"
        print(f"{name:22}{one.num_requests:8}{one.num_failures:8}{seconds}")
    cpu_s = (states[-1][1] - states[0][1]) / max(stats.total.num_requests, 1)
    print(
        f"server's CPU seconds an answer: {cpu_s:.2f}; answers a second: {stats.total.num_requests / options.minutes / 60.0:.2f}"
    )
    start, early, late = (held / 2**20 for held, _ in states)
    print(f"server's memory: {start:.0f} MiB before, {early:.0f} after a fifth of the time, {late:.0f} at the end")
    print(f"load average: {os.getloadavg()[0]:.1f}")
    for error in stats.errors.values():
        print(f"  {error.occurrences} x {error.name}: {error.error}")


if __name__ == "__main__":
    main()
