"""Ten tasks of a new user in headless Chromium, in both languages: within six clicks, with the figures of the command line."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from contextlib import suppress

import browser as b
import pytest
from places import DATA, PATIENCE_S

pytest.importorskip("streamlit", reason="the extra `app` is not installed: pip install llm-capacity-planner[app]")
pytest.importorskip("selenium", reason="selenium is not installed: pip install llm-capacity-planner[test]")
pytestmark = pytest.mark.skipif(
    b.browser_path() is None, reason="no browser here: apt-get install chromium chromium-driver runs the tests of the page"
)

from planner.reports.text import count  # noqa: E402
from planner.studies.ways import Wish, serving_way  # noqa: E402
from planner.web import presets, question, show  # noqa: E402
from planner.web.guard import short_text  # noqa: E402
from planner.web.text import LANGUAGES, say, speaking  # noqa: E402

MOST_CLICKS = 6
FIRST = ("--framework", "megatron-core", "--seq-len", "2048", "--batch", "32", "--samples", "1.2M", "--price", "on-demand")
"""The work of the question that a first visitor sees, as options of ``planner plan``."""
FIND = """
const [selector, words] = arguments;
return [...document.querySelectorAll(selector)].find(e => (e.innerText || e.getAttribute('aria-label') || '').includes(words)
  && e.getClientRects().length && !e.disabled && e.getAttribute('aria-disabled') !== 'true') || null;
