"""Why numbers of two contenders are not held against each other, in words."""

import itertools

from micl_bench.report.compare.contenders import Contender, Place
from micl_bench.report.frame.data_set_names import data_words
from micl_bench.report.frame.protocols import settings_apart, training_words


def places_apart(ours: Contender, theirs: Contender) -> list[str]:
    """A line on each place of one that the other has under other images or settings, or not at all."""
    lines = []
    alone = [
        [place for place in one.runs if place not in other.runs]
        for one, other in ((ours, theirs), (theirs, ours))
    ]
    matched = set()
    for mine, other in itertools.product(*alone):
        if (mine.task, mine.data.name) == (other.task, other.data.name):
            matched |= {(ours.letter, mine), (theirs.letter, other)}
            lines.append(_why(mine, other, ours, theirs))
    for one, other_one, places in ((ours, theirs, alone[0]), (theirs, ours, alone[1])):
        lines += [
            f"{place.task} on {place.data.name} (fingerprint {place.fingerprint[:12]}"
            f"{', ' + training_words(place.train) if place.train else ''}): {one.letter} has it, "
            f"{other_one.letter} does not"
            for place in places
            if (one.letter, place) not in matched
        ]
    return lines


def _why(mine: Place, other: Place, ours: Contender, theirs: Contender) -> str:
    where = f"{mine.task} on {mine.data.name}, {ours.letter} and {theirs.letter}: "
    reasons = []
    if mine.data != other.data:
        words = (data_words(data) for data in (mine.data, other.data))
        reasons.append("other images: " + " / ".join(words))
    if mine.train != other.train:
        words = (training_words(train) for train in (mine.train, other.train))
        reasons.append("other training images: " + " / ".join(words))
    if mine.fingerprint != other.fingerprint:
        records = [ours.runs[mine][0], theirs.runs[other][0]]
        reasons.append("another protocol: " + settings_apart(records))
    return where + "; ".join(reasons)
