"""Scoring method, strategy and app of MONAI Label."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from vafa_monai.attacks.pgd import PGD
from vafa_monai.data.files import sha256
from vafa_monai.label.fragility import Fragility

__all__ = ["robust_app"]

SCORE, MADE_OF = "robustness_change", "robustness_of"  # of an image in the datastore
STOCK_MODULE = "monaibundle_stock_app"

log = logging.getLogger(__name__)


class RobustnessScoring(ScoringMethod):  # type: ignore[misc] # MONAI Label has no types
    """Score every unlabeled volume by how far a small attack moves its prediction.

    The score, ``robustness_change`` in the datastore, is :func:`vafa_monai.label.prediction_change`. A volume that has
    the score of the same weights and attack is skipped, so a scoring that was stopped goes on.

    Args:
        bundle: folder of the bundle.
    """

    def __init__(self, bundle: str | Path) -> None:
        super().__init__("How far a small attack moves the prediction: 1 - DSC")
        self.bundle = Path(bundle)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score.

        Args:
            request: ``model_filename``, ``device``, ``eps``, ``steps`` and ``max_samples``, each with a default.
            datastore: holds the volumes and gets the scores.

        Returns:
            How many volumes there are, were skipped and scored, what failed and why, and the seconds it took.
        """
        start, name = time.perf_counter(), request.get("model_filename", "model.pt")
        if Path(name).name != name:
            raise ValueError(f"model_filename must be the name of a file in models, got {name!r}.")
        checkpoint, usual = f"models/{name}", "cuda" if torch.cuda.is_available() else "cpu"
        attack = PGD(eps=float(request.get("eps", 2 / 255)), steps=int(request.get("steps", 5)))
        measure = Fragility(
            bundle=self.bundle, checkpoint=checkpoint, attack=attack, device=request.get("device", usual)
        )
        made_of = f"{sha256(self.bundle / checkpoint)} eps={attack.eps} steps={attack.steps}"
        images = datastore.get_unlabeled_images()
        todo = [image for image in images if datastore.get_image_info(image).get(MADE_OF) != made_of]
        now, failed = todo[: request.get("max_samples") or None], {}  # 0 is all, as for MONAI Label's own methods
        for number, image in enumerate(now, 1):
            try:
                change = measure(datastore.get_image_uri(image))
            except Exception as error:  # one volume that cannot be read does not affect the others
                log.exception("robustness of %s", image)
                failed[image] = str(error).splitlines()[0] if str(error) else type(error).__name__
                continue
            datastore.update_image_info(image, {SCORE: change, MADE_OF: made_of})
            log.info("robustness %d/%d: %s moves by %.4f", number, len(now), image, change)
        seconds = round(time.perf_counter() - start, 3)
        return {
            "total": len(images),
            "skipped": len(images) - len(todo),
            "executed": len(now) - len(failed),
            "failed": failed,
            "latency": seconds,
        }


class MostFragile(Strategy):  # type: ignore[misc]
    """Annotate first what an attack moves most; what has no score yet comes last, in the order of the datastore."""

    def __init__(self) -> None:
        super().__init__("The volume whose prediction a small attack moves most")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return ``id`` and ``weight`` of the next volume, or nothing if all have labels."""
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        if not images:
            return None
        scores = {image: datastore.get_image_info(image).get(SCORE, -1.0) for image in images}
        image = max(images, key=lambda one: float(scores[one]))
        return {"id": image, "weight": scores[image]}


def robust_app(stock: Path) -> type:
    """Return the app of a ``main.py`` of MONAI Label's ``monaibundle`` with our scoring and strategy added.

    MONAI Label looks for a class that names ``MONAILabelApp`` among its own bases, and takes the first that it finds.
    """
    base: Any = _module(stock).MyApp

    class RobustApp(base, MONAILabelApp):  # type: ignore[misc]
        """The stock app, with ``robustness_<bundle>`` for every bundle, and ``most_fragile``."""

        def init_scoring_methods(self) -> dict[str, ScoringMethod]:
            own = {f"robustness_{name}": RobustnessScoring(folder) for name, folder in self.models.items()}
            return {**super().init_scoring_methods(), **own}

        def init_strategies(self) -> dict[str, Strategy]:
            return {**super().init_strategies(), "most_fragile": MostFragile()}

    return RobustApp


def _module(path: Path) -> ModuleType:
    """Load a Python file as a module."""
    spec = importlib.util.spec_from_file_location(STOCK_MODULE, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"stock must be a Python file, got {str(path)!r}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[STOCK_MODULE] = module
    spec.loader.exec_module(module)
    return module
