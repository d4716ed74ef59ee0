"""The web page in headless Chromium: what a person does, on one server and in one browser."""

from __future__ import annotations

import io
import itertools
import os
import re
import signal
import time
import urllib.request
import zipfile
from contextlib import suppress
from pathlib import Path

import browser as b
import pandas as pd
import pytest
from places import DATA, PATIENCE_S

pytest.importorskip("streamlit", reason="the extra `app` is not installed: pip install llm-capacity-planner[app]")
pytest.importorskip("selenium", reason="selenium is not installed: pip install llm-capacity-planner[test]")
pytestmark = pytest.mark.skipif(
    b.browser_path() is None, reason="no browser here: apt-get install chromium chromium-driver runs the tests of the page"
)


import planner  # noqa: E402
from planner.scenarios.scenario import PLAN_TABLES, read_scenario  # noqa: E402
from planner.web import state  # noqa: E402
from planner.web.text import say  # noqa: E402

RECORD = DATA / "cpu-record.json"
PAGES = ("", "compare", "memory", "run", "search", "serving", "roofline", "explore", "calibrate", "evidence")
DARK_IN_CHINESE = ("", "compare", "memory", "calibrate")
"""Pages whose dark screen is read in Chinese, where labels over bars and words of controls are others; the rest in English."""
LARGE = {
    "title": "a large space",
    "cases": [{
        "label": "DeepSeek", "tables": {
            "model": {"name": "deepseek-v3"}, "cluster": {"node": "dgx-h100", "num_gpus": 2048},
            "job": {"seq_len": 4096, "global_batch_size": 8192, "num_tokens": 10**12},
            "layout": {"tp": 8, "sequence_parallel": True, "pp": 8, "ep": 32, "zero": 1},
        },
    }],
}  # fmt: skip


@pytest.fixture
def opened(page, address):
    """Compare, freshly opened."""
    page.get(f"{address}/compare?lang=en")
    b.wait_ready(page)
    b.wait_for(page, "return document.querySelectorAll('[data-testid=stVegaLiteChart] svg').length >= 3")
    return page


def settled(driver):
    time.sleep(0.4)
    b.wait_ready(driver)


def eventually(driver, found):
    """Until ``found()`` is true and the script has ended: a click is answered when the server has time for it."""
    end, done = time.monotonic() + PATIENCE_S, False
    while not done:
        with suppress(KeyError, IndexError):  # of a figure that is drawn anew
            done = found()
        assert done or time.monotonic() < end, text_of(driver)[:2000]
        time.sleep(0.05)
    b.wait_ready(driver)


def click(driver, words, tag="button"):
    """Click the first visible element with these words."""
    script = """const [words, tag] = arguments; const all = [...document.querySelectorAll(tag)];
    const found = all.find(e => e.innerText.trim().includes(words) && e.offsetParent !== null && !e.disabled);
    if (!found) return false; found.scrollIntoView({block: 'center'}); found.click(); return true;"""
    b.wait_for(driver, script, words, tag)
    settled(driver)


def press(driver, label, key):
    field = driver.find_element("css selector", f'input[type="range"][aria-label*="{label}"]')
    driver.execute_script("arguments[0].focus()", field)
    field.send_keys(key)
    settled(driver)


def problems(driver):
    """What the console holds against the page; Streamlit probes two addresses below each page and is refused."""
    return [m for m in b.console_errors(driver) if "_stcore/health" not in m and "_stcore/host-config" not in m]


def text_of(driver):
    return driver.execute_script("return document.querySelector('[data-testid=\"stMain\"]').innerText")


def downloaded(folder, name, action):
    """The bytes of the file that ``action`` makes the browser fetch."""
    target = folder / name
    target.unlink(missing_ok=True)
    action()
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if target.exists() and target.stat().st_size and not list(folder.glob("*.crdownload")):
            return target.read_bytes()
        time.sleep(0.1)
    raise AssertionError(f"{name} was not downloaded; there are {[p.name for p in folder.iterdir()]}")


def readable(driver):
    """The page as it stands: nothing that axe-core holds against it, every text in sight and large enough."""
    assert (b.violations(driver), b.faint(driver)) == ([], [])


def readable_dark(driver):
    """The same for somebody who prefers a dark screen."""
    with b.dark(driver):
        readable(driver)