"""
MAIN, SIDE = '[data-testid="stMain"]', '[data-testid="stSidebar"]'
PLAIN_CONFIG = {
    "model_type": "llama", "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8,
    "intermediate_size": 8192, "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": True,
}  # fmt: skip


class Visitor:
    """A new user: a session of its own, with its clicks counted. What is typed is none; to go to a field is one."""

    def __init__(self, driver, link, folder, language):
        self.driver, self.folder, self.language, self.clicks = driver, folder, language, 0
        driver.get(link)
        b.wait_ready(driver)

    def t(self, key, **values):
        return say(self.language, key, **values)

    def click(self, words, selector="button"):
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + PATIENCE_S
        while True:
            found = b.wait_for(self.driver, FIND, selector, words)
            try:
                self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
                found.click()
                break
            except WebDriverException:  # drawn anew meanwhile, or something still lies over it
                assert time.monotonic() < end, (selector, words)
                time.sleep(0.1)
        self.clicks += 1
        time.sleep(0.4)
        b.wait_ready(self.driver)

    def go(self, page):
        self.click(self.t(f"page.{page}"), '[data-testid="stTopNavLink"]')

    def choose(self, label, option):
        self.click(label, 'input[role="combobox"]')
        self.driver.switch_to.active_element.send_keys(option)
        self.click(option, "[role=option]")

    def write(self, label, text):
        self.click(label, "input")
        self.driver.switch_to.active_element.send_keys(text, "\ue007")
        time.sleep(0.4)
        b.wait_ready(self.driver)

    def text(self, selector=MAIN):
        return self.driver.execute_script("return document.querySelector(arguments[0])?.innerText || ''", selector)

    def figures(self):
        return b.figures(self.driver)

    def until(self, found):
        """Until ``found()`` is true and the script has ended."""
        end, done = time.monotonic() + PATIENCE_S, False
        while not done:
            with suppress(KeyError, IndexError):  # of a figure that is drawn anew
                done = found()
            assert done or time.monotonic() < end, (self.figures(), self.text()[:3000])
            time.sleep(0.05)
        b.wait_ready(self.driver)

    def downloaded(self, name, words):
        target = self.folder / name
        target.unlink(missing_ok=True)
        self.click(words)
        end = time.monotonic() + PATIENCE_S
        while not target.exists() or not target.stat().st_size or list(self.folder.glob("*.crdownload")):
            assert time.monotonic() < end, name
            time.sleep(0.1)
        return target.read_bytes()

    def shows(self, answer, place=0, names=("gib", "tokens", "cost")):
        """Until the figures of a configuration are those of an answer of ``planner plan --json``."""
        with speaking(self.language):
            wanted = {
                "gib": show.gib(answer["peak_total_bytes"]),
                "tokens": show.number(answer["tokens_per_s"]),
                "cost": show.dollars(answer["cost_usd"]),
                "step": show.duration(answer["step_time_s"]),
            }
        self.until(lambda: [self.figures()[name][place] for name in names] == [wanted[name] for name in names])


@pytest.fixture(params=LANGUAGES)
def visitor(request, page, address, folder):
    found = Visitor(page, f"{address}/?lang={request.param}", folder, request.param)
    b.wait_for(page, "return document.querySelector('[data-figure=answer]')")
    yield found
    assert found.clicks <= MOST_CLICKS
    wrong = [m for m in b.console_errors(page) if "_stcore/health" not in m and "_stcore/host-config" not in m]
    assert wrong == []


@pytest.fixture(scope="module")
def answered():
    """What each command has answered: the same in both languages."""
    return {}


@pytest.fixture
def command(run, answered):
    """What a command answers with --json."""

    def call(*arguments):
        if arguments not in answered:
            code, out, err = run(*arguments, "--json")
            assert code in (0, 1), err  # 1: does not fit
            answered[arguments] = json.loads(out)
        return answered[arguments]

    return call


def test_all_weights_of_7b_on_two_rtx_4090(visitor, command):
    visitor.click(visitor.t("preset.tune_7b"))
    work = ("--finetune", "--tokens", "100M", "--seq-len", "2048", "--batch", "64", "--price", "on-demand")
    answer = command("plan", "llama-2-7b", "--on", "2xrtx-4090-24gb", *work)
    visitor.shows(answer)
    assert visitor.figures()["answer"] == [visitor.t("ask.yes" if answer["recommended"] else "ask.perhaps")]
    shown = visitor.driver.execute_script("return [...document.querySelectorAll('.st-key-sentence input')].map(e => e.value)")
    assert {"llama-2-7b", "2", "100"} <= set(shown)  # model, GPUs, million tokens: the sentence is the question of the verdict


def test_mixture_against_dense_at_equal_dollars(visitor, command):
    visitor.go("compare")
    visitor.click(visitor.t("compare.at_dollars"))
    first, other = command("compare", "chatlaw2-moe", "--at", "dollars")["cases"]
    table = "table.figures"
    visitor.until(lambda: count(other["tokens"]) in visitor.text(table))
    with speaking(visitor.language):
        assert show.dollars(first["cost_usd"]["expected"]) in visitor.text(table)
    visitor.click(visitor.t("compare.at_given"))


def test_a_gpu_for_llama_3_70b_at_five_requests_a_second(visitor, command):
    visitor.click(visitor.t("preset.serve_70b"))
    visitor.until(
        lambda: re.search(r"\d+ x \S+", visitor.text(".answer")) and visitor.t("ask.so_far") not in visitor.text(".answer")
    )
    words = visitor.text(".answer")
    gpus, card = re.search(r"(\d+) x ([\w.-]+)", words).groups()
    load = ("--rate", "5", "--prompt", "1024", "--output", "256", "--weights", "bf16", "--engine", "vllm")
    (found,) = command("serve", "llama-3-70b", "--on", f"{gpus}x{card}", *load)["cases"]
    assert visitor.t("ask.carries", rate="5", share=f"{found['load']['utilisation']:.0%}") in words
    with speaking(visitor.language):
        ttft, tpot = (show.duration(found["load"][name]["p95"]) for name in ("ttft_s", "tpot_s"))
        assert visitor.t("ask.first", ttft=ttft, tpot=tpot) in words
        hourly = found["price"]["usd_per_gpu_hour"] * found["num_gpus"]
        assert visitor.t("ask.hourly", usd=show.dollars(hourly)) in words
    scenario = presets.preset("serve_70b")
    _, asked = question.asked_of(scenario, scenario["cases"][0]["tables"])
    way = serving_way(asked, card, Wish())
    assert way.enough
    assert way.num_gpus == int(gpus)  # no fewer of them would do
    assert show.gib(way.deployment.loaded_total_bytes) in words


def test_a_config_is_pasted(visitor, command, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PLAIN_CONFIG))
    visitor.click(visitor.t("in.config_short"))
    visitor.click(visitor.t("in.config_text"), "textarea")
    visitor.driver.switch_to.active_element.send_keys(path.read_text(), "\ue009\ue007")  # Ctrl-Enter
    visitor.click(visitor.t("in.config_use"))
    visitor.shows(command("plan", path, "--on", "8xa100-sxm4-80gb", *FIRST))


def test_the_cheapest_before_a_deadline_with_megatron_files(visitor, command):
    visitor.click(visitor.t("preset.pretrain_8b"))
    visitor.go("search")
    visitor.click(visitor.t("search.by_cost"))
    visitor.click(visitor.t("search.start"), f"{MAIN} button")
    work = ("--tokens", "1T", "--seq-len", "4096", "--batch", "1024", "--price", "on-demand", "--objective", "cost")
    best = command("search", "llama-3-8b", "--on", "256xh100-sxm5-80gb", *work, "--deadline", "30d", "--top", "1")["rows"][0]
    assert best["run_s"] <= 30 * 86400
    with speaking(visitor.language):
        step, gib = show.duration(best["step_time_s"]), show.gib(best["peak_total_bytes"])
    title = visitor.t("search.best", layout=best["layout"], gpus="256 × h100-sxm5-80gb", step=step, gib=gib)
    visitor.until(lambda: title in visitor.text())
    visitor.click(visitor.t("search.files"), ".st-key-search-files button")
    content = visitor.downloaded("megatron.zip", visitor.t("download.launch", stack="megatron"))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        text = "\n".join(archive.read(entry).decode() for entry in archive.namelist())
    assert f"--tensor-model-parallel-size {best['tp']}" in text
    assert f"--pipeline-model-parallel-size {best['pp']}" in text


def test_why_does_it_not_fit(visitor, command):
    visitor.choose(visitor.t("ask.on"), "rtx-3060-12gb")
    answer = command("plan", "chatlaw2-moe-4x7b", "--on", "8xrtx-3060-12gb", *FIRST)
    assert not answer["fits"]
    visitor.shows(answer, names=("gib",))
    assert visitor.figures()["answer"] == [visitor.t("ask.no")]
    visitor.click(visitor.t("ask.onward_memory"), "a")
    visitor.until(lambda: visitor.t("memory.remedies_of", label="chatlaw2-moe-4x7b") in visitor.text())


def test_what_if_spot(visitor, command):
    visitor.go("compare")
    visitor.click(visitor.t("in.price"), '[role="tab"]')
    visitor.choose(visitor.t("in.term"), visitor.t("in.term_spot"))
    visitor.shows(command("plan", "chatlaw2-moe", "--price", "spot"))


def test_a_link_is_shared(visitor, command):
    visitor.go("compare")
    visitor.clicks += 1
    slider = visitor.driver.find_element("css selector", f'input[type="range"][aria-label*="{visitor.t("in.seq_len")}"]')
    visitor.driver.execute_script("arguments[0].focus()", slider)
    slider.send_keys("\ue012")
    answer = command("plan", "chatlaw2-moe", "--set", "job.seq_len=1024")
    visitor.shows(answer, names=("gib", "tokens", "step"))
    link = visitor.driver.current_url
    other = Visitor(visitor.driver, link, visitor.folder, visitor.language)
    other.shows(answer, names=("gib", "tokens", "step"))


def test_a_record_is_uploaded(visitor, command, folder):
    record = DATA / "cpu-record.json"
    visitor.go("calibrate")
    visitor.clicks += 1
    visitor.driver.find_element("css selector", 'input[type="file"]').send_keys(str(record))
    visitor.click(visitor.t("calibrate.use", label="4x7B MoE"))
    command("calibrate", record, "--out", folder / "mine.toml")
    profiles = {"cluster.node": "mine-node.toml", "cluster.accelerator": "mine.toml", "framework.name": "mine-framework.toml"}
    places = [f"--set={field}={folder / name}" for field, name in profiles.items()]
    answer = command("plan", "chatlaw2-moe", *places, "--set", "cluster.num_nodes=1", "--price", "1")  # no catalog has its price
    visitor.until(lambda: "my-amd-epyc" in visitor.figures()["where"][0])
    visitor.shows(answer, names=("gib",))


def test_h100_against_a100(visitor, command):
    visitor.go("compare")
    visitor.click(visitor.t("in.add"), f"{SIDE} button")
    visitor.click(visitor.t("add.copy"))
    visitor.choose(visitor.t("in.card"), "h100-sxm5-80gb")
    answers = [command("plan", "chatlaw2-moe-4x7b", "--on", f"8x{card}-80gb", *FIRST) for card in ("a100-sxm4", "h100-sxm5")]
    visitor.shows(answers[0])
    visitor.shows(answers[1], place=2)
    assert short_text(f"× {answers[1]['step_time_s'] / answers[0]['step_time_s']:.2f}") in visitor.text("table.figures")
