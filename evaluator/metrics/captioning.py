"""Half METEOR against the accepted captions, half ruCLIP against the image (ImageCaptioning), as published."""

from collections.abc import Sequence

from evaluator.metrics import meteor
from evaluator.metrics.base import Metric, Number, ParameterValue, Resources, Result, Sample, cosines, encode_images

RUCLIP_WEIGHT = 0.5  # published


def evaluate(
    samples: Sequence[Sample],
    resources: Resources,
    *,
    ruclip_weight: float = RUCLIP_WEIGHT,
    **parameters: ParameterValue,
) -> Result:
    """Mean of (1 - w) METEOR + w cosine of the caption and the input's first image; a cosine is not clipped at 0."""
    words = Result.mean(
        [
            meteor.caption_meteor(sample.prediction, sample.answers, resources.ruwordnet, **parameters)  # type: ignore[arg-type]
            for sample in samples
        ]
    )
    encoders = resources.encoders
    ruclip = cosines(
        encoders.text_latents([sample.prediction for sample in samples]),
        encode_images(encoders.image_latents, [sample.images[0] for sample in samples]),
    )
    values = (1 - ruclip_weight) * words.values + ruclip_weight * ruclip
    return Result.mean(values, {"meteor": words.total, "ruclip": float(ruclip.mean())})


METRICS = (
    Metric(
        "captioning",
        "1/2 (METEOR + ruCLIP)",
        "text",
        evaluate,
        {**meteor.CAPTION_PARAMETERS, "ruclip_weight": Number(RUCLIP_WEIGHT, 0, 1)},
        encoders=True,
        ruwordnet=True,
        input_image=True,
    ),
)
