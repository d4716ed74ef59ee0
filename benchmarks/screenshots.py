"""Screenshots of every page for docs/screenshots: light and dark, English and Chinese, 1280 pixels and a phone.

python benchmarks/screenshots.py [--only compare,memory]
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import browser as b  # noqa: E402

from doctools import AS_OF  # noqa: E402
from planner.common import clock  # noqa: E402
from planner.web import state  # noqa: E402

FOLDER = ROOT / "docs" / "screenshots"
PAGES = ("ask", "compare", "memory", "run", "search", "serving", "roofline", "explore", "calibrate", "evidence")
LOOKS = (("light", "en", 1280), ("dark", "en", 1280), ("light", "zh", 1280), ("dark", "zh", 1280), ("light", "en", 390))
TALLEST = {1280: 1500, 390: 1700}
COLOURS = 256
"""Of a picture."""
RARE = 96
"""Of these, for colours unlike the commonest, however rare: the mark of a legend is small."""
TIGHT = {
    "title": "", "cases": [{
        "label": "Llama 2 13B", "tables": {
            "model": {"name": "llama-2-13b"}, "cluster": {"node": "dgx-a100-80gb", "num_gpus": 8},
            "framework": {"name": "megatron-core"}, "price": {"term": "on-demand"},
            "job": {"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**10}, "layout": {"pp": 4, "micro_batch_size": 4},
        },
    }],
}  # fmt: skip
"""A configuration that does not fit, so that the memory page has something to mend."""


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PAGES))
    wanted = parser.parse_args().only.split(",")
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ[clock.VARIABLE] = AS_OF
    with b.server() as address:
        for theme, language, width in LOOKS:
            with b.browser(width, 900, dark=theme == "dark") as driver:
                for page in wanted:
                    place = "" if page == "ask" else page
                    more = f"&s={state.encode(state.checked(TIGHT))}" if page == "memory" else ""
                    driver.get(f"{address}/{place}?lang={language}{more}")
                    b.wait_ready(driver)
                    prepare(driver, page)
                    name = f"{page}-{language}-{theme}" if width > 600 else f"{page}-{language}-phone"
                    save(driver, FOLDER / f"{name}.png", width)
    size = sum(path.stat().st_size for path in FOLDER.glob("*.png"))
    print(f"{len(list(FOLDER.glob('*.png')))} pictures, {size / 1e6:.1f} MB in {FOLDER.relative_to(ROOT)}")


def prepare(driver: Any, page: str) -> None:
    """Give the page something to show."""
    if page == "ask":
        b.wait_for(driver, "return !document.querySelector('[data-testid=\"stProgress\"]')")
    if page == "explore":
        driver.execute_script(
            "[...document.querySelectorAll('[data-testid=stMain] button')].find(e => e.innerText.match(/Sweep|扫描/)).click()"
        )
        b.wait_for(driver, "return document.querySelector('[data-testid=\"stVegaLiteChart\"] svg')")
    if page == "search":
        driver.execute_script("document.querySelector('.st-key-search-start button').click()")
        time.sleep(1.0)  # the page that was there before shows the success of the search before
        bar, success = (f"document.querySelector('[data-testid=\"{name}\"]')" for name in ("stProgress", "stAlertContentSuccess"))
        b.wait_for(driver, f"return !{bar} && {success}")
    if page == "calibrate":
        record = ROOT / "tests" / "data" / "cpu-record.json"
        driver.find_element("css selector", 'input[type="file"]').send_keys(str(record))
        b.wait_for(driver, "return document.querySelectorAll('[data-testid=\"stVegaLiteChart\"] svg').length >= 3")
    time.sleep(1.0)
    b.wait_ready(driver)
    time.sleep(1.0)


def save(driver: Any, path: Path, width: int) -> None:
    """The page from its top, as high as it is, at most TALLEST; few colours."""
    height = driver.execute_script("return document.querySelector('[data-testid=\"stMain\"]').scrollHeight") + 10
    high = min(max(int(height), 800), TALLEST[width])
    size = {"width": width, "height": high, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    time.sleep(1.2)
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    few_colours(picture).save(path, optimize=True)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": 900})
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def few_colours(picture: Image.Image) -> Image.Image:
    """The picture with its commonest colours, and those farthest from them, as they are; every other one as the nearest of them.

    Median cut and the like average colours: white areas came out pink and blue. The commonest alone made a blue mark grey.
    """
    pixels = np.asarray(picture).reshape(-1, 3)
    colours, place, counts = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    palette = colours[np.argsort(-counts)[: COLOURS - RARE]]
    apart = cKDTree(palette.astype(float)).query(colours.astype(float))[0]
    while len(palette) < COLOURS and apart.max() > 0.0:
        chosen = colours[np.argmax(apart)]
        palette = np.vstack([palette, chosen])
        apart = np.minimum(apart, np.linalg.norm(colours.astype(float) - chosen, axis=1))
    nearest = cKDTree(palette.astype(float)).query(colours.astype(float))[1]
    found = Image.fromarray(nearest[place.ravel()].astype(np.uint8).reshape(picture.height, picture.width))
    found.putpalette(palette.astype(np.uint8).tobytes())
    return found


if __name__ == "__main__":
    main()
