"""What a report counts, and which images it shows."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from glass_edge.runtime.report.reading import LeftOut, read_records
from glass_edge.runtime.report.selection import Selection
from glass_edge.runtime.report.summary import Summary
from test_records import FAILURE, VERDICT

from glass_edge import Crop


def verdict(score: float, threshold: float = 0.5, **changes):
    return msgspec.structs.replace(
        VERDICT,
        score=score,
        verdict="fake" if score >= threshold else "real",
        probabilities={"fake": score, "real": 1 - score},
        **changes,
    )


def summary_of(records) -> Summary:
    summary = Summary()
    for record in records:
        summary.add(record)
    return summary


def lines_of(*records) -> list[bytes]:
    return [msgspec.json.encode(record) + b"\n" for record in records]


class TestReading:
    def test_records_come_back_as_they_were(self):
        left_out = LeftOut()
        assert list(read_records(lines_of(VERDICT, FAILURE), left_out)) == [VERDICT, FAILURE]
        assert left_out.sentences() == []

    def test_foreign_lines_are_counted_and_the_first_is_named(self):
        lines = [b"\n", b"{}\n", *lines_of(VERDICT), b'{"status": "ok"}\n', b"\x00\xff\n"]
        left_out = LeftOut()
        assert list(read_records(lines, left_out)) == [VERDICT]
        assert left_out.sentences() == [
            "3 lines are not records of this version and were left out; the first is line 2."
        ]

    @pytest.mark.parametrize(
        "line",
        [
            b'{"status": "ok", "path": "\xe9"}',
            b'{"status": "ok", "path": ' + b"[" * 100_000,
            msgspec.json.encode(verdict(-0.01)),
            msgspec.json.encode(verdict(1.7e308)),
            msgspec.json.encode(verdict(0.5, width=0)),
            msgspec.json.encode(verdict(0.5, height=-3)),
            msgspec.json.encode(verdict(0.5, crops=(Crop(-1, 0, 9, 9, 0.5),))),
            msgspec.json.encode(verdict(0.5, crops=(Crop(0, 0, 0, 9, 0.5),))),
            msgspec.json.encode(verdict(0.5, crops=(Crop(0, 992, 9, 9, 0.5),))),
            msgspec.json.encode(verdict(0.5, crops=(Crop(0, 0, 9, 9, -1e9),))),
        ],
    )
    def test_what_glass_run_never_wrote_is_left_out(self, line):
        left_out = LeftOut()
        assert list(read_records([line + b"\n", *lines_of(VERDICT)], left_out)) == [VERDICT]
        assert left_out.sentences() == ["Line 1 is not a record of this version and was left out."]

    def test_a_torn_end_is_said_apart(self):
        whole, torn = lines_of(VERDICT, VERDICT)
        left_out = LeftOut()
        assert list(read_records([whole, torn[:50]], left_out)) == [VERDICT]
        [sentence] = left_out.sentences()
        assert "incomplete" in sentence

    def test_a_last_line_that_only_lacks_its_end_is_a_record(self):
        assert list(read_records([lines_of(VERDICT)[0][:-1]], LeftOut())) == [VERDICT]


class TestSummary:
    def test_it_counts_verdicts_and_errors(self):
        summary = summary_of([verdict(0.9), verdict(0.1), verdict(0.2, settled=False), FAILURE])
        assert (summary.images, summary.verdicts, summary.errors) == (4, 3, 1)
        assert (summary.called("fake"), summary.called("real")) == (1, 2)
        assert (summary.open, summary.chosen_number) == (1, 1)

    def test_classes_are_told_by_the_probability_that_is_the_score(self):
        odd = msgspec.structs.replace(
            VERDICT, verdict="b", score=0.7, probabilities={"a": 0.7, "b": 0.3}
        )
        tied = msgspec.structs.replace(odd, score=0.5, probabilities={"a": 0.5, "b": 0.5})
        assert summary_of([tied]).fake_class is None
        found = summary_of([tied, odd])
        assert (found.fake_class, found.real_class) == ("a", "b")

    def test_bars_count_every_score_once_by_its_verdict(self):
        rng = random.Random(1)
        edges = [float(np.float32(n / 50)) for n in range(51)]
        scores = [0.0, 1.0, 0.5, 0.58, 0.29, *edges, *(rng.random() for _ in range(500))]
        bars = summary_of(map(verdict, scores)).bars()
        assert sum(bar.fake for bar in bars) == sum(score >= 0.5 for score in scores)
        assert sum(bar.real for bar in bars) == sum(score < 0.5 for score in scores)
        for bar in bars[:-1]:
            inside = sum(bar.low <= score < bar.high for score in scores)
            assert bar.fake + bar.real == inside

    @pytest.mark.parametrize(
        ("scores", "made_with", "expected"),
        [
            ((0.2, 0.9), 0.5, 0.5),
            ((0.2, 0.3), 0.5, 0.5),
            ((0.7, 0.9), 0.5, 0.5),
            ((0.2, 0.7, 0.9), 0.8, 0.8),
            ((0.1, 0.3), 0.2, 0.2),
        ],
    )
    def test_the_threshold_is_what_the_verdicts_show(self, scores, made_with, expected):
        summary = summary_of(verdict(score, made_with) for score in scores)
        assert summary.threshold(None, "").value == pytest.approx(expected)

    def test_verdicts_by_several_thresholds_show_none(self):
        summary = summary_of([verdict(0.6, 0.7), verdict(0.55, 0.5)])
        assert summary.threshold(None, "").value is None
        assert summary.contradicts(0.5)
        assert not summary_of([verdict(0.6), verdict(0.4)]).contradicts(0.5)


class TestSelection:
    def test_all_are_shown_where_there_is_room(self):
        selection = Selection(3, 0.5)
        for record in (verdict(0.1), FAILURE, verdict(0.9)):
            selection.add(record)
        assert selection.complete
        assert [each.choice for each in selection.chosen()] == ["all"] * 3

    def test_else_the_highest_the_nearest_a_sample_and_errors_in_the_records_order(self):
        rng = random.Random(2)
        records = [verdict(rng.random()) for _ in range(5000)] + [FAILURE] * 50
        rng.shuffle(records)
        selection = Selection(100, 0.5)
        for record in records:
            selection.add(record)
        chosen = selection.chosen()
        assert not selection.complete
        assert len(chosen) == 100
        places = [each.candidate.place for each in chosen]
        assert places == sorted(set(places))
        assert all(each.candidate.record is records[each.candidate.place] for each in chosen)

        def scores(choice):
            found = [each.candidate.record for each in chosen if each.choice == choice]
            return sorted(record.score for record in found)

        every = sorted(record.score for record in records if record.status == "ok")
        assert scores("highest") == every[-40:]
        near = sorted(every, key=lambda score: abs(score - 0.5))[:30]
        assert scores("threshold") == sorted(near)
        assert len(scores("sample")) == 20
        assert sum(each.choice == "error" for each in chosen) == 10

    def test_errors_take_the_rows_that_verdicts_leave(self):
        selection = Selection(100, 0.5)
        for record in [FAILURE] * 300 + [verdict(0.4)] * 20:
            selection.add(record)
        choices = [each.choice for each in selection.chosen()]
        assert len(choices) == 100
        assert choices.count("error") == 80

    def test_the_sample_is_drawn_from_all(self):
        """Of 20,000 images, each of ten parts gets about a tenth of the sample."""
        selection = Selection(1000, None)
        for _ in range(20_000):
            selection.add(verdict(0.5))
        places = [each.candidate.place for each in selection.chosen() if each.choice == "sample"]
        counts = [sum(part * 2000 <= place < (part + 1) * 2000 for place in places)
                  for part in range(10)]  # fmt: skip
        assert min(counts) > 0.5 * len(places) / 10
        assert max(counts) < 1.6 * len(places) / 10

    def test_only_what_may_be_shown_is_kept(self):
        """So that a run of millions needs no more memory than one of thousands."""
        selection = Selection(10, 0.5)
        for number in range(3000):
            selection.add(verdict((number * 7919 % 3000) / 3000))
        kept = [*selection._highest._heap, *selection._nearest._heap, *selection._sample._found]
        assert len(kept) <= 2 * 10
        assert selection._all is None
