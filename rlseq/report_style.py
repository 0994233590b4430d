"""The page around the report: its style, and the words that explain the numbers.

PAGE is a `string.Template`. Nothing is loaded from elsewhere, and the policy in the head forbids it: only this style and
this script, known by their hashes, may run.
"""

LIGHT = """--paper: #f6f7f9; --card: #fff; --ink: #1b1f27; --soft: #566070; --line: #dfe3ea; --link: #1d5fbf; --good: #0e6f3f;
  --bad: #a92f1b; --tint: #eef2f8; --up: 14 111 63; --down: 190 60 30; --heat: 29 95 191; --c0: #7a828f; --c1: #1f2733;
  --c2: #d55e00; --c3: #0072b2; --c4: #009e73; --c5: #b0528f; --c6: #a67c00; --c7: #4aa8dc;"""
DARK = """--paper: #12151b; --card: #1a1e26; --ink: #e6e9ef; --soft: #a3adbd; --line: #2f3642; --link: #7fb2ff; --good: #5fd39a;
  --bad: #ff8f7a; --tint: #232936; --up: 63 190 130; --down: 240 120 95; --heat: 110 170 255; --c0: #8d97a8; --c1: #f0f3f8;
  --c2: #ff9a4d; --c3: #58b4f5; --c4: #3fd6a6; --c5: #e59ac9; --c6: #e6c04a; --c7: #a5dcff;"""

STYLE = ":root { color-scheme: light dark; " + LIGHT + " }\n@media (prefers-color-scheme: dark) { :root { " + DARK + """ } }
* { box-sizing: border-box; } [hidden] { display: none !important; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header, main, footer { max-width: 78rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.25rem; }
h1 { margin: 0; font-size: 1.9rem; letter-spacing: -.02em; line-height: 1.2; }
h2 { margin: 2.25rem 0 .75rem; font-size: 1.4rem; letter-spacing: -.01em; }
.card > h2 { margin-top: 0; }
h3 { margin: 0 0 .5rem; font-size: 1.1rem; }
h4 { margin: 1.75rem 0 .5rem; font-size: 1rem; font-weight: 600; }
a { color: var(--link); } small, .soft { color: var(--soft); } small { font-size: .86em; }
p { margin: .5rem 0; } nav a { display: inline-block; margin: .25rem 1rem .25rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem;
  margin: 0 0 1.25rem; scroll-margin-top: 4.5rem; }
.filters + .card { margin-top: 1.25rem; }
.chips { margin: 0 0 1rem; display: flex; flex-wrap: wrap; gap: .35rem; }
.chips span { font: .75rem ui-monospace, monospace; color: var(--soft); border: 1px solid var(--line);
  border-radius: 99px; padding: .1rem .55rem; overflow-wrap: anywhere; }
.filters { position: sticky; top: 0; z-index: 3; background: var(--paper); border-bottom: 1px solid var(--line);
  margin: .75rem 0 0; padding: .6rem 0; display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  font-size: .9rem; }
.filters label, .picks label { display: inline-flex; gap: .4rem; align-items: center; color: var(--soft); max-width: 100%; }
input[type=search], select, .answers button { font: inherit; color: var(--ink); background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; padding: .25rem .5rem; min-width: 0; max-width: 100%; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem; }
th, td { padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
thead th { font-size: .8rem; color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--card); white-space: normal; min-width: 11rem; }
tbody tr:last-child > * { border-bottom: 0; }
.number { text-align: right; } td.text { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 16rem; }
thead button { all: unset; cursor: pointer; } thead button:hover { color: var(--ink); }
thead button:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
[aria-sort=ascending] button::after { content: " \\2191"; } [aria-sort=descending] button::after { content: " \\2193"; }
.better { color: var(--good); } .worse { color: var(--bad); } .better small, .worse small { color: inherit; }
i[class^=s] { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .5rem; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0 0 .5rem; font-size: .9rem; }
fieldset { border: 0; margin: 0 0 .75rem; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .9rem;
  min-width: 0; }
legend { float: left; padding: 0; color: var(--soft); margin-right: .25rem; }
.figures { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
.figures + .figures { margin-top: 1.25rem; } figure { margin: 0; min-width: 0; }
figcaption { font-size: .9rem; font-weight: 500; }
figure > small { display: block; }
svg.chart { width: 100%; max-width: 30rem; height: auto; display: block; overflow: visible; }
svg text { font-size: 15.5px; fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg polygon { stroke: none; opacity: .16; }
svg g line, svg.whisker line { stroke-width: 2; }
svg .front { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 2 4; }
svg g.d1 polyline { stroke-dasharray: 7 4; } svg g.d2 polyline { stroke-dasharray: 2 3; }
i.d1 { border-radius: 50%; } i.d2 { transform: rotate(45deg) scale(.8); }
svg.whisker { width: 6rem; height: 1rem; display: block; }
.gallery { display: flex; gap: 1rem; overflow-x: auto; margin: .25rem 0 1rem; }
.gallery figure { flex: none; } img.lab { display: block; min-width: min(46rem, 200vw); width: 100%; height: auto; }
.gallery img { height: 17rem; } .gallery img, img.lab { border-radius: 8px; background: #fff; border: 1px solid var(--line); }
details { margin: .75rem 0 0; } summary { cursor: pointer; font-weight: 500; padding: .15rem 0; }
details[open] > summary { margin-bottom: .5rem; } .theme { margin-left: 1rem; } .theme > summary { font-weight: 400; }
.notes { color: var(--soft); font-size: .9rem; padding-left: 1.2rem; }
.picks { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin: .5rem 0 1rem; font-size: .9rem; }
.told { overflow-wrap: anywhere; } .told b { font-weight: 600; color: var(--soft); margin-right: .35rem; }
.stages, .looks { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
.stages > *, .looks > * { min-width: 0; } .answers { list-style: none; margin: 0; padding: 0; display: grid; gap: .4rem; }
.answers button { width: 100%; text-align: left; cursor: pointer; display: block; padding: .4rem .6rem; }
.answers button[aria-pressed=true] { border-color: var(--link); box-shadow: inset 3px 0 var(--link); }
.answers .worth { display: block; font-size: .8rem; color: var(--soft); font-variant-numeric: tabular-nums; }
bdi.token { white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 3px; padding: 0 .1em; }
bdi.apart { margin-right: .3em; }
.look { overflow-x: auto; } svg.heat text { font-size: 12px; } svg.heat rect { fill: rgb(var(--heat)); }
svg.heat .ground { fill: var(--tint); } .steps { max-width: 46rem; margin-top: 1rem; }
svg.plane { width: 100%; max-width: 24rem; height: auto; } svg.plane circle { fill: var(--soft); }
svg.plane polygon { fill: none; opacity: 1; } svg.plane .truth { stroke: rgb(var(--up)); stroke-width: 7; opacity: .35; }
svg.plane .answer { stroke: rgb(var(--down)); stroke-width: 1.8; } svg.plane .named { fill: rgb(var(--down)); }
.key::before { content: ""; display: inline-block; width: 1.2rem; height: .3rem; margin-right: .35rem; vertical-align: middle;
  background: rgb(var(--down)); } .key.truth::before { background: rgb(var(--up)); opacity: .5; } .key { margin-right: 1rem; }
footer { padding: 1rem 1.25rem 3rem; font-size: .9rem; }
@media (max-width: 30rem) { header, main, footer { padding-left: .75rem; padding-right: .75rem; }
  .card { padding: .9rem .75rem; }
  svg text { font-size: 20px; } svg.heat text { font-size: 12px; } th, td { padding-right: .5rem; }
  tbody th { min-width: 7.5rem; }
  .filters { position: static; } h1 { font-size: 1.5rem; } }
""" + "".join(f'.card:has(input[value="{one}"]:checked) [data-cost]:not([data-cost="{one}"]) {{ display: none; }}\n'
              for one in ("updates", "sampled_tokens", "scored_tokens", "seconds")) + \
    "\n".join(f"svg .s{i}, svg.s{i} {{ stroke: var(--c{i}); }} svg .s{i} :is(circle, polygon), svg.s{i} circle "
              f"{{ fill: var(--c{i}); }} i.s{i} {{ background: var(--c{i}); }}" for i in range(8))

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>rlseq: results</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src $style_hash; script-src $script_hash;
 img-src data:; base-uri 'none'; form-action 'none'">
