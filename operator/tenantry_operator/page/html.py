"""The status page as HTML. Complete without JavaScript; the script only filters and refreshes. Pure."""

from collections.abc import Iterable
from html import escape

from tenantry_operator.kube.events import Told
from tenantry_operator.page.view import NodeAtRisk, Overview, Row

#: Percent of a budget from which on its cell is marked, as the alerts have it.
NEAR, OVER = 80, 100

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #b3261e; --warn: #8a5a00; --good: #1b6e2f; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --warn: #ffc766; --good: #7fdc96; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: baseline; }
ul.sums { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: .75rem 0; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; padding: .25rem 0; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
#tenants { table-layout: fixed; } #tenants td, #tenants th { overflow-wrap: break-word; }
#tenants th:nth-child(1), #tenants th:nth-child(4) { width: 23%; }
#tenants th:nth-child(2) { width: 11%; } #tenants th:nth-child(8) { width: 13%; }
tbody tr { content-visibility: auto; contain-intrinsic-size: auto 2rem; }
.bad { color: var(--bad); font-weight: 600; } .warn { color: var(--warn); font-weight: 600; }
.good { color: var(--good); }
input { font: inherit; padding: .3rem .5rem; min-width: 16rem; }
"""

_SCRIPT = """
const filter = document.getElementById('filter');
function sift() {
  const wanted = filter.value.trim().toLowerCase();
  let shown = 0;
  for (const row of document.querySelectorAll('#tenants tbody tr')) {
    row.hidden = wanted !== '' && !row.dataset.text.includes(wanted);
    if (!row.hidden) shown += 1;
  }
  document.getElementById('shown').textContent = shown;
}
filter.addEventListener('input', sift);
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, {cache: 'no-store'});
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const part of document.querySelectorAll('[data-live]'))
      part.replaceChildren(...fresh.getElementById(part.id).childNodes);
    document.getElementById('lost').hidden = true;
    sift();
  } catch { document.getElementById('lost').hidden = false; }
}
setInterval(refresh, 10000);
sift();
document.documentElement.dataset.interactive = 'yes';
"""


def page(content: Overview) -> str:
    """The whole page."""
    body = _leading(content) if content.leading else _standing_by()
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tenantry: status</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _standing_by() -> str:
    return """<main><h1>This replica stands by</h1>
<p>The one that holds the Lease knows the tenants:
<code>kubectl get lease tenantry-operator --namespace tenantry-system</code> says which pod that is (HOLDER, without its
last part). Forward that pod's port.</p></main>"""


def _leading(content: Overview) -> str:
    ready = sum(row.ready for row in content.rows)
    sums = "".join(f"<li>{escape(reason or 'no condition')}: <b>{count}</b></li>" for reason, count in content.reasons)
    return f"""<header><h1>Tenantry</h1>
<p id="when" data-live>As of <time>{content.time:%Y-%m-%d %H:%M:%S} UTC</time></p>
<p id="lost" class="bad" role="alert" hidden>No answer from the operator; what you see is old.</p></header>
<main>
<section aria-labelledby="t"><h2 id="t">Tenants</h2>
<div id="sums" data-live><p><b>{ready}</b> of <b>{len(content.rows)}</b> are ready.</p>
<ul class="sums">{sums}</ul></div>
<p><label>Filter <input id="filter" type="search" autocomplete="off" placeholder="name, tier or reason"></label>
<span role="status"><span id="shown">{len(content.rows)}</span> shown</span></p>
<table id="tenants"><caption>Those that are not ready come first.</caption>
<thead><tr><th scope="col">Name</th><th scope="col">Tier</th><th scope="col">Ready</th><th scope="col">Reason</th>
<th scope="col" class="n">Pods</th><th scope="col" class="n">In flight</th><th scope="col" class="n">Spend, $</th>
<th scope="col" class="n">Of budget</th></tr></thead>
<tbody id="rows" data-live>{"".join(map(_row, content.rows))}</tbody></table></section>
<section aria-labelledby="n"><h2 id="n">Nodes at risk</h2>
<div id="nodes" data-live>{_nodes(content.nodes)}</div></section>
<section aria-labelledby="e"><h2 id="e">Last events</h2>
<div id="events" data-live>{_events(content.events)}</div></section>
</main>
<script>{_SCRIPT}</script>"""


def _row(row: Row) -> str:
    state = '<td class="good">yes</td>' if row.ready else '<td class="bad">no</td>'
    reason = escape(row.reason) + (f"<br><small>{escape(row.message)}</small>" if row.message and not row.ready else "")
    text = escape(f"{row.name} {row.tier} {row.reason}".lower(), quote=True)
    return (
        f'<tr data-text="{text}"><th scope="row">{escape(row.name)}</th><td>{escape(row.tier)}</td>{state}'
        f'<td>{reason}</td><td class="n">{row.ready_replicas}/{row.replicas}</td>'
        f'<td class="n">{"" if row.in_flight is None else row.in_flight}</td>'
        f'<td class="n">{escape(row.spend)}</td>{_used(row)}</tr>'
    )


def _used(row: Row) -> str:
    if row.used is None:
        return '<td class="n"></td>'
    mark = "bad" if row.used >= OVER else "warn" if row.used >= NEAR else ""
    return f'<td class="n {mark}">{row.used} % of {escape(row.budget)}</td>'


def _nodes(nodes: Iterable[NodeAtRisk]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(node.name)}</th><td>{escape(node.why)}</td>'
        f"<td>{f'{node.deadline:%H:%M:%S} UTC' if node.deadline else ''}</td></tr>"
        for node in nodes
    )
    if not rows:
        return "<p>None.</p>"
    head = '<tr><th scope="col">Node</th><th scope="col">Why</th><th scope="col">Until</th></tr>'
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _events(events: Iterable[Told]) -> str:
    rows = "".join(
        f"<tr><td><time>{event.time:%H:%M:%S}</time></td><td>{escape(event.about)}</td>"
        f'<td class="{"warn" if event.warning else ""}">{escape(event.reason)}</td><td>{escape(event.note)}</td></tr>'
        for event in events
    )
    if not rows:
        return "<p>None since this operator began to lead.</p>"
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Time", "Tenant", "Reason", "Note"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