FOREIGN = """
const done = arguments[arguments.length - 1];
document.addEventListener('securitypolicyviolation', (e) => done(e.violatedDirective), {once: true});
const picture = new Image();
picture.src = 'http://127.0.0.1:9/picture.png';
picture.onload = picture.onerror = () => setTimeout(() => done('asked for'), 5000);
"""


def test_every_answer_forbids_frames_and_what_other_sites_serve(page, address):
    for path in ("/", "/_stcore/health"):
        with urllib.request.urlopen(address + path, timeout=PATIENCE_S) as answer:
            assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    page.get(address)
    assert page.execute_async_script(FOREIGN) == "img-src"


IN_THE_ROW = """return [...document.querySelectorAll('[data-testid="stTopNavLink"]')].filter(
  e => e.getBoundingClientRect().width > 0 && getComputedStyle(e.closest('.rc-overflow-item')).opacity !== '0').length"""
"""Pages whose link stands beside the sidebar."""


@pytest.mark.parametrize("name", PAGES)
def test_each_page_opens_asks_nobody_else_and_names_its_controls(page, address, name):
    page.get("about:blank")
    b.requests(page)
    b.console_errors(page)
    page.get(f"{address}/{name}?lang=en")
    b.wait_ready(page)
    settled(page)
    assert len(text_of(page)) > 200
    assert not page.find_elements("css selector", '[data-testid="stException"], [data-testid="stAlertContentError"]')
    assert problems(page) == []
    foreign = [url for url in b.requests(page) if url.startswith(("http", "ws")) and "//localhost:" not in url]
    assert foreign == []
    nameless = page.execute_script("""
    const named = e => e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.title || e.innerText.trim() ||
      (e.labels && [...e.labels].some(l => l.innerText.trim())) || e.closest('label')?.innerText.trim();
    const kinds = 'button, input, select, textarea, [role=graphics-document]';
    return [...document.querySelectorAll(kinds)]
      .filter(e => e.offsetParent !== null && !['hidden', 'file'].includes(e.type) && !named(e))
      .map(e => e.outerHTML.slice(0, 200));""")
    assert nameless == []
    assert page.execute_script("return document.documentElement.lang") == "en"
    assert page.execute_script(IN_THE_ROW) == len(PAGES)
    assert not page.find_elements("css selector", '[data-testid="stTopNavSection"]')
    if not name:  # a row of the list needs no more than a tick
        b.wait_for(page, "return document.querySelector('[data-testid=stDataFrame] canvas')")
        assert "Tick a row" in text_of(page)
        assert b.figures(page)["answer"]
    readable(page)
    if name in DARK_IN_CHINESE:
        click(page, "中文")
        b.wait_for(page, "return document.documentElement.lang === 'zh-CN'")
        settled(page)
    readable_dark(page)


SPOKEN = """
const found = new Set(), english = /[A-Za-z]{3}/, chinese = /[\\u4e00-\\u9fff]/;
const add = text => { if (text && english.test(text) && !chinese.test(text)) found.add(text.trim()); };
const own = ['stFileUploader', 'stMainMenuPopover', 'stHeader', 'stSkipToContent', 'stProgress', 'stSelectbox', 'stNumberInput'];
for (const place of document.querySelectorAll(own.map(id => `[data-testid="${id}"]`).join())) {
  const walk = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) if (!walk.currentNode.parentElement.closest('[data-testid=stIconMaterial], script, style'))
    add(walk.currentNode.data);
  for (const e of place.querySelectorAll('*'))
    for (const name of ['aria-label', 'placeholder', 'title']) add(e.getAttribute(name));
}
return [...found];
"""
"""Words without Chinese in Streamlit's own controls."""


def test_streamlit_s_own_controls_speak_chinese(page, address, tmp_path):
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("no record")
    page.get(f"{address}/?lang=zh")
    b.wait_ready(page)
    b.wait_for(page, "return document.documentElement.lang === 'zh-CN'")
    left = set(page.execute_script(SPOKEN))
    page.get(f"{address}/calibrate?lang=zh")
    b.wait_ready(page)
    settled(page)
    left |= set(page.execute_script(SPOKEN))
    page.find_element("css selector", 'input[type="file"]').send_keys(str(wrong))
    settled(page)
    page.find_element("css selector", '[data-testid="stMainMenuButton"], [data-testid="stMainMenu"] button').click()
    b.wait_for(page, "return document.querySelector('[data-testid=stMainMenuPopover]')?.innerText.includes('打印')")
    left |= set(page.execute_script(SPOKEN))
    names = r"• JSON|wrong\.txt.*|[a-z0-9-]+( · \d+ GiB)?|config\.json|planner measure|[A-Z]"  # of files, models and GPUs
    assert sorted(text for text in left if not re.fullmatch(names, text)) == []
    page.get(f"{address}/calibrate?lang=en")
    b.wait_ready(page)
    assert "8MB per file" in page.find_element("css selector", '[data-testid="stFileUploader"]').text


