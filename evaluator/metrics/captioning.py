"""Half METEOR against the accepted captions, half ruCLIP against the image, as published."""

from collections.abc import Sequence
from typing import Annotated

from evaluator.core.validation import number
from evaluator.metrics import meteor
from evaluator.metrics.base import Metric, Resources, Result, Sample
from evaluator.metrics.encoders import ENCODERS, cosines, encode_images

RUCLIP_WEIGHT = 0.5  # published


def evaluate(
    samples: Sequence[Sample],
    resources: Resources,
    *,
    ruclip_weight: float = RUCLIP_WEIGHT,
    alpha: float = meteor.ALPHA,
    beta: float = meteor.BETA,
    gamma: float = meteor.CAPTION_GAMMA,
    stemmer: str = meteor.CAPTION_STEMMER,
) -> Result:
    """Mean of (1 - w) METEOR + w cosine of the caption and the input's first image; a cosine is not clipped at 0."""
    words = Result.mean(
        [
            meteor.caption_meteor(
                sample.prediction,
                sample.answers,
                resources[meteor.RUWORDNET],
                alpha=alpha,
                beta=beta,
                gamma=gamma,
                stemmer=stemmer,
            )
            for sample in samples
        ]
    )
    encoders = resources[ENCODERS]
    ruclip = cosines(
        encoders.text_latents([sample.prediction for sample in samples]),
        encode_images(encoders.image_latents, [sample.images[0] for sample in samples]),
    )
    values = (1 - ruclip_weight) * words.values + ruclip_weight * ruclip
    return Result.mean(values, {"meteor": words.total, "ruclip": float(ruclip.mean())})


class CaptioningParameters(meteor.CaptionParameters):
    """METEOR's, and the share of ruCLIP in the score."""

    ruclip_weight: Annotated[float, number(0, 1)] = RUCLIP_WEIGHT


METRICS = (
    Metric(
        "captioning",
        "1/2 (METEOR + ruCLIP)",
        "text",
        evaluate,
        CaptioningParameters,
        requires=(ENCODERS, meteor.RUWORDNET),
        input_image=True,
        part_titles=(("meteor", "METEOR"), ("ruclip", "ruCLIP")),
    ),
)