<style>$style</style></head><body>
<header><h1>What sequence-level training changed</h1>
<p class="soft">$counted. Every algorithm of a table started from the same pretrained checkpoints and had the same
budget; only results of equal rules on the same problems share a table.</p><nav aria-label="tasks">$contents</nav></header>
<main><form class="filters" id="filters" hidden>
<label>task <select id="by-task"><option value="">all</option></select></label>
<label>algorithm <select id="by-algo"><option value="">all</option></select></label>
<label>rows with <input type="search" id="by-text" placeholder="any text" autocomplete="off"></label>
<output class="soft" id="count" aria-live="polite"></output></form>
$body</main>
<footer class="soft"><p><b>How to read it.</b> Scores are means over training seeds. Brackets hold 95&nbsp;% intervals,
which cover other seeds and other test problems; with one seed, other problems only. Signal gain, the headline of learning by
reward, is over the strongest control: MLE continued, the algorithm paid a constant or shuffled reward, MLE sampled at the
temperature that matches the policy's entropy; its interval lies above zero only where every control is beaten. Differences
are paired on the same problems and seeds; green and red ones have an interval that leaves zero outside. p is two-sided from
the paired
bootstrap, after Holm over the algorithms of a table. Bold: better than every other row beyond chance. Costs are those of
the stage in the row: pretraining for the pretrained checkpoint, fine-tuning for the others; in the figures the pretrained
checkpoint costs nothing, for all systems start from it.</p>
<p>Written by <code>python -m rlseq.report</code>.</p></footer>
<script>$script</script></body></html>
"""
