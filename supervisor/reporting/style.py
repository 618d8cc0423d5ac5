"""Style of the reports; the colours are those of the status page. Contains no ``<`` and no ``&``."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  --paper: #fff; --panel: #f4f6f8; --ink: #14191f; --soft: #58626d; --rule: #dde2e7; --nobody: #c3c9cf;
  --live: #009e73; --degraded: #e69f00; --down: #d55e00; --outage: #8c4a8f; --line: #0072b2; --before: #89939d;
  --live-text: #00795a; --degraded-text: #a35c00; --down-text: #b93a00; --outage-text: #7d3c80;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #0e1216; --panel: #171c22; --ink: #e9edf1; --soft: #9aa5b0; --rule: #2a323a; --nobody: #3c454e;
    --outage: #b06fb3; --line: #56b4e9; --before: #78828c;
    --live-text: #33c79b; --degraded-text: #f0b43c; --down-text: #ff8a4a; --outage-text: #cf95d2;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.25rem 1rem 3rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums;
}
header { border-bottom: 1px solid var(--rule); padding-bottom: .75rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .1rem 0 .5rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; }
h3 { font-size: .95rem; margin: 0 0 .2rem; font-weight: 600; }
p { margin: .2rem 0; overflow-wrap: anywhere; }
.title { color: var(--soft); font-weight: 600; }
.fact, .about, figcaption { color: var(--soft); font-size: .875rem; }
.about { max-width: 60rem; margin-bottom: .6rem; }
.live { color: var(--live-text); }
.degraded { color: var(--degraded-text); }
.down, .person { color: var(--down-text); }
.outage { color: var(--outage-text); }
.stopped, .unwatched, .none { color: var(--soft); }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible { outline: 2px solid var(--line); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; vertical-align: middle; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
.wide tbody th, .plots tbody th { white-space: nowrap; }
tfoot td { border-bottom: 0; }
.n + td:not(.n), .n + th:not(.n) { padding-left: 1.2rem; }
.n { text-align: right; padding: .3rem 0 .3rem .9rem; white-space: nowrap; }
.wide tbody th, .wide thead th:first-child {
  position: sticky; left: 0; background: var(--paper); padding-right: .8rem;
}
.wide td { white-space: nowrap; }
.wide .n { padding-left: .6rem; }
.remark { display: block; width: 12rem; white-space: normal; font-weight: 400; color: var(--soft); line-height: 1.25; }
.plot { width: 100%; min-width: 7rem; }
.plot svg { width: 100%; height: 22px; }
td.plot { padding: .15rem 0; }
.axis svg { height: 16px; }
.cell svg { width: 4.5rem; height: 8px; display: block; margin-left: auto; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; padding: .6rem .7rem; background: var(--panel); border-radius: 6px; break-inside: avoid; }
figure svg { width: 100%; height: auto; }
svg { display: block; overflow: visible; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--rule); stroke-width: 1; fill: none; }
.limit { stroke: var(--down); stroke-width: 1; stroke-dasharray: 4 3; fill: none; }
.now, .past { fill: none; stroke-width: 1.3; stroke-linejoin: round; stroke-linecap: round; }
.spread { opacity: .3; }
.now { stroke: var(--line); }
.past { stroke: var(--before); }
.bar-live { fill: var(--live); }
.bar-degraded { fill: var(--degraded); stroke: var(--degraded); }
.bar-down, .bar-person { fill: var(--down); stroke: var(--down); }
.bar-outage { fill: var(--outage); stroke: var(--outage); }
.bar-stopped, .bar-unwatched { fill: var(--nobody); stroke: var(--nobody); }
.bar-ink { fill: var(--ink); }
.bar-line { fill: var(--line); }
.bar-past { fill: var(--before); }
.bar-track { fill: var(--rule); }
.pale { opacity: .45; }
.mark { stroke: var(--ink); stroke-width: 2; }
.mark-reconnect { stroke: var(--line); stroke-width: 2; }
.legend {
  display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .5rem 0; padding: 0; list-style: none; font-size: .875rem;
}
.legend svg { display: inline-block; width: 14px; height: 12px; margin-right: .35rem; vertical-align: -1px; }
@media (max-width: 32rem) {
  body { padding: .9rem .75rem 2rem; }
  h1 { font-size: 1.25rem; }
  .n { padding-left: .5rem; }
  .remark { width: 8rem; font-size: .8rem; }
  .axis .minor { display: none; }
  .plots tbody th { white-space: normal; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .scroll { overflow: visible; }
  section > h2 { break-after: avoid; }
  tr { break-inside: avoid; }
  .charts { grid-template-columns: repeat(2, 1fr); }
  .wide th, .wide td, .n { white-space: normal; }
  table { font-size: 8pt; }
}
"""
