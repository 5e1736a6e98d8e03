"""What a run's lines say: medians and ratios, and from them Markdown tables and SVG charts.

A result of one server in one round of one scenario is a line of JSON. Ratios are taken between two servers inside a
round, then the median over the rounds: rounds see the machine at different loads, servers of one round do not.
"""

import json
import math
import statistics
from collections import namedtuple
from html import escape

CPU = "server_cpu_us_per_msg"
USER = "server_user_share"

Spread = namedtuple("Spread", "low median high")  # quartiles around the median


class Run:
    """The lines of a run: `results[scenario][server][round]`, the faults, and what the run was made with."""

    def __init__(self, lines):
        self.meta, self.results, self.faults = {}, {}, {}
        for line in map(json.loads, lines):
            if "meta" in line:
                self.meta = line["meta"]
            elif "error" in line["result"]:
                self.faults.setdefault(line["server"], {})[line["scenario"]] = line["result"]["error"]
            else:
                rounds = self.results.setdefault(line["scenario"], {}).setdefault(line["server"], {})
                rounds[line["round"]] = line["result"]


# Statistics


def spread(values):
    values = list(values)
    if len(values) < 2:
        return Spread(*values * 3) if values else None
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def median(rounds, key):
    values = [result[key] for result in rounds.values() if result.get(key) is not None]
    return statistics.median(values) if values else None


def user_ns(rounds):
    """What of the CPU time a message takes was spent in user mode, by the share of it in the whole run, warm-up and all;
    of all rounds together, as shares are coarse."""
    known = [result[CPU] * result[USER] * 1000 for result in rounds.values() if USER in result and CPU in result]
    return statistics.fmean(known) if known else None


def ratios(rounds, others, key=CPU):
    """Of what two servers needed in the same round, for every round that has both."""
    both = sorted(rounds.keys() & others.keys())
    return [rounds[k][key] / others[k][key] for k in both if rounds[k].get(key) and others[k].get(key)]


def reference(servers, names):
    """What a scenario's ratios divide by: the raw echo; where there is none, ours; else whatever is there."""
    ours = [server["name"] for server in servers if "ours" in server["tags"]]
    return next(name for name in ["raw-tokio", *ours, *names] if name in names)


def best_peer(results, key=CPU):
    """The server with the least, of some servers' rounds."""
    return min(results, key=lambda name: median(results[name], key), default=None)


# Markdown


