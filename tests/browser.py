"""A server of the app and headless Chromium, for tests, screenshots and the latency benchmark."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from places import PATIENCE_S, ROOT

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--force-device-scale-factor=1", "--hide-scrollbars",
    "--disable-gpu-compositing", "--disable-software-rasterizer",  # no GPU is imitated: a seventh of a page's seconds of CPU
    # one process draws one page after the other: a new one for each compiles every script anew, half of a page's seconds of CPU
    "--disable-site-isolation-trials",
    "--disable-features=IsolateOrigins,site-per-process,ProactivelySwapBrowsingInstance,BackForwardCache",
)  # fmt: skip
WIRE = """
const wire = window.wire = {asked: 0, answered: 0}, Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  constructor(...given) { super(...given); this.addEventListener('message', () => { wire.answered = performance.now(); }); }
  send(data) { wire.asked = performance.now(); super.send(data); }
};
"""
"""When the page last asked its server something, and when it last heard of it; milliseconds."""
STILL = """
document.addEventListener('DOMContentLoaded', () => {
  const still = document.createElement('style');
  still.textContent = '*, ::before, ::after { animation: none !important; transition: none !important; }';
  document.head.append(still);
});
"""
"""No element moves on its way to where it goes: a page that is drawn sixty times a second takes half as much again of CPU."""
READY = """
const app = document.querySelector('[data-testid="stApp"]'), now = performance.now();
const told = wire.asked > 0 && (wire.answered > wire.asked || now - wire.asked > 30000) && now - wire.answered > 100;
return told && !!app && app.dataset.testScriptState === 'notRunning' && !document.querySelector('[data-testid="stSkeleton"]')
  && !document.querySelector('[data-stale="true"]');
"""


def browser_path() -> tuple[str, str] | None:
    """(Chromium, its driver), or None where one is not installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@contextmanager
def server() -> Iterator[str]:
    """The app on a free port; its address. A port that another process takes meanwhile is given up for the next one."""
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "planner.web", "--server.port", str(port), "--server.address", "localhost"]
        with (
            tempfile.TemporaryFile() as log,
            subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT) as process,
        ):
            try:
                if answers(process, f"http://localhost:{port}"):
                    yield f"http://localhost:{port}"
                    return
            finally:
                process.terminate()
            log.seek(0)
            said = log.read().decode(errors="replace")
    raise RuntimeError(f"the server did not start:\n{said}")


def answers(process: subprocess.Popen[bytes], address: str) -> bool:
    """Whether the server answers there before it ends."""
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=PATIENCE_S).read()
        except OSError:
            time.sleep(0.1)
        else:
            return process.poll() is None  # else another's server has answered there
    return False


@contextmanager
def browser(
    width: int = 1280, height: int = 900, dark: bool = False, downloads: Path | None = None, still: bool = True
) -> Iterator[Any]:
    """A Chromium of its own, with its console and network on record; ``still``: nothing on its pages is animated, and their
    scripts run as they are first compiled, since a page that is opened once does not earn back what optimizing them takes."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    found = browser_path()
    assert found is not None, "no chromium and chromedriver; apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    with tempfile.TemporaryDirectory() as profile:
        for flag in (
            *FLAGS,
            *(("--js-flags=--no-turbofan",) if still else ()),
            f"--window-size={width},{height}",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(found[1]))
        try:
            driver.set_script_timeout(PATIENCE_S)
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WIRE + STILL if still else WIRE})
            driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
            )
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
            )
            if downloads is not None:
                driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
            yield driver
        finally:
            driver.quit()


def wait_ready(driver: Any) -> None:
    """Until the server has answered, the script has ended and nothing on the page is old."""
    wait_for(driver, READY)


def wait_for(driver: Any, script: str, *arguments: Any) -> Any:
    """Until the JavaScript returns something true; that."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = driver.execute_script(script, *arguments)
        if found:
            return found
        time.sleep(0.05)
    text = driver.execute_script("return document.body.innerText")
    raise TimeoutError(f"not within {PATIENCE_S:.0f} s: {script}\npage:\n{text[:2000]}")


def figures(driver: Any) -> dict[str, list[str]]:
    """Headline figures of the cards, by name."""
    script = """const found = {};
    document.querySelectorAll('[data-figure]').forEach(e => { const k = e.dataset.figure;
      (found[k] = found[k] || []).push((e.firstChild.textContent || '').trim()); });
    return found;"""
    return driver.execute_script(script)


