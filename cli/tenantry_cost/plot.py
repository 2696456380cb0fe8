"""Cost against tenants as an SVG drawing: a line for each system, named at its end. No library is needed for that."""

from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from tenantry_cost.bill import System, usd
from tenantry_cost.book import Book
from tenantry_cost.systems import bills
from tenantry_cost.workload import Workload

WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 130, 46, 48
_POINTS = 60
#: Okabe and Ito's colours: told apart by colour-blind readers too, on white and on dark.
COLOURS = {
    System.ECS_FARGATE: "#0072b2",
    System.EC2_ASG: "#e69f00",
    System.LAMBDA: "#cc79a7",
    System.EKS: "#009e73",
    System.APP_RUNNER: "#888888",
}


def svg(workload: Workload, book: Book, tenants: int) -> str:
    """The plot from 1 to ``tenants`` tenants; ``workload`` says what each of them does."""
    counts = sorted({max(1, round(tenants * step / _POINTS)) for step in range(_POINTS + 1)})
    lines: dict[System, list[tuple[int, int]]] = {}
    for count in counts:
        for bill in bills(workload._replace(tenants=count), book):
            if not bill.impossible:
                lines.setdefault(bill.system, []).append((count, bill.cents))
    # A line that leaves the picture says enough: the others are what is compared.
    most = _round_up(
        sorted(points[-1][1] for points in lines.values())[-2] if len(lines) > 1 else lines[System.EKS][-1][1]
    )

    def place(count: int, cents: int) -> tuple[float, float]:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * count / tenants
        return x, HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * cents / most

    drawn = [*_frame(place, tenants, most, workload, book)]
    ends: list[tuple[float, float, System]] = []
    for system, points in lines.items():
        inside = [place(count, cents) for count, cents in points if cents <= most]
        if not inside:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
        drawn.append(f'<polyline fill="none" stroke="{COLOURS[system]}" stroke-width="2" points="{path}"/>')
        ends.append((*inside[-1], system))
    drawn += _names(ends)
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="Cost a month against tenants">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>'
    )


def _frame(
    place: Callable[[int, int], tuple[float, float]], tenants: int, most: int, workload: Workload, book: Book
) -> list[str]:
    told = (
        f"USD a month in {book.region}; each tenant {workload.requests:,} requests "
        f"of {float(workload.stream_seconds):g} s; {workload.isolation} processes"
    )
    drawn = [f'<text x="{_LEFT}" y="22" font-size="14">{escape(told)}</text>']
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for step in range(5):
        cents = most * step // 4
        _, y = place(0, cents)
        drawn.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{usd(cents)[:-3]}</text>')
        count = round(tenants * step / 4)
        x, _ = place(count, 0)
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">{count:,}</text>')
    middle = (_LEFT + right) // 2
    return [*drawn, f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle" fill="#555">tenants</text>']


def _names(ends: Sequence[tuple[float, float, System]]) -> list[str]:
    """Names at the ends of the lines, moved apart until none covers another."""
    drawn = []
    taken = float(HEIGHT - _BOTTOM + 16)
    for x, y, system in sorted(ends, key=lambda end: -end[1]):
        taken = min(y + 4, taken - 14)
        drawn.append(f'<text x="{x + 6:.1f}" y="{taken:.1f}" fill="{COLOURS[system]}">{system}</text>')
    return drawn


def _round_up(cents: int) -> int:
    """The next amount that divides into four readable parts."""
    step = 400
    while True:
        for factor in (1, 2, 5):
            if cents <= step * factor:
                return step * factor
        step *= 10