OPEN_IN_SIGHT = """
const here = document.querySelector('.st-key-narrow-pages strong').getBoundingClientRect();
return here.left >= 0 && here.right <= 390;
"""
MOMENTS = """
const chart = [...document.querySelectorAll('[data-testid=stVegaLiteChart] svg')][1];
const labels = [...chart.querySelectorAll('.role-axis .role-axis-label text')].filter(e => /[0-9][.]/.test(e.textContent));
return labels.map(e => [e.textContent, e.getBoundingClientRect().left, e.getBoundingClientRect().right]);
"""
COLUMNS = """
return [...document.querySelectorAll('table.figures tbody tr')].map(row => [...row.querySelectorAll('td')].map(
  cell => Math.round(cell.getBoundingClientRect().width)));
"""


@pytest.fixture
def phone(page):
    """The browser with the screen of a phone."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield page
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "width": 1280, "height": 900, "mobile": False})


def turn_to(phone, language, name):
    """To another page by its link in the row that a narrow screen has."""
    title = say(language, f"page.{name or 'ask'}")
    link = "return [...document.querySelectorAll('.st-key-narrow-pages a p')].find(e => e.innerText.trim() === arguments[0])"
    phone.execute_script("arguments[0].click()", b.wait_for(phone, link, title))
    b.wait_for(phone, "return document.querySelector('.st-key-narrow-pages strong')?.innerText.trim() === arguments[0]", title)
    settled(phone)


def every_moment_of_a_step(phone):
    """The axis of the memory's course names each moment, none over another."""
    b.wait_for(phone, "return document.querySelectorAll('[data-testid=stVegaLiteChart] svg').length >= 2")
    labels = sorted(phone.execute_script(MOMENTS), key=lambda label: label[1])
    assert [text.split(".")[0] for text, _, _ in labels] == [str(i + 1) for i in range(len(labels))]
    assert len(labels) >= 4
    assert all(right <= left for (_, _, right), (_, left, _) in itertools.pairwise(labels))


def columns_of_one_width(phone):
    """Two configurations and their difference, last, have as much of the screen as each other."""
    rows = phone.execute_script(COLUMNS)
    assert rows
    for row in rows:
        assert len(row) == 3
        assert max(row) - min(row) <= 1
        assert min(row) >= 99
        assert sum(row) <= 390


def test_a_phone_shows_every_page_within_its_edges_every_moment_of_a_step_and_columns_of_one_width(phone, address):
    """Opened once in each language, then from page to page as on a phone. In English, whose words are shorter, the two pages
    that are laid out for a narrow screen."""
    special = {"memory": every_moment_of_a_step, "compare": columns_of_one_width}
    wide = {}
    for language, names in (("zh", PAGES), ("en", ("memory", "compare"))):
        phone.get(f"{address}/{names[0]}?lang={language}")
        b.wait_ready(phone)
        settled(phone)
        for name in names:
            if name != names[0]:
                turn_to(phone, language, name)
            width = phone.execute_script("return document.querySelector('[data-testid=\"stMain\"]').scrollWidth")
            if width > 390:
                wide[language, name] = width
            b.wait_for(phone, OPEN_IN_SIGHT)
            if name in special:
                special[name](phone)
    assert wide == {}