def console_errors(driver: Any) -> list[str]:
    """What the console says is wrong."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def requests(driver: Any) -> list[str]:
    """Addresses that the page has asked for since the last call."""
    found = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            found.append(message["params"].get("request", message["params"])["url"])
    return found


FAINT = """
const parse = c => { const m = c.match(/rgba?\\(([^)]+)\\)/); if (!m) return null;
  const p = m[1].split(/[ ,/]+/).map(Number); return [p[0], p[1], p[2], p.length > 3 ? p[3] : 1]; };
const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
const light = c => { const f = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
const ground = e => { const layers = []; let dim = 1;
  for (let n = e; n; n = n.parentElement) { const s = getComputedStyle(n), c = parse(s.backgroundColor);
    if (c && c[3] > 0) { layers.push(c); if (c[3] === 1) break; } }
  return layers.reverse().reduce((b, c) => over(c, b), [255, 255, 255, 1]); };
const faded = e => { let o = 1; for (let n = e; n; n = n.parentElement) o *= Number(getComputedStyle(n).opacity); return o; };
const under = (e, back) => { const box = e.getBoundingClientRect();
  const x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
  for (const mark of e.closest('svg').querySelectorAll('.mark-rect.role-mark path')) { // bars and cells, in the order of drawing
    const area = mark.getBoundingClientRect(), c = parse(getComputedStyle(mark).fill);
    if (c && c[3] > 0 && area.left <= x && x <= area.right && area.top <= y && y <= area.bottom)
      back = over([c[0], c[1], c[2], c[3] * faded(mark)], back); }
  return back; };
const found = [];
for (const e of document.querySelectorAll('[data-testid="stMain"] *, [data-testid="stSidebar"] *')) {
  const svg = e.tagName === 'text', own = svg || [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || !svg && e.closest('[disabled], [aria-disabled=true], [aria-hidden=true], canvas, option, style, script')) continue;
  if (e.closest('[data-testid=stIconMaterial], [data-testid=stSliderThumbValue]')) continue;
  if (svg && (!e.closest('[data-testid=stVegaLiteChart]') || !e.textContent.trim())) continue;
  const box = e.getBoundingClientRect(); if (!box.width || !box.height || faded(e) < 0.05) continue;
  const s = getComputedStyle(e), ink = parse(svg ? s.fill : s.color); if (!ink) continue;
  const back = svg ? under(e, ground(e.closest('[data-testid=stVegaLiteChart]'))) : ground(e);
  const shown = over([ink[0], ink[1], ink[2], ink[3] * faded(e)], back);
  const [a, b] = [light(shown), light(back)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
  const size = parseFloat(s.fontSize), large = size >= 24 || (size >= 18.66 && Number(s.fontWeight) >= 700);
  if (ratio < (large ? 3 : 4.5) || size < 11.9)
    found.push(`${ratio.toFixed(2)} at ${size}px: ${(e.textContent || '').trim().slice(0, 60)}`);
}
return [...new Set(found)];
"""


AXE = ROOT / "tests" / "data" / "axe.min.js"
VIOLATIONS = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations.filter(v => v.impact !== 'minor')
  .map(v => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(' | ')}`)));
"""


def violations(driver: Any) -> list[str]:
    """What axe-core holds against the page. Minor ones are left out: they are Streamlit's own markup."""
    driver.execute_script(AXE.read_text(encoding="utf-8"))
    return driver.execute_async_script(VIOLATIONS)


DARK = """
const [r, g, b] = getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor.match(/\\d+/g).map(Number);
return Math.max(r, g, b) < 64;
"""


@contextmanager
def dark(driver: Any) -> Iterator[None]:
    """The open page as somebody sees it who prefers a dark screen."""
    media = {"name": "prefers-color-scheme"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{**media, "value": "dark"}]})
    try:
        wait_for(driver, DARK)
        wait_ready(driver)
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{**media, "value": "light"}]})


def faint(driver: Any) -> list[str]:
    """Texts that are hard to read: contrast under 4.5 (3 where large; WCAG 2.2, 1.4.3), or smaller than 12 pixels."""
    return driver.execute_script(FAINT)
