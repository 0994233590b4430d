"""Gates: the report in a real browser. It loads in silence, sorts, filters, explores, and can be read anywhere."""

import sys
from dataclasses import replace

import pytest

from rlseq.report_groups import Judge, groups
from rlseq.report_html import page
from tests.browser import Browser, find
from tests.unit.test_report import run
from tests.unit.test_report_page import HOSTILE, full

pytestmark = [
    pytest.mark.skipif(find() is None, reason="no chromium or chrome on this machine; install one to test the report's page"),
    pytest.mark.skipif(sys.platform == "win32", reason="the browser is spoken to through pipes of Unix")]

# The least size of visible text in px, with what it says; SVG text scales with its picture.
SMALLEST = """(() => {
  let found = [99, ""];
  for (const node of texts()) {
    const one = node.parentElement, svg = one.closest("svg");
    const scale = svg ? one.getScreenCTM().a / Math.cos(Math.atan2(one.getScreenCTM().b, one.getScreenCTM().a)) : 1;
    const size = parseFloat(getComputedStyle(one).fontSize) * scale;
    if (size < found[0]) found = [size, node.data.trim()];
  }
  return found;
})()"""
# The least contrast (WCAG 2.1, 1.4.3) of visible text with what lies behind it, with what it says.
FAINTEST = """(() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => a * top[i] + (1 - a) * below[i]); };
  const light = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = one => one === null ? [255, 255, 255]
    : over(channels(getComputedStyle(one).backgroundColor), one.parentElement ? behind(one.parentElement) : [255, 255, 255]);
  let found = [99, ""];
  for (const node of texts()) {
    const one = node.parentElement, style = getComputedStyle(one), ground = behind(one);
    const ink = over(channels(one.closest("svg") ? style.fill : style.color), ground);
    const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < found[0]) found = [contrast, node.data.trim()];
  }
  return found;
})()"""
HELPERS = """globalThis.texts = () => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walk.nextNode()) {
    const node = walk.currentNode, one = node.parentElement;
    if (node.data.trim() && !one.closest("script, title, option, noscript") && one.checkVisibility()) found.push(node);
  }
  return found;
}; document.querySelectorAll("details").forEach(one => { one.open = true; }); 1"""
ROWS = "[...document.querySelector('[data-task] table').tBodies[0].rows].filter(row => row.checkVisibility())"
NAMES = f"{ROWS}.map(row => row.cells[0].textContent)"


