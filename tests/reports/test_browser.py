"""The report in a real browser: what is drawn follows the controls, nothing is loaded, it fits a phone and prints."""

import base64
import json
import shutil

import numpy as np
import pytest

from vafa_monai.reports import build_report

webdriver = pytest.importorskip("selenium.webdriver")
wait = pytest.importorskip("selenium.webdriver.support.wait")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH"),
]

LARGEST_FILE = 15_000_000
WIDTHS = (1400, 400)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PANES = ("image", "attacked", "change", "reference", "before", "after")


@pytest.fixture(scope="module")
def path(writers, tmp_path_factory):
    """A report of two models with volumes of full size, audits and all."""
    results = tmp_path_factory.mktemp("browser") / "results"
    write_result, write_audit, _ = (writer(results) if writer is not writers[2] else writer for writer in writers)
    for model, better in (("standard", 0.0), ("hardened", 0.1)):
        for attack, dice in (("identity", 0.8), ("pgd", 0.5), ("vafa_authors", 0.4), ("gaussian_noise", 0.75)):
            role = "control" if attack in ("identity", "gaussian_noise") else "attack"
            enlarge(write_result(model, attack, dice + better, role=role, slices=True), seed=int(100 * dice))
    write_audit("standard", "FAIL", ("FAIL", "PASS"))
    write_audit("hardened", "WARN", ("PASS", "WARN", "SKIP"))
    files = build_report(results, results.parent / "report", title="In a browser", trained_on="vafa_authors")
    return files["html"]


def enlarge(path, seed):
    """Give a result a volume of the largest size, with noise in it, which packs badly."""
    generator = np.random.default_rng(seed)
    shape, clean_run = (96, 96, 48), path.stem == "identity"
    ball = (np.indices(shape) - np.array([48, 40, 24]).reshape(3, 1, 1, 1)) ** 2
    label = (ball.sum(0) < 20**2).astype(np.uint8) + (ball.sum(0) < 10**2)
    delta = np.zeros(shape, np.int8) if clean_run else generator.integers(-127, 128, shape).astype(np.int8)
    pred = np.where(generator.random(shape) < (0.02 if clean_run else 0.3), 0, label)
    clean = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    volumes = {
        "volume_clean": clean,
        "volume_label": label,
        "volume_pred": pred.astype(np.uint8),
        "volume_delta": delta,
    }
    file = path.with_suffix(".npz")
    with np.load(file) as arrays:
        np.savez(file, **{key: arrays[key] for key in arrays.files} | volumes)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(params=WIDTHS)
