"""Tests of what decides in bench.py and report.py: python3 -m unittest discover bench"""

import argparse
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bench
import report

SERVERS = [
    {"name": "raw-tokio", "tags": ["ceiling"], "setup": "raw"},
    {"name": "ours", "tags": ["ours"], "setup": "ours", "ceiling": "raw-tokio"},
    {"name": "fast", "tags": ["peer"], "setup": "<fast> & more"},
    {"name": "slow", "tags": ["peer"], "setup": "slow"},
    {"name": "slow (set up otherwise)", "tags": ["peer", "variant"], "setup": "slow"},
]
SCENARIO = {"id": "b16", "title": "1 < 2 & so on", "load": "echo --conns 1 --depth 64 --size 16"}
META = {
    "date": "2026-01-01",
    "commit": "abc",
    "machine": "a machine",
    "load": "0.1",
    "rounds": 3,
    "measure_ms": 700,
    "versions": {},
}


def run(cpu, scenario="b16"):
    """A run with these CPU times of the servers, a list each with one for each round; None is a fault."""
    lines = [{"meta": META}]
    for server, values in cpu.items():
        for turn, value in enumerate(values):
            result = {report.CPU: value, "msgs_per_s": 1e6, "server_util": 0.5} if value else {"error": "it broke"}
            lines.append({"scenario": scenario, "server": server, "round": turn, "result": result})
    return report.Run(map(json.dumps, lines))


class Statistics(unittest.TestCase):
    def test_spread_is_the_quartiles_around_the_median(self):
        self.assertEqual(report.spread([5, 1, 2, 4, 3]), (2, 3, 4))
        self.assertEqual(report.spread([7]), (7, 7, 7))
        self.assertIsNone(report.spread([]))

    def test_ratios_are_taken_inside_a_round(self):
        results = run({"ours": [2, 4, 6], "fast": [1, 4, 3]}).results["b16"]
        self.assertEqual(report.ratios(results["ours"], results["fast"]), [2, 1, 2])

    def test_a_round_that_one_server_lacks_has_no_ratio(self):
        results = run({"ours": [2, 4, 6], "fast": [1, None, 3]}).results["b16"]
        self.assertEqual(report.ratios(results["ours"], results["fast"]), [2, 2])

    def test_the_best_peer_has_the_least_median(self):
        results = run({"fast": [1, 9, 1], "slow": [2, 2, 2]}).results["b16"]
        self.assertEqual(report.best_peer(results), "fast")
        self.assertIsNone(report.best_peer({}))

    def test_ratios_are_to_the_raw_echo_or_else_to_ours(self):
        self.assertEqual(report.reference(SERVERS, ["fast", "ours", "raw-tokio"]), "raw-tokio")
        self.assertEqual(report.reference(SERVERS, ["fast", "ours"]), "ours")
        self.assertEqual(report.reference(SERVERS, ["fast"]), "fast")


