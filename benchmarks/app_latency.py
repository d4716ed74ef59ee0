"""How fast the web page is, in headless Chromium: a slider change, the first page, ten browsers at once.

    python benchmarks/app_latency.py [--changes 15] [--browsers 10]

A change counts from the key press on a slider to the last thing that changes on the page; the page is settled when the
script has ended and nothing has changed for half a second, which is not counted. A figure is drawn once its SVG is in the page.
The list of GPUs of the first page is found in the background meanwhile.

Ten browsers on few cores wait for each other, not for the server: of 247 CPU seconds on two cores Chromium and its drivers took
236, the server and its workers 11; ten sessions that ask at once without browsers are answered within 1.2 s. ``visitors.py`` asks
so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import browser as b

WATCH = """
const main = document.querySelector('[data-testid="stMain"]');
window.__last = window.__start = Infinity;
window.__before = main.textContent;
if (window.__watch) window.__watch.disconnect();
window.addEventListener('keydown', () => { window.__start = performance.now(); }, {capture: true, once: true});
window.__watch = new MutationObserver(() => { window.__last = performance.now(); });
window.__watch.observe(main,
  {subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ['d', 'transform', 'src', 'width']});
"""
SETTLED = """
const done = arguments[arguments.length - 1], asked = performance.now();
const look = () => {
  const now = performance.now();
  const idle = document.querySelector(`[data-testid="stApp"]`).dataset.testScriptState === "notRunning";
  const changed = () => document.querySelector(`[data-testid="stMain"]`).textContent !== window.__before;
  if (idle && now - window.__last > 500 && changed()) done(window.__last - window.__start);
  else if (now - asked > 300000) done(null);
  else setTimeout(look, 100);
};
setTimeout(look, 100);
"""
FIRST = """
return document.querySelector('[data-figure="answer"]') ? performance.now() : null;
"""
SLIDER = """return document.querySelector(`[data-testid="stSidebar"] input[type="range"][aria-label*="${arguments[0]}"]`);"""
DRAWN = """
const drawn = document.querySelectorAll('[data-testid="stVegaLiteChart"] svg, [data-testid="stVegaLiteChart"] canvas').length;
return drawn >= 3 && document.querySelector('[data-testid="stApp"]').dataset.testScriptState === 'notRunning';
"""


def main() -> None:
    """Print medians and worst cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=15)
    parser.add_argument("--browsers", type=int, default=10)
    options = parser.parse_args()
    if b.browser_path() is None:
        sys.exit("app_latency: no chromium and chromedriver here; apt-get install chromium chromium-driver")
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    with b.server() as address:
        with b.browser(still=False) as driver:
            first = [first_page(driver, address) for _ in range(3)]
            print(
                f"first page, new server and browser, then twice more: {', '.join(f'{s:.2f} s' for s in first)} (wanted: 2.5 s)"
            )
            compare(driver, address)
            seconds = [slider_change(driver, i) for i in range(options.changes)]
        median, worst = statistics.median(seconds), max(seconds)
        counted = f"median {median * 1e3:.0f} ms, worst {worst * 1e3:.0f} ms of {len(seconds)}"
        print(f"slider change to finished figures: {counted} (wanted: 250 ms); load average {os.getloadavg()[0]:.1f}")
        together(address, options.browsers)


def first_page(driver: Any, address: str) -> float:
    """Seconds from asking for the page to its verdict, as the page's own clock counts."""
    driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    driver.get(address)
    return float(b.wait_for(driver, FIRST)) / 1e3


def compare(driver: Any, address: str) -> None:
    """The page with the sliders and three figures."""
    driver.get(f"{address}/compare")
    b.wait_for(driver, DRAWN)


def slider_change(driver: Any, i: int) -> float:
    """Seconds from a key press on a slider to the last change on the page; every change asks for what nobody asked before.

    The sequence length goes back and forth, and between the two the batch goes up or, after nine, down.
    """
    time.sleep(0.7)
    driver.set_script_timeout(310)
    label, right = ("Sequence", i % 4 == 0) if i % 2 == 0 else ("batch", i // 18 % 2 == 0)
    slider = b.wait_for(driver, SLIDER, label)
    driver.execute_script("arguments[0].focus()", slider)
    driver.execute_script(WATCH)
    slider.send_keys("\ue014" if right else "\ue012")  # the arrow keys
    return float(driver.execute_async_script(SETTLED)) / 1e3


def together(address: str, browsers: int) -> None:
    """Open the page in several browsers at once and move a slider in each; every one must answer without an error."""
    failures: list[str] = []
    taken: list[float] = []

    def visit(number: int) -> None:
        try:
            with b.browser(still=False) as driver:
                taken.append(first_page(driver, address))
                compare(driver, address)
                slider_change(driver, number % 2)
                wrong = [m for m in b.console_errors(driver) if "_stcore" not in m]
                if wrong or driver.find_elements(
                    "css selector", '[data-testid="stException"], [data-testid="stAlertContentError"]'
                ):
                    failures.append(f"browser {number}: {wrong or 'an error on the page'}")
        except Exception as error:  # a benchmark reports, whatever it was
            failures.append(f"browser {number}: {type(error).__name__}: {error}"[:300])

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(browsers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slowest = f", the slowest first page took {max(taken):.1f} s" if taken else ""
    print(f"{browsers} browsers at once: {len(failures)} errors{slowest}")
    for failure in failures:
        print(f"  {failure}")


if __name__ == "__main__":
    main()