@pytest.fixture(scope="module")
def browser():
    with Browser(find()) as one:
        yield one


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with everything that a page may hold; its words are hostile where others may write them."""
    word = " ".join(HOSTILE[:4])
    made = [run("mle", seed, 120) for seed in range(2)]
    made += [replace(full(run(algo, seed, right), word),
                     curve=[{"stage": "finetune", "updates": i, "seconds": i, "sampled_tokens": i, "scored_tokens": i,
                             "dev": 50.0 + i, "reward": 0.1 * i, "kl": 0.01 * i} for i in range(3)])
             for algo, right in (("reinforce", 150), ("a_rather_long_name_of_an_algorithm", 90)) for seed in range(2)]
    lab = tmp_path_factory.mktemp("page") / "lab.svg"
    lab.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="900" height="300"><script>alert(1)</script></svg>')
    path = lab.with_name("index.html")
    others = [replace(one, task="zoo") for one in made[:2]]
    path.write_text(page([Judge(one) for one in groups(made + others)], [word], lab), encoding="utf-8")
    return path


def test_the_page_loads_in_silence_and_stays_so_when_all_of_it_is_opened(browser, report):
    browser.open(report)
    browser.run(HELPERS)
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("document.querySelectorAll('.explorer .answers button').length") > 0
    assert browser.run("document.querySelector('img.lab').naturalWidth") == 900
    assert browser.errors == []


def test_heads_sort_both_ways_by_number_or_word_and_by_keyboard(browser, report):
    browser.open(report)
    scores = f"{ROWS}.map(row => Number(row.cells[3].dataset.order))"
    head = "document.querySelectorAll('[data-task] thead button')[{}]"
    browser.run(head.format(3) + ".click()")
    found = browser.run(scores)
    assert len(found) == 4 and found == sorted(found, reverse=True)
    browser.run(head.format(3) + ".focus()")
    browser.press("Enter", 13, "\r")
    assert browser.run(scores) == sorted(found)
    assert browser.run(head.format(3) + ".parentNode.getAttribute('aria-sort')") == "ascending"
    browser.run(head.format(0) + ".click()")
    names = browser.run(NAMES)
    assert names == sorted(names) and names[0].startswith("a_rather")


def test_filters_leave_what_fits_and_can_be_linked_to(browser, report):
    browser.open(report)
    everything = len(browser.run(NAMES))
    browser.run("""(field => { field.value = 'reinforce'; field.dispatchEvent(new Event('input', {bubbles: true})); })
                   (document.getElementById('by-algo'))""")
    assert browser.run(NAMES) == ["reinforce"] and everything == 4
    assert browser.run("document.getElementById('count').textContent").split(" of ")[0].isdigit()
    others = "[...document.querySelectorAll('svg [data-algo=mle]')].map(one => getComputedStyle(one).display)"
    assert set(browser.run(others)) == {"none"}
    address = browser.run("location.hash")
    browser.open(report, address)
    assert address == "#algo=reinforce" and browser.run(NAMES) == ["reinforce"]
    browser.open(report, "#task=zoo-v0")
    tasks = "[...document.querySelectorAll('[data-task]')].filter(one => one.checkVisibility()).map(one => one.dataset.task)"
    assert browser.run(tasks) == ["zoo-v0"]
    browser.open(report, "#text=PRETRAINED")
    assert browser.run(NAMES) == ["mle pretrained"]


def test_the_cost_of_the_figures_can_be_chosen(browser, report):
    browser.open(report)
    shown = """[...document.querySelectorAll('#g0 [data-cost]')].filter(one => one.checkVisibility())
               .map(one => one.dataset.cost)"""
    assert browser.run(shown) == ["updates"]
    browser.run("document.querySelector('input[value=sampled_tokens]').click()")
    assert browser.run(shown) == ["sampled_tokens"]


def test_the_explorer_shows_answers_maps_and_outlines_as_text(browser, report):
    browser.open(report)
    browser.run("document.querySelector('details.explorer').open = true")
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("document.querySelectorAll('.answers button').length") == 4          # two stages of two answers
    token = browser.run("document.querySelector('.answers bdi').textContent")
    assert token == " ".join(HOSTILE[:4]), "a hostile word is shown as it was written"
    assert browser.run("document.querySelectorAll('.explorer :is(img, script)').length") == 0
    assert browser.run("document.querySelectorAll('.heat rect[fill-opacity]').length") == 4    # weights in the map
    assert browser.run("document.querySelectorAll('.plane polygon').length") == 2
    browser.run("document.querySelectorAll('.answers button')[0].focus()")
    browser.press("Enter", 13, "\r")
    assert browser.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert browser.errors == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_legible(browser, report, width, dark):
    browser.open(report, width=width, dark=dark)
    browser.run(HELPERS)
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("innerWidth") == width
    assert browser.run("document.scrollingElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    size, text = browser.run(SMALLEST)
    assert size >= 12, f"{text!r} is {size:.1f} px"
    contrast, text = browser.run(FAINTEST)
    assert contrast >= 4.5, f"{text!r} has contrast {contrast:.2f}"
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(", "))) < 120) == dark


def test_tables_can_be_read_without_the_script(browser, report, tmp_path):
    bare = tmp_path / "bare.html"
    bare.write_text(report.read_text(encoding="utf-8").replace("<script>\"use strict\"", "<script>throw 0; \"use strict\""),
                    encoding="utf-8")
    browser.open(bare)
    assert browser.errors, "the changed script was to be refused"
    assert len(browser.run(NAMES)) == 4 and browser.run("document.getElementById('filters').checkVisibility()") is False