class Tables(unittest.TestCase):
    def test_numbers_have_three_digits_or_so(self):
        values = [0.123, 1.234, 12.34, 123.4, 1234567, None]
        self.assertEqual([*map(report.number, values)], ["0.12", "1.23", "12.3", "123", "1,234,567", "-"])

    def test_sizes_are_short(self):
        sizes = [*map(report.byte_count, (16, 1000, 1024, 1025, 65536, 16 << 20))]
        self.assertEqual(sizes, ["16 B", "1,000 B", "1 KiB", "1,025 B", "64 KiB", "16 MiB"])

    def test_texts_are_on_the_left_and_numbers_on_the_right(self):
        self.assertEqual(report.table(["a", "b"], [["x", 1]]), "| a | b |\n| --- | ---: |\n| x | 1 |\n")

    def test_we_are_ahead_behind_or_even_by_quartiles(self):
        for ours, verdict in (([1, 1, 1], "ahead"), ([3, 3, 3], "**behind**"), ([1, 2, 3], "even")):
            text = report.standing(run({"ours": ours, "fast": [2, 2, 2]}), [SCENARIO], SERVERS, SERVERS[1])
            self.assertTrue(text.endswith(f" {verdict} |\n"), text)

    def test_a_standing_may_be_against_some_peers_only(self):
        found = run({"ours": [2, 2], "fast": [1, 1], "slow": [4, 4]})
        text = report.standing(found, [SCENARIO], SERVERS, {**SERVERS[1], "against": ["slow"]})
        self.assertIn("| slow |", text)
        self.assertIn("0.50 (0.50-0.50)", text)

    def test_a_pair_is_counted_round_by_round(self):
        text = report.paired(run({"ours": [1, 3, 1], "fast": [2, 2, 2]}), [SCENARIO], "ours", "fast")
        self.assertIn("| b16 | 0.500 | 0.500 | 1.000 | 2 of 3 | 2,000 | - | - |", text)

    def test_time_in_user_mode_is_that_of_all_rounds_together(self):
        rounds = {turn: {report.CPU: 2.0, report.USER: share} for turn, share in enumerate((0.1, 0.0, 0.2))}
        self.assertAlmostEqual(report.user_ns(rounds), 200)
        self.assertIsNone(report.user_ns({0: {report.CPU: 2.0}}))

    def test_faults_are_told(self):
        found = run({"ours": [1, 1], "slow": [None]})
        self.assertIn("- slow in b16: it broke\n", report.faults(found))
        self.assertEqual(report.faults(run({"ours": [1]})), "")