def test_the_cheapest_before_a_deadline_comes_with_megatron_files(page, address, folder):
    tables = {
        "model": {"name": "llama-2-7b"},
        "cluster": {"accelerator": "h100-sxm5-80gb", "num_gpus": 8},
        "framework": {"name": "megatron-core"},
        "job": {"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**10},
    }
    scenario = state.checked({"title": "t", "cases": [{"label": "a", "tables": tables}], "ask": {"days": 3.0}})
    page.get(f"{address}/search?lang=en&s={state.encode(scenario)}")
    b.wait_ready(page)
    click(page, "Search", '[data-testid="stMain"] button')
    b.wait_for(page, "return document.body.innerText.includes('layouts searched in')")
    settled(page)
    click(page, "Download", ".st-key-search-files button")
    table = pd.read_csv(io.BytesIO(downloaded(folder, "search.csv", lambda: click(page, "Table (CSV)"))))
    assert (table["run_s"] <= 3 * 86400).all()
    asked = planner.search(**tables, objective="time", deadline_s=3 * 86400.0, top=1)
    assert table["run_s"].iloc[0] == pytest.approx(asked["run_s"].iloc[0], rel=1e-9)
    content = downloaded(folder, "megatron.zip", lambda: click(page, "Launch files for megatron"))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert any("--tensor-model-parallel-size" in archive.read(entry).decode() for entry in archive.namelist())


def plan_of(scenario, case=0):
    tables = scenario["cases"][case]["tables"]
    return planner.plan(**{name: table for name, table in tables.items() if name in PLAN_TABLES}, explain=False)


def test_html_in_a_name_stays_text(page, address):
    scenario = state.default_scenario()
    scenario["cases"][0]["label"] = "<img src=x onerror=window.hit=1>"
    page.get(f"{address}/compare?lang=en&s={state.encode(scenario)}")
    b.wait_ready(page)
    settled(page)
    assert "<img src=x" in text_of(page)
    assert page.execute_script("return !window.hit && !document.querySelector('img[src=x]')")


def test_a_slider_changes_the_figures_and_the_shared_link_gives_the_same(opened, address):
    bars = "return [...document.querySelectorAll('[data-testid=\"stVegaLiteChart\"] svg')].map(e => e.outerHTML).join()"
    before, drawn = b.figures(opened), opened.execute_script(bars)
    press(opened, "Sequence length", "\ue012")
    eventually(opened, lambda: b.figures(opened)["step"][0] != before["step"][0])
    after = b.figures(opened)
    assert (after["step"][1], after["gib"][1]) == (before["step"][1], before["gib"][1])
    eventually(opened, lambda: opened.execute_script(bars) != drawn)
    link = opened.current_url
    opened.get("about:blank")
    opened.get(link)
    b.wait_ready(opened)
    eventually(opened, lambda: b.figures(opened) == after)


def test_the_language_switch_changes_every_heading_and_the_link_keeps_it(opened):
    english = text_of(opened)
    numbers = b.figures(opened)["gib"]
    click(opened, "中文")
    eventually(opened, lambda: "每卡显存" in text_of(opened))
    chinese = text_of(opened)
    assert "配置" in opened.find_element("css selector", '[data-testid="stSidebar"]').text
    assert "每卡显存" in chinese
    assert "Memory per GPU" in english
    assert "Memory per GPU" not in chinese
    assert b.figures(opened)["gib"] == numbers
    assert "lang=zh" in opened.current_url
    click(opened, "English")
    eventually(opened, lambda: "Memory per GPU" in text_of(opened))


def test_a_bad_config_gets_a_helpful_message_and_a_good_one_is_used(opened):
    def paste(text):
        field = b.wait_for(opened, "return document.querySelector('textarea')")
        opened.execute_script("arguments[0].focus(); arguments[0].select()", field)
        field.send_keys("\ue009a\ue000")
        field.send_keys(text)
        field.send_keys("\ue009\ue007")  # Ctrl-Enter
        settled(opened)
        click(opened, "Use this model")

    click(opened, "Paste or upload a config.json")
    paste('{"model_type": "llama", "hidden_size": "huge"}')
    said = b.wait_for(
        opened, "const e = document.querySelector('[data-testid=\"stAlertContentError\"]'); return e && e.innerText"
    )
    assert "hidden_size" in said
    assert "Traceback" not in said
    before = b.figures(opened)["gib"]
    paste('{"model_type": "gpt2"}')
    eventually(opened, lambda: b.figures(opened)["gib"] != before)
    assert problems(opened) == []


def test_a_huge_upload_is_refused_with_the_limit(page, address, tmp_path):
    page.get(f"{address}/calibrate?lang=en")
    b.wait_ready(page)
    large = tmp_path / "record.json"
    large.write_bytes(b" " * (9 << 20))
    page.find_element("css selector", 'input[type="file"]').send_keys(str(large))
    b.wait_for(page, "return document.body.innerText.includes('must be 8.0MB or smaller')")
    assert "8 MB" in text_of(page)


def test_what_is_taken_along_can_be_read(opened, folder):
    name = "4x7b-moe-dense-33b"
    click(opened, "File", '[role="tab"]')
    toml = downloaded(folder, f"{name}.toml", lambda: click(opened, "Save scenario"))
    path = folder / "again.toml"
    path.write_bytes(toml)
    answer = read_scenario(path).cases[0].plan()
    assert b.figures(opened)["gib"][0] == f"{answer.peak_total_bytes / 2**30:,.1f} GiB"
    click(opened, "Report", '[data-testid="stSidebar"] button')
    html = downloaded(folder, f"{name}.html", lambda: click(opened, "One-page report")).decode()
    assert "<svg" in html
    click(opened, "中文")
    click(opened, "文件", '[role="tab"]')
    click(opened, "报告", '[data-testid="stSidebar"] button')
    assert "每卡显存" in downloaded(folder, f"{name}.html", lambda: click(opened, "单页报告")).decode()
    click(opened, "English")
    assert not re.search(r"(src|href)\s*=\s*['\"]?(https?:)?//", html)
    click(opened, "Download figures")
    assert downloaded(folder, "memory.png", lambda: click(opened, "PNG picture")).startswith(b"\x89PNG")
    assert b"<svg" in downloaded(folder, "memory.svg", lambda: click(opened, "SVG vectors"))
    table = pd.read_csv(io.BytesIO(downloaded(folder, "memory.csv", lambda: click(opened, "CSV numbers"))))
    assert table[table["name"] == "4x7B MoE"]["value"].sum() == pytest.approx(answer.peak_total_bytes / 2**30)


def test_a_search_runs_and_its_tables_and_launch_files_can_be_read(page, address, folder):
    page.get(f"{address}/search?lang=en")
    b.wait_ready(page)
    click(page, "Search", '[data-testid="stMain"] button')
    b.wait_for(page, "return document.body.innerText.includes('layouts searched in')")
    settled(page)
    readable(page)
    readable_dark(page)
    click(page, "Download", ".st-key-search-files button")
    table = pd.read_csv(io.BytesIO(downloaded(folder, "search.csv", lambda: click(page, "Table (CSV)"))))
    again = pd.read_parquet(io.BytesIO(downloaded(folder, "search.parquet", lambda: click(page, "Table (parquet)"))))
    assert list(table["step_time_s"]) == pytest.approx(list(again["step_time_s"]))
    assert table["rank"].is_monotonic_increasing
    with zipfile.ZipFile(io.BytesIO(downloaded(folder, "nemo.zip", lambda: click(page, "Launch files for nemo")))) as archive:
        assert any("tensor_model_parallel_size" in archive.read(entry).decode() for entry in archive.namelist())
    page.execute_script("document.activeElement.blur(); document.body.click()")
    click(page, "Open in Compare")
    b.wait_for(page, "return document.querySelectorAll('[data-figure=gib]').length === 3")


def workers_of(address):
    """The processes that work on the long questions of this server."""
    port = address.rpartition(":")[2]
    commands, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            commands[path.name] = (path / "cmdline").read_text().split("\0")
            parents[path.name] = (path / "stat").read_text().rpartition(")")[2].split()[1]
    return [int(pid) for pid in parents if "planner.web.errands" in commands[pid] and port in commands.get(parents[pid], [])]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc, which Linux has")
def test_a_search_can_be_cancelled_and_keeps_what_it_found(page, address):
    """The processes that search stand still while Cancel is clicked: however fast they are, the click is not too late."""
    if not workers_of(address):  # no question before this one was long
        page.get(f"{address}/search?lang=en")
        b.wait_ready(page)
        click(page, "Search", '[data-testid="stMain"] button')
        b.wait_for(page, "return document.body.innerText.includes('layouts searched in')")
    workers = workers_of(address)
    assert workers
    page.get(f"{address}/search?lang=en&s={state.encode(state.checked(LARGE))}")
    b.wait_ready(page)
    try:
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        click(page, "Search", '[data-testid="stMain"] button')
        click(page, "Cancel")
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
    b.wait_for(page, "return /Cancelled (after|before)/.test(document.body.innerText)")
    assert problems(page) == []


def test_a_record_calibrates_a_device_that_compare_can_use(page, address):
    page.get(f"{address}/calibrate?lang=en")
    b.wait_ready(page)
    page.find_element("css selector", 'input[type="file"]').send_keys(str(RECORD))
    b.wait_for(page, "return document.body.innerText.includes('Calibrated:')")
    settled(page)
    readable(page)
    readable_dark(page)
    assert page.find_elements("css selector", '[data-testid="stVegaLiteChart"]')
    assert problems(page) == []
    said = text_of(page)
    for asked in ("How far off is the planner on this machine?", "What changes if you use it?", "What have you measured?"):
        assert asked in said
    assert re.search(r"Step time: was [\d.]+% off with the catalog's constants, is [\d.]+% off with yours", said)
    click(page, "Use it for 4x7B MoE")
    b.wait_for(page, "return document.body.innerText.includes('my-amd-epyc')")
    assert not page.find_elements("css selector", '[data-testid="stException"]')


def test_a_measurement_starts_here_and_can_be_stopped(page, address):
    page.get(f"{address}/calibrate?lang=en")
    b.wait_ready(page)
    click(page, "Measure this CPU")
    b.wait_for(page, "return document.body.innerText.includes('Measuring for')")
    click(page, "Stop measuring")
    b.wait_for(page, "return document.body.innerText.includes('nothing was kept')")
    assert problems(page) == []


def test_every_tab_of_the_controls_opens_and_adapters_fit_where_all_weights_do_not(page, address):
    tables = {
        "model": {"name": "llama-2-7b"}, "cluster": {"node": "dgx-a100-80gb", "num_gpus": 1}, "framework": {"name": "peft"},
        "job": {"seq_len": 2048, "global_batch_size": 8, "num_samples": 1000}, "layout": {"micro_batch_size": 1},
    }  # fmt: skip
    word = state.encode(state.checked({"title": "t", "cases": [{"label": "a", "tables": tables}]}))
    page.get(f"{address}/compare?lang=en&s={word}")
    b.wait_ready(page)
    full = b.figures(page)
    assert "not fit" in full["fits"][0]
    click(page, "Training", '[role="tab"]')
    field = page.find_element("css selector", 'input[aria-label*="Kind of training"]')
    field.click()
    b.wait_for(page, "return document.querySelectorAll('[role=option]').length >= 6")
    click(page, "QLoRA", "[role=option]")
    b.wait_for(page, "return document.body.innerText.includes('Rank of the adapters')")
    eventually(page, lambda: b.figures(page)["gib"] != full["gib"])
    tuned = b.figures(page)  # of a layout chosen anew: with larger micro-batches where there is room
    assert "not fit" not in tuned["fits"][0]
    assert float(tuned["gib"][0].split()[0]) < float(full["gib"][0].split()[0])
    for tab, shows in (
        ("Work", "Sequence length"),
        ("Layout", "Training framework"),
        ("Price", "Price per GPU-hour"),
        ("File", "Save scenario"),
    ):
        click(page, tab, '[role="tab"]')
        assert shows in page.find_element("css selector", '[data-testid="stSidebar"]').text
    assert problems(page) == []


TOO_LARGE = {
    "→": {  # another layout fits
        "model": {"name": "llama-2-7b"}, "cluster": {"node": "dgx-a100-80gb", "num_gpus": 8},
        "job": {"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**9}, "layout": {"micro_batch_size": 8},
    },
    "method → QLoRA": {  # none does
        "model": {"name": "mistral-7b"}, "cluster": {"accelerator": "rtx-3060-12gb", "num_gpus": 1},
        "job": {"kind": "lora", "seq_len": 2048, "global_batch_size": 64, "num_tokens": 10**7, "adapter": {"rank": 16}},
    },
}  # fmt: skip
"""What does not fit, by the button that mends it."""


@pytest.mark.parametrize("words", TOO_LARGE)
def test_what_does_not_fit_is_mended_with_one_click(page, address, words):
    word = state.encode(state.checked({"title": "t", "cases": [{"label": "a", "tables": TOO_LARGE[words]}]}))
    page.get(f"{address}/memory?lang=en&s={word}")
    b.wait_ready(page)
    assert "not fit" in b.figures(page)["fits"][0]
    click(page, words)
    eventually(page, lambda: "not fit" not in b.figures(page)["fits"][0])
