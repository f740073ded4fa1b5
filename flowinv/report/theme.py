"""The page's style sheet: one column, light and dark by preference, plain in print."""

__all__ = ["STYLESHEET"]

STYLESHEET = """
:root { color-scheme: light dark; --ground: #ffffff; --card: #f6f8fa; --ink: #1f2328;
  --muted: #6e7781; --grid: #d0d7db; --link: #0b62a8; --good: #1a7f4e; --warn: #8a5a00;
  --bad: #b42318; --series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73;
  --series-3: #cc79a7; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181d; --card: #1c2229; --ink: #e6eaee; --muted: #929ca6;
    --grid: #343c45; --link: #6cb6ff; --good: #57c98d; --warn: #e0b252;
    --bad: #ff8b80; --series-0: #4ba6e3; --series-1: #f0803c; --series-2: #2fc796;
    --series-3: #dd94bd; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1.25rem 4rem;
  background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 0.6rem; padding-top: 0.6rem;
  border-top: 1px solid var(--grid); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.4rem; }
p { max-width: 46rem; margin: 0.5rem 0; }
a { color: var(--link); }
nav { font-size: 0.9rem; margin: 0.4rem 0 1rem; }
nav a { margin-right: 1rem; white-space: nowrap; }
figure { margin: 1rem 0; break-inside: avoid; }
figure svg { display: block; }
figcaption, .note { color: var(--muted); font-size: 0.88rem; max-width: 46rem; }
.scroll { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.3rem; }
th, td { padding: 0.28rem 0.9rem 0.28rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--grid); font-weight: 400; }
th[scope="row"] { white-space: nowrap; }
thead th { font-weight: 600; vertical-align: bottom; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
.summary { background: var(--card); border-radius: 8px; padding: 0.4rem 1.2rem 1rem; }
.summary h2 { border: 0; margin: 0.6rem 0 0; }
.summary td.caution, .summary td.trusted, .summary td.not-trusted { font-weight: 600; }
.verdicts { list-style: none; padding: 0; margin: 0.3rem 0; }
.verdicts li { display: grid; grid-template-columns: 8.5rem 8rem 1fr; gap: 0 0.8rem;
  padding: 0.35rem 0; border-bottom: 1px solid var(--grid); }
.verdicts li:last-child { border: 0; }
.verdicts li p { margin: 0; max-width: none; }
.verdicts b { overflow-wrap: anywhere; }
.trusted span { color: var(--good); } .caution span { color: var(--warn); }
.not-trusted span { color: var(--bad); } .unchecked span { color: var(--muted); }
.verdicts span { font-weight: 600; white-space: nowrap; }
.answer td:last-child, .answer th:last-child { position: sticky; right: 0;
  background: var(--card); padding: 0.28rem 0.3rem; white-space: nowrap; }
.answer td { font-size: 1rem; } .answer th[scope="row"] { font-weight: 600; }
.derived th[scope="row"], .derived td { color: var(--muted); font-weight: 400; }
.group tr:not(:last-child) td { border-bottom: 0; }
.group th { font-weight: 600; white-space: nowrap; }
.steps { padding-left: 1.1rem; margin: 0.3rem 0; }
code { background: var(--ground); border: 1px solid var(--grid); border-radius: 4px;
  padding: 0.1rem 0.35rem; font-size: 0.86rem; overflow-wrap: anywhere; }
dl.meaning { font-size: 0.86rem; margin: 0.4rem 0 1rem; columns: 2 22rem; gap: 2rem; }
dl.meaning div { break-inside: avoid; margin-bottom: 0.35rem; }
dl.meaning dt { font-weight: 600; display: inline; }
dl.meaning dt::after { content: ": "; }
dl.meaning dd { display: inline; margin: 0; color: var(--muted); }
details { border-top: 1px solid var(--grid); padding: 0.5rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 640px) { .verdicts li { grid-template-columns: 1fr auto; }
  .verdicts li p { grid-column: 1 / -1; } body { padding: 1rem 0.8rem; }
  .answer td:last-child, .answer th:last-child { position: static; }
  .answer th[scope="row"] { white-space: normal; } }
@media print {
  :root { color-scheme: light; --ground: #ffffff; --card: #ffffff; --ink: #000000;
    --muted: #4b5560; --grid: #b8c0c7; --link: #000000; --good: #0f5c37;
    --warn: #6b4600; --bad: #8f1b12; --series-0: #0072b2; --series-1: #d55e00;
    --series-2: #009e73; --series-3: #cc79a7; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; } h2, h3, caption, summary { break-after: avoid; }
  table { break-inside: avoid; } .scroll { overflow: visible; }
  .summary { border: 1px solid var(--grid); }
  details::details-content { content-visibility: visible; height: auto; }
}
""".strip()
