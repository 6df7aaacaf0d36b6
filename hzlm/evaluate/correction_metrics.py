"""Metrics of spelling correction, as the SIGHAN bake-offs and the papers after them measure it.

Of each sentence there are three versions of the same length: the source as written, the reference, and what a system
made of the source. An error is a position where the reference differs from the source; a change is one where the
system's version does.

Sentences (Wu et al. 2013, section 4; Xu et al. 2021, the script of ReaLiSe): in detection a sentence is a hit where it
has errors and the changed positions are exactly those; in correction, where also every changed character is the right
one. Precision is hits by changed sentences, recall is hits by sentences with errors. A changed sentence that is no hit
costs precision, whether it had errors or none. The tool of the bake-offs of 2014 and 2015 (Yu et al. 2014, Tseng et al.
2015) counts only changed sentences without errors against precision (`Agreement.lenient_precision`), which is never
lower. Its false positive rate is changed sentences by all, among those without errors.

Characters (the same script): in detection a hit is a changed error; in correction one changed to the right character.
Precision is hits by changes, recall is hits by errors, so that an error changed to another wrong character costs both.
Some papers take as the base of correction the detected errors alone; their figures are higher.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """Hits among what a system changed and what is wrong; a share of nothing is 0, as the scripts have it."""

    hits: int
    changed: int
    wrong: int
    needless: int
    """Of those changed, the ones that had no error."""

    @property
    def precision(self) -> float:
        """Hits by all that was changed."""
        return _share(self.hits, self.changed)

    @property
    def recall(self) -> float:
        """Hits by all that is wrong."""
        return _share(self.hits, self.wrong)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return _share(2 * self.hits, self.changed + self.wrong)

    @property
    def lenient_precision(self) -> float:
        """Hits by hits and needless changes."""
        return _share(self.hits, self.hits + self.needless)

    @property
    def lenient_f1(self) -> float:
        """The harmonic mean of lenient precision and recall."""
        return _share(2 * self.hits, self.hits + self.needless + self.wrong)


@dataclass(frozen=True)
class CorrectionScores:
    """How well a system corrected one set of sentences."""

    sentences: int
    characters: int
    sentence_detection: Agreement
    sentence_correction: Agreement
    character_detection: Agreement
    character_correction: Agreement
    exact_match: float
    """Share of the sentences that are right afterwards."""

    @property
    def false_positive_rate(self) -> float | None:
        """Changed ones among the sentences without errors; None where there are none."""
        clean = self.sentences - self.sentence_detection.wrong
        return self.sentence_detection.needless / clean if clean else None

    @property
    def untouched(self) -> float | None:
        """Share of the sentences without errors that stayed as they were; None where there are none."""
        changed = self.false_positive_rate
        return None if changed is None else 1 - changed


def score_correction(sources: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]) -> CorrectionScores:
    """All metrics of one system.

    Args:
        sources: sentences as written, one or more.
        references: the right ones, each as long as its source.
        hypotheses: the system's, each as long as its source.

    Raises:
        ValueError: a sentence has versions of different lengths.
    """
    detected = corrected = changed = wrong = needless = right = 0
    detected_characters = corrected_characters = changed_characters = wrong_characters = 0
    for source, reference, hypothesis in zip(sources, references, hypotheses, strict=True):
        positions = list(zip(source, reference, hypothesis, strict=True))
        is_wrong, is_changed = source != reference, source != hypothesis
        wrong += is_wrong
        changed += is_changed
        needless += is_changed and not is_wrong
        right += hypothesis == reference
        detected += is_wrong and all((s != r) == (s != h) for s, r, h in positions)
        corrected += is_wrong and hypothesis == reference
        wrong_characters += sum(s != r for s, r, _ in positions)
        changed_characters += sum(s != h for s, _, h in positions)
        detected_characters += sum(s not in (r, h) for s, r, h in positions)
        corrected_characters += sum(s != h and h == r for s, r, h in positions)
    needless_characters = changed_characters - detected_characters
    return CorrectionScores(
        sentences=len(sources),
        characters=sum(map(len, sources)),
        sentence_detection=Agreement(detected, changed, wrong, needless),
        sentence_correction=Agreement(corrected, changed, wrong, needless),
        character_detection=Agreement(detected_characters, changed_characters, wrong_characters, needless_characters),
        character_correction=Agreement(corrected_characters, changed_characters, wrong_characters, needless_characters),
        exact_match=right / len(sources),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
