"""Whether a record could be one of the run at hand."""

from __future__ import annotations

from ..containers.container import ReadOptions
from ..containers.places import stored_at
from ..finding.files import image_file
from ..finding.stored import StoredImage
from ..machine.errors import ImageError, InputError
from ..results.records import Verdict
from .detector import Detector
from .options import AUTO_CROPS


class SameRun:
    """Tells verdicts that were made with another bundle or in another way.

    Another version of an engine, or another device, is another way: its numbers are others.

    Serves as :data:`..results.resume.Differences`.
    """

    def __init__(self, detector: Detector, options: ReadOptions) -> None:
        """Compare with verdicts of ``detector`` on images that are read with ``options``."""
        self._detector, self._options = detector, options
        self._seed_compared = False

    def __call__(self, verdict: Verdict) -> list[str]:
        """Return what was different, in the words of options or of records."""
        detector, bundle, options = self._detector, self._detector.bundle, self._detector.options
        fake = verdict.verdict == bundle.manifest.fake_class
        compared = (
            (f"--bundle {verdict.bundle}", verdict.bundle == bundle.name),
            (f"{verdict.engine} (now {detector.engine})", verdict.engine == detector.engine),
            (
                f"precision {verdict.precision} (now {detector.precision})",
                verdict.precision == detector.precision,
            ),
            (f"--crops {_crops_of(verdict)}", self._same_crops(verdict)),
            ("another --threshold", fake == (verdict.score >= detector.threshold)),
            ("--allow-damaged", options.allow_damaged or not verdict.damaged),
            ("another --seed, --fixed-seed or GLASS_SEED_KEY", self._same_seed(verdict)),
        )
        return [what for what, same in compared if not same]

    def _same_crops(self, verdict: Verdict) -> bool:
        """Whether as many crops would be asked for again."""
        views = self._detector.bundle.manifest.views
        asked = self._detector.options.crops or views.num_crops
        return not views.drawn or _crops_of(verdict) == asked

    def _same_seed(self, verdict: Verdict) -> bool:
        """Whether an image gets the same seed again; files that have changed are not compared.

        One image is compared, because it has to be read and decoded.
        """
        if verdict.seed is None or self._seed_compared:
            return True
        if verdict.path is None or verdict.file is None:
            return True
        try:
            image = stored_at(verdict.path, self._options) or verdict.path
            now = image.file if isinstance(image, StoredImage) else image_file(image)
            if now != verdict.file:
                return True
            seed = self._detector.generator_seed(image)
        except (ImageError, InputError):  # an input error: of a table whose column is not known
            return True
        self._seed_compared = True
        return seed == verdict.seed


def _crops_of(verdict: Verdict) -> int | str:
    return len(verdict.crops) if verdict.settled is None else AUTO_CROPS