def number(value, digits=None):
    if value is None:
        return "-"
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def table(head, rows, texts=1):
    """The first columns are texts, the others numbers."""
    lines = [head, ["---" if i < texts else "---:" for i in range(len(head))], *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def conditions(run, servers):
    """When, where and with what a run was made."""
    meta = run.meta
    text = f"{meta['date']}, commit {meta['commit']}, rounds: {meta['rounds']} of {meta['measure_ms']} ms.\n\n"
    text += f"{meta['machine']}; load average {meta['load']} at the start.\n\n"
    used = {name for results in run.results.values() for name in results}
    rows = [
        [server["name"], meta["versions"].get(server["name"], ""), server["setup"]]
        for server in servers
        if server["name"] in used
    ]
    return text + table(["server", "versions", "set up as"], rows, texts=3)


def standing(run, scenarios, servers, ours):
    """How one of ours compares in each scenario with the raw echo of its kind and the best peer, the worst last."""
    peers = set(ours.get("against") or (server["name"] for server in servers if "peer" in server["tags"]))
    rows = []
    for scenario in scenarios:
        key, results = key_of(scenario), run.results.get(scenario["id"], {})
        best = best_peer({name: results[name] for name in results.keys() & peers}, key)
        if ours["name"] not in results or best is None:
            continue
        rounds = results[ours["name"]]
        ratio = spread(ratios(rounds, results[best], key))
        raw = spread(ratios(rounds, results.get(ours["ceiling"], {}), key))
        row = [scenario["id"], scenario["title"], best, number(median(rounds, key), 3)]
        row += [number(raw.median) if raw else "-", number(median(results[best], key), 3)]
        row += [f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"]
        row += ["ahead" if ratio.high < 1 else "**behind**" if ratio.low > 1 else "even"]
        rows.append((ratio.median, row))
    head = ["scenario", "what", "best peer", ours["name"], f"x {ours['ceiling']}", "best peer"]
    head += ["ours / best (quartiles)", ""]
    return table(head, [row for _, row in sorted(rows)], texts=3) if rows else ""


def faults(run):
    """Which servers failed where, and the first reason of each."""
    lines = [f"- {name} in {', '.join(found)}: {next(iter(found.values()))}\n" for name, found in run.faults.items()]
    return "\nNot measured:\n\n" + "".join(lines) if lines else ""


def key_of(scenario):
    return "after_msg_kb_per_conn" if scenario.get("kind") == "mem" else CPU


def scenario_table(scenario, results, ref):
    order = sorted(results, key=lambda name: median(results[name], key_of(scenario)))
    if scenario.get("kind") == "mem":
        keys = ["idle_kb_per_conn", "after_msg_kb_per_conn", "after_big_kb_per_conn"]
        head = ["server", "idle, KiB a connection", "after a 1 KiB message", "after a 64 KiB message"]
        return table(head, [[name, *(number(median(results[name], key)) for key in keys)] for name in order])
    latency = scenario.get("kind") == "bcast" or "--depth 1 " in scenario["load"] + " "
    deflate = "--deflate" in scenario["load"]
    head = ["server", "CPU µs a message", f"x {ref}", "quartiles", "messages/s", f"x {ref}", "server busy"]
    head += ["p50 µs", "p99 µs"] * latency + ["reply, B"] * deflate
    rows = []
    for name in order:
        rounds = results[name]
        cpu, rate = (spread(ratios(rounds, results[ref], key)) for key in (CPU, "msgs_per_s"))
        row = [name, number(median(rounds, CPU), 3)]
        row += [number(cpu.median), f"{cpu.low:.2f}-{cpu.high:.2f}"] if cpu else ["-", "-"]
        row += [number(median(rounds, "msgs_per_s"), 0), number(rate.median) if rate else "-"]
        row += [number(median(rounds, "server_util"))]
        row += [number(median(rounds, key)) for key in ("p50_us", "p99_us")] * latency
        row += [number(median(rounds, "rx_bytes_per_msg"), 0)] * deflate
        rows.append(row)
    return table(head, rows)


def paired(run, scenarios, first, second):
    """Two servers against each other, round by round."""
    rows = []
    for scenario in scenarios:
        results = run.results.get(scenario["id"], {})
        if first in results and second in results:
            values = ratios(results[first], results[second], key_of(scenario))
            ratio = spread(values)
            less = sum(value < 1 for value in values)
            row = [scenario["id"], *(f"{value:.3f}" for value in ratio), f"{less} of {len(values)}"]
            whole = median(results[second], CPU)
            row += [number(whole and whole * 1000, 0)]
            rows.append(row + [number(user_ns(results[name]), 0) for name in (first, second)])
    head = [f"{first} / {second}", "first quartile", "median", "third quartile", "rounds with less"]
    head += ["ns, the other", "in user mode, ours", "the other"]
    return table(head, rows)


# SVG

Bar = namedtuple("Bar", "label value low high kind")  # `kind` is ours, peer or ceiling
Line = namedtuple("Line", "label kind points")

WIDTH, LABEL, ROW, TITLE = 720, 210, 20, 44
CLIP = 4.0  # times the reference: bars beyond are cut, their number says how long they are

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .note { font-size: 11px; fill: #57606a } .end { text-anchor: end }
.middle { text-anchor: middle }
.ours { fill: #0969da } .peer { fill: #afb8c1 } .ceiling { fill: #d8dee4 }
.axis { stroke: #8c959f; stroke-width: 1; fill: none } .range { stroke: #57606a; stroke-width: 1.5 }
path.ours { fill: none; stroke: #0969da; stroke-width: 2.5 } path.peer { fill: none; stroke: #bc4c00; stroke-width: 2 }
path.ceiling { fill: none; stroke: #8c959f; stroke-width: 2; stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .note { fill: #9198a1 }
.ours { fill: #58a6ff } .peer { fill: #6e7681 } .ceiling { fill: #3d444d }
.axis { stroke: #6e7681 } .range { stroke: #c9d1d9 }
path.ours { stroke: #58a6ff } path.peer { stroke: #f0883e } path.ceiling { stroke: #8b949e }
}
"""


def svg(width, height, body):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
    return f'{head} viewBox="0 0 {width:g} {height:g}"><style>{STYLE}</style>{body}</svg>\n'


def words(x, y, text, kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def bars(title, note, rows, unit="", clip=math.inf, mark=None, width=WIDTH):
    """A panel of horizontal bars; gives its SVG without a frame, and its height. `mark` is a value with a line."""
    room = width - LABEL - 60
    longest = min(max(bar.value for bar in rows), clip)
    scale = room / max(longest, mark or 0)
    bottom = TITLE + len(rows) * ROW
    body = words(0, 16, title, "title") + words(0, 33, note, "note")
    if mark:
        body += f'<path class="axis" d="M{LABEL + mark * scale:.1f} {TITLE}V{bottom}"/>'
    for i, bar in enumerate(rows):
        y = TITLE + i * ROW
        length = min(bar.value, clip) * scale
        body += words(LABEL - 8, y + 14, bar.label, "end")
        body += f'<rect class="{bar.kind}" x="{LABEL}" y="{y + 3}" width="{length:.1f}" height="{ROW - 6}"/>'
        if bar.high <= longest and bar.low < bar.high:
            y_mid, low, high = y + ROW / 2, LABEL + bar.low * scale, LABEL + bar.high * scale
            body += f'<path class="range" d="M{low:.1f} {y_mid}H{high:.1f}"/>'
        cut = " »" if bar.value > clip else ""
        end = max(length, min(bar.high, longest) * scale)
        body += words(LABEL + end + 5, y + 14, f"{number(bar.value)}{unit}{cut}")
    return body, bottom + 16


def stacked(panels, columns=1):
    """Panels of one width, in columns filled row by row."""
    body, tops = "", [0] * columns
    gap = WIDTH + 24
    for i, (panel, height) in enumerate(panels):
        column = i % columns
        if column == 0:
            tops = [max(tops)] * columns
        body += f'<g transform="translate({column * gap} {tops[column]})">{panel}</g>'
        tops[column] += height
    return svg(columns * gap - 24, max(tops), body)


def lines(title, note, axis, series):
    """Lines over two logarithmic axes."""
    left, top, width, height = 70, 50, WIDTH - 90, 320
    points = [point for line in series for point in line.points]
    x_low, x_high = (math.log10(f(x for x, _ in points)) for f in (min, max))
    y_low, y_high = (math.log10(f(y for _, y in points)) for f in (min, max))
    y_low, y_high = math.floor(y_low), max(math.ceil(y_high), math.floor(y_low) + 1)

    def place(x, y):
        across = (math.log10(x) - x_low) / max(x_high - x_low, 1e-9)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return left + across * width, top + (1 - up) * height

    body = words(0, 16, title, "title") + words(0, 33, note, "note")
    for power in range(y_low, y_high + 1):
        y = place(10**x_low, 10**power)[1]
        body += f'<path class="axis" opacity="0.35" d="M{left} {y:.1f}h{width}"/>'
        body += words(left - 6, y + 4, f"{10.0**power:g}", "note end")
    for x in sorted({x for x, _ in points}):
        body += words(place(x, 10**y_low)[0], top + height + 18, short(x), "note middle")
    body += words(left + width / 2, top + height + 38, axis, "note middle")
    for i, line in enumerate(series):
        at = [place(*point) for point in line.points]
        body += f'<path class="{line.kind}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in at)}"/>'
        y = top + 12 + 18 * i
        body += f'<path class="{line.kind}" d="M{left + 12} {y - 4}h28"/>' + words(left + 48, y, line.label)
    return svg(WIDTH, top + height + 48, body)


def short(count):
    """16, 4 Ki, 1 Mi where these are exact; else with thousands apart."""
    for power, name in ((20, " Mi"), (10, " Ki")):
        if count >= 1 << power and count % (1 << power) == 0:
            return f"{count >> power}{name}"
    return f"{count:,}"


def byte_count(count):
    text = short(count)
    return text + ("B" if text.endswith("i") else " B")


# Reports


def kind_of(server):
    return next(tag for tag in ("ours", "ceiling", "peer") if tag in server["tags"])


def panel(scenario, results, servers, ref, most=None):
    """The bars of one scenario. `most` leaves out variants and all but the best peers."""
    key, memory = key_of(scenario), scenario.get("kind") == "mem"
    rows = []
    for server in servers:
        rounds = results.get(server["name"])
        if not rounds or most and "variant" in server["tags"]:
            continue
        values = [r[key] for r in rounds.values()] if memory else ratios(rounds, results[ref])
        if values:
            low, middle, high = spread(values)
            rows.append(Bar(server["name"], middle, low, high, kind_of(server)))
    rows.sort(key=lambda bar: bar.value)
    if most:
        kept = [bar for bar in rows if bar.kind == "peer"][:most]
        rows = [bar for bar in rows if bar.kind != "peer" or bar in kept]
    title = f"{scenario['id']}. {scenario['title']}"
    if memory:
        return bars(title, "KiB a connection after one 1 KiB message", rows)
    note = f"CPU a message, {ref} = 1; lines are quartiles of the rounds; less is better"
    return bars(title, note, rows, clip=CLIP, mark=1)


def write_scenarios(run, scenarios, servers, folder):
    """echo.md, a chart for each scenario, and summary.svg."""
    text = "# Side by side\n\nHow this is measured and repeated: [README](../README.md).\n\n"
    text += conditions(run, servers) + "\n## Where we stand\n\n"
    text += "CPU a message in µs (KiB a connection for memory), ours and the best peer's.\n"
    for server in servers:
        if "ours" in server["tags"] and (found := standing(run, scenarios, servers, server)):
            text += f"\n### {server['name']}\n\n{found}"
    text += faults(run) + "\n## Scenarios\n"
    chosen = []
    for scenario in scenarios:
        results = run.results.get(scenario["id"])
        if not results:
            continue
        ref = reference(servers, results)
        chart = f"{scenario['id']}.svg"
        (folder / chart).write_text(stacked([panel(scenario, results, servers, ref)]), encoding="utf-8")
        if scenario.get("summary"):
            chosen.append(panel(scenario, results, servers, ref, most=5))
        text += f"\n### {scenario['id']}. {scenario['title']}\n\n`load {scenario['load']}`\n\n"
        text += f"![{scenario['title']}]({chart})\n\n" + scenario_table(scenario, results, ref)
    (folder / "echo.md").write_text(text, encoding="utf-8")
    if chosen:
        (folder / "summary.svg").write_text(stacked(chosen, columns=2), encoding="utf-8")


def write_scaling(run, series, servers, folder):
    """scaling.md and a chart for each series: ours, the best peer at each x, and the raw echo."""
    text = "# How cost grows\n\nHow this is measured and repeated: [README](../README.md).\n\n"
    text += conditions(run, servers)
    peers = {server["name"] for server in servers if "peer" in server["tags"]}
    ours = next(server["name"] for server in servers if "ours" in server["tags"])
    names = [server["name"] for server in servers]
    for one in series:
        at = {x: run.results.get(f"{one['id']}-{x}", {}) for x in one["x"]}
        at = {x: results for x, results in at.items() if results}
        if not at:
            continue
        chart = []
        for name, kind in ((ours, "ours"), ("raw-tokio", "ceiling")):
            points = [(x, median(r[name], CPU)) for x, r in at.items() if name in r]
            chart.append(Line(name, kind, points))
        best = {x: best_peer({name: r[name] for name in r.keys() & peers}) for x, r in at.items()}
        points = [(x, median(at[x][name], CPU)) for x, name in best.items() if name]
        chart.append(Line("the best peer at each point", "peer", points))
        picture = f"scaling-{one['id']}.svg"
        note = "µs of CPU a message; both axes are logarithmic; less is better"
        image = lines(one["title"], note, one["axis"], [line for line in chart if line.points])
        (folder / picture).write_text(image, encoding="utf-8")
        rows = [
            [name, *(number(median(r[name], CPU), 3) if name in r else "-" for r in at.values())]
            for name in names
            if any(name in r for r in at.values())
        ]
        rows.append(["best peer", *(name or "-" for name in best.values())])
        closest = [
            spread(ratios(at[x][ours], at[x][name])) if name and ours in at[x] else None for x, name in best.items()
        ]
        rows.append([f"{ours} / best peer", *(number(ratio and ratio.median) for ratio in closest)])
        text += f"\n## {one['title']}\n\n`load {one['load']}`; µs of CPU a message.\n\n"
        text += f"![{one['title']}]({picture})\n\n"
        text += table([one["axis"], *map(short, at)], rows)
    text += faults(run)
    (folder / "scaling.md").write_text(text, encoding="utf-8")


def write_codec(lines_of_run, folder):
    """codec.md and codec.svg: the codecs alone."""
    records = [json.loads(line) for line in lines_of_run]
    meta = next(record["meta"] for record in records if "meta" in record)
    text = "# Codecs without sockets\n\nHow this is measured and repeated: [README](../README.md).\n\n"
    text += f"{meta['date']}, commit {meta['commit']}. {meta['machine']}.\n"
    panels = []
    units = {"instructions": "Instructions a message", "ns": "ns a message", "gb_per_s": "Floors, GB/s"}
    for unit, title in units.items():
        cells = {(r["codec"], r["kind"], r["size"]): r[unit] for r in records if unit in r}
        if not cells:
            continue
        codecs = list(dict.fromkeys(codec for codec, *_ in cells))
        cases = list(dict.fromkeys((kind, size) for _, kind, size in cells))
        heads = [f"{kind} {byte_count(size)}".strip() for kind, size in cases]
        rows = [[codec, *(number(cells.get((codec, *case))) for case in cases)] for codec in codecs]
        text += f"\n## {title}\n\n"
        if unit == "instructions":
            text += "![instructions a message](codec.svg)\n\n"
            for head, case in zip(heads, cases, strict=True):
                found = [(cells[codec, *case], codec) for codec in codecs if (codec, *case) in cells]
                bars_of = [Bar(codec, count, count, count, codec_kind(codec)) for count, codec in sorted(found)]
                clip = CLIP * cells.get((OURS, *case), math.inf)
                panels.append(bars(head, "instructions a message; less is better", bars_of, clip=clip))
        text += table(["codec", *heads], rows)
    (folder / "codec.md").write_text(text, encoding="utf-8")
    if panels:
        (folder / "codec.svg").write_text(stacked(panels, columns=2), encoding="utf-8")


OURS = "ws-proto"  # among the codecs


def codec_kind(name):
    return "ours" if name == OURS else "ceiling" if name.startswith("floor") else "peer"
