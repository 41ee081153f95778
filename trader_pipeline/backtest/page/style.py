"""The page's style sheet: light and dark, wide screens and phones."""

CSS = """\
:root {
  --page: #f5f6f8; --card: #ffffff; --ink: #1c2330; --muted: #5a6474; --line: #dde1e8; --link: #1558b0;
  --warn: #ffe08a; --warn-ink: #3d2c00; --strong: #eaf2fd;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171d; --card: #1d222b; --ink: #e6e9ef; --muted: #a3adbd; --line: #343c49; --link: #8bbcff;
    --warn: #5c4600; --warn-ink: #ffe9ac; --strong: #22324a;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere;
}
header, main { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 24px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 6px; }
h2 { font-size: 1.25rem; margin: 0 0 10px; }
h3 { font-size: 1rem; margin: 18px 0 6px; }
p { margin: 0 0 10px; max-width: 75ch; }
a { color: var(--link); }
.note, header p { color: var(--muted); }
.note { font-size: .9rem; }
.banner {
  position: sticky; top: 0; z-index: 5; padding: 8px 20px; text-align: center;
  background: var(--warn); color: var(--warn-ink);
}
.banner strong { letter-spacing: .05em; margin-right: .4em; }
nav ul {
  display: flex; flex-wrap: wrap; gap: 4px 16px; padding: 0; margin: 0 0 18px; list-style: none; font-size: .92rem;
}
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 18px 20px; margin-bottom: 18px;
  scroll-margin-top: 56px;
}
.scroll { overflow-x: auto; margin-bottom: 12px; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th {
  color: var(--muted); font-weight: 600; vertical-align: bottom; white-space: normal; max-width: 9rem;
  line-height: 1.25;
}
th:first-child, td:first-child { position: sticky; left: 0; background: var(--card); }
th.number, td.number { text-align: right; padding: 5px 0 5px 16px; }
td.number + td:not(.number), th.number + th:not(.number) { padding-left: 20px; }
tr.strong td { background: var(--strong); font-weight: 600; }
section > :last-child { margin-bottom: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 0 40px; }
.pair table { width: 100%; }
.pair th { max-width: none; }
.pair td:first-child { white-space: normal; }
.pair th.number, .pair td.number { padding-left: 10px; }
figure { margin: 0 0 18px; }
.chart { background: #fff; border-radius: 6px; overflow: hidden; }
figcaption { color: var(--muted); font-size: .88rem; margin-top: 4px; max-width: 90ch; }
pre { overflow: auto; max-height: 480px; font-size: .82rem; overflow-wrap: normal; margin: 0; }
code { font-size: .88em; }
summary { cursor: pointer; color: var(--link); margin: 4px 0 10px; }
details th:first-child, details td:first-child { position: static; }
details .scroll { max-height: 420px; overflow-y: auto; }
@media (max-width: 640px) {
  th, td { padding: 4px 6px; font-size: .78rem; }
  header, main { padding-left: 10px; padding-right: 10px; }
  header { padding-top: 16px; }
  section { padding: 14px 12px; }
  h1 { font-size: 1.4rem; }
  th.number, td.number, .pair th.number, .pair td.number { padding-left: 8px; }
}
@media print { .banner { position: static; } section { break-inside: avoid; } }
"""