def page(request, browser, path):
    """The report, loaded anew, when the viewer has drawn for the first time."""
    metrics = {"width": request.param, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    set_media(browser, "prefers-reduced-motion", "reduce")  # a click would meet the page while it scrolls
    browser.get(path.as_uri())
    drawn(browser, after=0)
    return browser


def set_media(browser, feature, value):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": feature, "value": value}]})


def part(page, name):
    return page.find_element("css selector", f'#viewer [data-part="{name}"]')


def drawn(page, after):
    """Wait until the viewer has drawn more often than ``after``; return how often."""
    count = "return Number(document.getElementById('viewer').dataset.drawn || 0)"
    wait.WebDriverWait(page, 20).until(lambda one: one.execute_script(count) > after)
    return page.execute_script(count)


def pictures(page):
    """Return what is drawn on every canvas."""
    script = """return Object.fromEntries(
        [...document.querySelectorAll("#viewer canvas")].map(one => [one.dataset.part, one.toDataURL()]))"""
    return page.execute_script(script)


def changed(page, action):
    """Return the panes whose picture an action changes."""
    before, count = pictures(page), drawn(page, after=0)
    action()
    drawn(page, after=count)
    return {name for name, picture in pictures(page).items() if picture != before[name]}


def choose(page, name, index):
    script = "arguments[0].selectedIndex = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
    page.execute_script(script, part(page, name), index)


def test_every_pane_is_drawn_and_differs(page):
    found = pictures(page)
    assert set(found) == set(PANES)
    assert len(set(found.values())) == len(PANES)


def test_slider_moves_through_the_slices_by_keys(page):
    slider = part(page, "slice")
    assert slider.get_attribute("value") == "24"
    assert changed(page, lambda: slider.send_keys("\ue014")) == set(PANES)  # arrow to the right
    assert slider.get_attribute("value") == "25"
    assert slider.get_attribute("aria-valuetext") == "slice 26 of 48"
    assert changed(page, lambda: part(page, "panes").send_keys("\ue012")) == set(PANES)  # arrow to the left
    assert slider.get_attribute("value") == "24"


def test_organ_toggles_change_the_masks_only(page):
    boxes = part(page, "organs").find_elements("tag name", "input")
    assert len(boxes) == 2
    assert changed(page, boxes[0].click) == {"reference", "before", "after"}
    assert changed(page, boxes[1].click) == {"reference", "before", "after"}
    assert "no organ is switched on" in part(page, "after").get_attribute("aria-label")
    boxes[0].click()
    assert changed(page, boxes[1].click) == {"reference", "before", "after"}


def test_attack_and_model_change_what_belongs_to_them(page):
    assert changed(page, lambda: choose(page, "attack", 0)) == {"attacked", "change", "after"}
    assert "PGD on standard, case one, slice 25 of 48" in part(page, "status").text
    choose(page, "model", 1)
    drawn(page, after=2)
    assert part(page, "attack").get_attribute("value") == "PGD"
    assert "0.590" in part(page, "status").text  # (0.6 - 0.01): the DSC of this case, not the mean


def test_broken_voxels_can_be_marked(page):
    assert changed(page, part(page, "marks").click) == {"after"}


def test_nothing_leaves_the_file_and_no_error_is_logged(page, path):
    for log in ("performance", "browser"):
        page.get_log(log)  # of what came before
    page.refresh()
    drawn(page, after=0)
    changed(page, lambda: part(page, "slice").send_keys("\ue014"))
    changed(page, lambda: choose(page, "attack", 0))
    choose(page, "model", 1)
    drawn(page, after=3)
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"}
    assert {url for url in urls if not url.startswith("data:")} == {path.as_uri()}
    assert page.get_log("browser") == []


def test_page_is_no_wider_than_the_window(page):
    width, window = page.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert width <= window


def test_every_picture_has_a_text(page):
    script = """return [...document.querySelectorAll("img, canvas, svg")]
        .filter(one => !(one.alt || one.getAttribute("aria-label"))).length"""
    assert page.execute_script(script) == 0
    assert page.execute_script("return document.querySelectorAll('img, canvas, svg').length") > 8


def test_heading_sorts_its_column_both_ways(page):
    script = """return [...document.querySelector("table.dense").tBodies[0].rows]
        .map(row => Number(row.cells[2].dataset.value))"""
    written = page.execute_script(script)
    heading = page.find_elements("css selector", "table.dense thead th button")[2]
    heading.click()
    rising = page.execute_script(script)
    assert rising == sorted(written) != written
    heading.click()
    assert page.execute_script(script) == rising[::-1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ink_can_be_read_on_paper(page, scheme):
    set_media(page, "prefers-color-scheme", scheme)
    style = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    ink, paper = (luminance(color) for color in page.execute_script(style))
    assert (ink < paper) is (scheme == "light")
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7  # WCAG's AAA


def luminance(color):
    """Relative luminance of ``rgb(r, g, b)`` (WCAG 2)."""
    channels = [int(value) / 255 for value in color.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_page_prints(page):
    assert base64.b64decode(page.print_page()).startswith(b"%PDF")


def test_file_is_small_enough(path):
    assert path.stat().st_size < LARGEST_FILE


def test_middle_slice_is_shown_without_scripts(browser, path):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(path.as_uri())
        figure = browser.find_element("css selector", 'img[alt^="The middle slice"]')
        assert figure.is_displayed()
        assert not browser.find_element("id", "viewer").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
