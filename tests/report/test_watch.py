"""Watching a study to its end."""

from __future__ import annotations

import pytest

from pause_study import study, train
from tunehook.report import Watch
from tunehook.study import Study
from tunehook.study.pausing import Pausing


def test_a_study_is_done_when_its_last_promotions_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """All trials are finished and none runs, but the best of those that are paused still go on."""
    with monkeypatch.context() as patch:
        patch.setattr(Pausing, "next", lambda *_, **__: None)  # as between two of them
        study(many=20).optimize(train, trials=6, progress=False)
    watch = Watch(Study.open("pause", folder="study"))
    found = watch.look()
    assert (found.counts, found.finished, found.wanted, found.running) == ({"paused": 6}, 6, 6, [])
    assert (found.promotes, found.is_done) == (True, False)
    study(many=20).optimize(train, trials=6, progress=False)
    found = watch.look()
    assert found.counts["complete"] >= 1
    assert (found.promotes, found.is_done) == (False, True)