class Charts(unittest.TestCase):
    def assert_svg(self, text):
        root = xml.etree.ElementTree.fromstring(text)
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        self.assertIn("prefers-color-scheme: dark", text)
        self.assertNotIn("nan", text)
        return root

    def test_a_bar_for_each_server_the_shortest_first(self):
        results = run({"raw-tokio": [1, 1], "slow": [3, 3], "ours": [2, 2]}).results["b16"]
        root = self.assert_svg(report.stacked([report.panel(SCENARIO, results, SERVERS, "raw-tokio")]))
        widths = [float(bar.get("width")) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
        self.assertEqual(len(widths), 3)
        self.assertAlmostEqual(widths[1] / widths[0], 2, places=1)
        self.assertEqual(widths, sorted(widths))

    def test_a_bar_out_of_proportion_is_cut_and_says_so(self):
        results = run({"raw-tokio": [1, 1], "slow": [50, 50]}).results["b16"]
        text = report.stacked([report.panel(SCENARIO, results, SERVERS, "raw-tokio")])
        widths = [float(bar.get("width")) for bar in self.assert_svg(text).iter("{http://www.w3.org/2000/svg}rect")]
        self.assertAlmostEqual(widths[1] / widths[0], report.CLIP, places=1)
        self.assertIn("50.0 »", text)

    def test_the_summary_has_no_variants_and_the_best_peers_only(self):
        cpu = {"raw-tokio": [1, 1], "ours": [5, 5], "fast": [2, 2], "slow": [3, 3], "slow (set up otherwise)": [1, 1]}
        body, _ = report.panel(SCENARIO, run(cpu).results["b16"], SERVERS, "raw-tokio", most=1)
        self.assertIn(">fast<", body)
        self.assertIn(">ours<", body)
        self.assertNotIn(">slow", body)

    def test_lines_have_logarithmic_axes(self):
        line = report.Line("ours", "ours", [(1, 1), (10, 10), (100, 100)])
        root = self.assert_svg(report.lines("title", "note", "axis", [line]))
        paths = [path.get("d") for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("class") == "ours"]
        points = [tuple(map(float, point.split())) for point in paths[0][1:].split("L")]
        (x0, y0), (x1, y1), (x2, y2) = points
        self.assertAlmostEqual(x2 - x1, x1 - x0, places=0)
        self.assertAlmostEqual(y2 - y1, y1 - y0, places=0)
        self.assertLess(y2, y0)

    def test_one_point_is_a_chart_too(self):
        self.assert_svg(report.lines("title", "note", "axis", [report.Line("ours", "ours", [(16, 2.5)])]))


class Reports(unittest.TestCase):
    def test_pictures_that_a_report_shows_are_there(self):
        series = [{"id": "size", "title": "sizes", "axis": "bytes", "x": [16, 4096], "load": "echo --size {x}"}]
        cpu = {"raw-tokio": [1, 1], "ours": [2, 2], "fast": [3, 3]}
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            report.write_scenarios(run(cpu), [{**SCENARIO, "summary": True}], SERVERS, folder)
            report.write_scaling(run(cpu, "size-16"), series, SERVERS, folder)
            codec = {"codec": "ws-proto", "kind": "binary", "size": 16, "instructions": 300}
            report.write_codec(map(json.dumps, [{"meta": META}, codec]), folder)
            pictures = {path.name for path in folder.glob("*.svg")}
            self.assertEqual(pictures, {"b16.svg", "summary.svg", "scaling-size.svg", "codec.svg"})
            shown = {"echo": "b16", "scaling": "scaling-size", "codec": "codec"}
            for name, picture in shown.items():
                self.assertIn(f"({picture}.svg)", (folder / f"{name}.md").read_text(encoding="utf-8"))


class Driver(unittest.TestCase):
    def setUp(self):
        args = argparse.Namespace(servers=[], scenario=None)
        self.servers, self.scenarios, self.series = bench.configuration(args)

    def test_every_server_says_what_it_is(self):
        names = [server["name"] for server in self.servers]
        self.assertEqual(len(names), len(set(names)))
        for server in self.servers:
            self.assertEqual(len({"ours", "ceiling", "peer"} & set(server["tags"])), 1, server["name"])
            self.assertLessEqual({*server.get("against", []), server.get("ceiling", names[0])}, set(names))
            if "ours" not in server["tags"]:
                self.assertNotIn("?", bench.versions(server))

    def test_every_scenario_tells_its_connections(self):
        for scenario in [*self.scenarios, *bench.expanded(self.series)]:
            self.assertIn(bench.connections(scenario), range(1, 10001))

    def test_a_server_takes_part_where_it_has_what_is_needed(self):
        plain, compressing = {"name": "a"}, {"name": "b", "deflate": "--deflate takeover"}
        self.assertFalse(bench.takes_part(plain, {"need": "deflate"}))
        self.assertTrue(bench.takes_part(compressing, {"need": "deflate"}))
        self.assertFalse(bench.takes_part({"raw": True}, {"kind": "mem"}))

    def test_a_program_that_is_not_there_is_left_out_with_a_word(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertFalse(bench.is_built({"name": "a", "cmd": "{target}/no-such-program --port {port}"}))
            self.assertTrue(bench.is_built({"name": "b", "cmd": "sh {bench}/x"}))
            bench.tried(["no-such-program"], bench.HERE)
        self.assertIn("without a: ", out.getvalue())
        self.assertIn("no-such-program is not there", out.getvalue())

    def test_time_that_is_left_follows_the_pace(self):
        now = 0.0
        progress = bench.Progress(10, io.StringIO(), lambda: now)
        self.assertEqual(progress.left(), "0:10 left")
        now, progress.done = 60.0, 2
        self.assertEqual(progress.left(), "4:00 left")

    def test_a_pipe_gets_a_line_a_round(self):
        out = io.StringIO()
        progress = bench.Progress(10, out)
        for place, server in (("b16  round 1 of 2", "a"), ("b16  round 1 of 2", "b"), ("b16  round 2 of 2", "b")):
            progress.show(place, server)
        self.assertEqual(len(out.getvalue().splitlines()), 2)


if __name__ == "__main__":
    unittest.main()
