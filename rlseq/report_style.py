"""The page around the report: style, the script that sorts tables, and the words that explain the numbers.

A `string.Template`: $contents, $body and $counted are filled in; nothing is loaded from elsewhere, and the policy in
the head forbids it.
"""

STYLE = """
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #fff; --ink: #1b1f27; --soft: #5d6675; --line: #dfe3ea;
  --link: #1d5fbf; --good: #117a46; --bad: #b3341f; --c0: #7a828f; --c1: #1f2733; --c2: #d55e00; --c3: #0072b2;
  --c4: #009e73; --c5: #b0528f; --c6: #a67c00; --c7: #4aa8dc; }
@media (prefers-color-scheme: dark) { :root { --paper: #12151b; --card: #1a1e26; --ink: #e6e9ef; --soft: #9aa4b5;
  --line: #2f3642; --link: #7fb2ff; --good: #5fd39a; --bad: #ff8f7a; --c0: #8d97a8; --c1: #f0f3f8; --c2: #ff9a4d;
  --c3: #58b4f5; --c4: #3fd6a6; --c5: #e59ac9; --c6: #e6c04a; --c7: #a5dcff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header, main, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.25rem; }
h1 { margin: 0; font-size: 1.9rem; letter-spacing: -.02em; }
h2 { margin: 2.25rem 0 .75rem; font-size: 1.4rem; letter-spacing: -.01em; }
h3 { margin: 0 0 .5rem; font-size: 1.1rem; }
h4 { margin: 1.75rem 0 .5rem; font-size: .95rem; color: var(--soft); font-weight: 600; }
a { color: var(--link); } small, .soft { color: var(--soft); } small { font-size: .85em; }
nav a { display: inline-block; margin: .5rem 1rem 0 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem;
  margin: 0 0 1.25rem; scroll-margin-top: 1rem; }
.chips { margin: 0 0 1rem; display: flex; flex-wrap: wrap; gap: .35rem; }
.chips span { font: .75rem ui-monospace, monospace; color: var(--soft); border: 1px solid var(--line);
  border-radius: 99px; padding: .1rem .55rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
thead th { font-size: .8rem; color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--card); }
tbody tr:last-child > * { border-bottom: 0; }
.number { text-align: right; } td.text { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 14rem; }
thead button { all: unset; cursor: pointer; } thead button:hover { color: var(--ink); }
thead button:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
[aria-sort=ascending] button::after { content: " \\2191"; } [aria-sort=descending] button::after { content: " \\2193"; }
.better { color: var(--good); } .worse { color: var(--bad); } .better small, .worse small { color: inherit; }
i[class^=s] { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .5rem; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0 0 .5rem; font-size: .9rem; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
figure { margin: 0; } figcaption { font-size: .85rem; color: var(--soft); }
svg.curves { width: 100%; max-width: 38rem; height: auto; display: block; }
svg text { font-size: 11px; fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; opacity: .85; }
svg polyline:hover { stroke-width: 3.5; opacity: 1; }
svg.whisker { width: 7.5rem; height: 1rem; display: block; } svg.whisker line { stroke-width: 2; }
.gallery { display: flex; gap: 1rem; overflow-x: auto; margin: .25rem 0 1rem; }
.gallery figure { flex: none; }
.gallery img { height: 17rem; display: block; border-radius: 8px; background: #fff; border: 1px solid var(--line); }
details { margin: .5rem 0; } summary { cursor: pointer; }
h4 + details { margin-top: 0; } section > details:last-child { margin-top: 1.5rem; color: var(--soft); }
.notes { color: var(--soft); font-size: .9rem; padding-left: 1.2rem; }
footer { padding: 1rem 1.25rem 3rem; font-size: .9rem; }
""" + "\n".join(f"svg .s{i} {{ stroke: var(--c{i}); }} svg circle.s{i} {{ fill: var(--c{i}); }} "
                f"i.s{i} {{ background: var(--c{i}); }}" for i in range(8))

SCRIPT = """
for (const button of document.querySelectorAll("thead button")) button.addEventListener("click", () => {
  const head = button.parentNode;
  const column = [...head.parentNode.children].indexOf(head), body = head.closest("table").tBodies[0];
  const numbers = body.querySelector("tr")?.children[column].classList.contains("number");
  const down = head.hasAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numbers;
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = row => { const cell = row.children[column];
    return numbers ? parseFloat(cell.dataset.order ?? "NaN") : cell.textContent; };
  const compare = (a, b) => { const x = value(a), y = value(b);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1); };
  body.append(...[...body.rows].sort(compare));
});
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>rlseq: results</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<style>""" + STYLE + """</style></head><body>
<header><h1>What sequence-level training changed</h1>
<p class="soft">$counted. Every algorithm of a table started from the same pretrained checkpoints and had the same
budget; only results of equal rules on the same problems share a table.</p><nav>$contents</nav></header>
<main>$body</main>
<footer class="soft"><p><b>How to read it.</b> Scores are means over training seeds. Brackets hold 95&nbsp;% intervals,
which cover other seeds and other test problems; with one seed, other problems only. Differences are to MLE continued
for the same budget, paired on the same problems and seeds; green and red ones have an interval that leaves zero
outside. p is two-sided from the paired bootstrap, after Holm over the algorithms of a table. Bold: better than every
other row beyond chance. Costs are those of the stage in the row: pretraining for the pretrained checkpoint, fine-tuning
for the others.</p>
<p>Written by <code>python -m rlseq.report</code>.</p></footer>
<script>""" + SCRIPT + """</script></body></html>
"""
