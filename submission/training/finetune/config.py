"""Settings of fine-tuning, which configs/demo.yaml documents: the YAML file of `finetune.py` as typed models."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from contract import show
from rudolph.faults import faults, unknown_key
from rudolph.settings import Settings
from training.carbon import check_country
from training.dataset import DEFAULT_WEIGHTS
from training.finetune import published

log = logging.getLogger(__name__)

SUBMISSION = Path(__file__).resolve().parents[2]
MODEL = "model"  # the folder of a stage's result
FreezeGroup = Literal["embeddings", "norms", "attention", "feed_forward", "other"]
FREEZE_GROUPS = get_args(FreezeGroup)

Count = Annotated[int, Field(ge=1, description="a whole number, 1 or more")]
CountOrNone = Annotated[int, Field(ge=0, description="a whole number, 0 or more")]
Positive = Annotated[float, Field(gt=0, description="a number above 0")]
NotNegative = Annotated[float, Field(ge=0, description="a number, 0 or more")]
Folder = Annotated[str, Field(min_length=1, description="the path of a folder")]
FilePath = Annotated[str | None, Field(description="a path")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TaskSettings(_Model):
    """What a task counts, and where its files are if not where `training.convert` puts them."""

    lt: NotNegative
    img: NotNegative
    rt: NotNegative
    task_weight: NotNegative = 0.5
    dataset_path: FilePath = None  # the folder, in `data`
    train_input: FilePath = None
    train_output: FilePath = None
    val_input: FilePath = None
    val_output: FilePath = None


def _listed(given: Any) -> Any:
    if given and not isinstance(given, list | tuple):
        raise ValueError(f"it must be a list of {', '.join(FREEZE_GROUPS)}")
    return given or ()


class Stage(_Model):
    """Settings of one stage. Raises ValidationError, a ValueError."""

    tasks: dict[str, TaskSettings]
    name: Annotated[str, Field(description="a plain name: letters, digits, _ and -, at most 50")] = "finetune"
    model: Folder = "weights/nano"
    data: Folder = "training/sample_data"
    freeze: Annotated[tuple[FreezeGroup, ...], BeforeValidator(_listed), Field(strict=False)] = ()
    epochs: Count = 2
    batch_size: Count = 2
    accumulation: Count = 1
    epoch_size: Annotated[int | None, Field(ge=1, description="null, or a whole number from 1 on")] = None
    learning_rate: Positive = 2e-5
    final_div_factor: Annotated[float, Field(ge=1, description="a number, 1 or more")] = 500.0
    warmup_share: Annotated[float, Field(gt=0, lt=1, description="a number between 0 and 1")] = 0.3
    weight_decay: NotNegative = 0.0
    clip: Positive = 1.0
    optimizer: Literal["auto", "adam", "adam8bit"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    gradient_checkpointing: bool = False
    task_token_share: Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")] = 0.75
    checkpoint_every: Count = 500
    checkpoints_kept: Count = 2
    lora_rank: CountOrNone = 0
    validation_examples: CountOrNone = 0
    seed: int = 0

    @field_validator("tasks", mode="before")
    @classmethod
    def _with_default_weights(cls, tasks: Any) -> Any:
        if not isinstance(tasks, Mapping):
            raise ValueError("it must be keys and values")
        unknown = [unknown_key(name, list(DEFAULT_WEIGHTS)) for name in tasks if name not in DEFAULT_WEIGHTS]
        if unknown:
            raise ValueError("; ".join(unknown))
        chosen = {name: {} if given in (None, True) else given for name, given in tasks.items() if given is not False}
        if not chosen:
            raise ValueError(f"all are off; allowed are {', '.join(DEFAULT_WEIGHTS)}")
        return {
            name: dict(zip(("lt", "img", "rt"), DEFAULT_WEIGHTS[name], strict=True)) | given
            if isinstance(given, dict) else given
            for name, given in chosen.items()
        }  # fmt: skip

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        if not re.fullmatch(r"[\w-]{1,50}", name):
            raise ValueError
        return name

    @model_validator(mode="after")
    def _trains_something(self) -> Stage:
        if set(self.freeze) == set(FREEZE_GROUPS):
            raise ValueError("freeze names all groups: nothing would be trained; allowed are fewer")
        if self.lora_rank and self.freeze:
            raise ValueError("freeze and lora_rank are both given; LoRA freezes everything but itself")
        return self


class FineTuning(_Model):
    """A whole run: its stages one after the other, each from the model of the one before.

    `config`: what the exported config.yaml has otherwise than this one's. Validation answers by these and, for what
    they leave out, by the defaults of `Settings`, as submission/config.yaml may draw each image many times.
    """

    stages: Annotated[tuple[Stage, ...], Field(strict=False)]
    output: Path
    codes: Path
    country: str = "RU"
    device: Literal["auto", "cpu"] = "auto"
    config: dict[str, Any] = {}

    @field_validator("output")
    @classmethod
    def _is_outside(cls, output: Path) -> Path:
        if output.is_relative_to(SUBMISSION):
            raise ValueError(f"output is {show(str(output))}; it must not lie in submission/, which is copied to it")
        return output

    @field_validator("country")
    @classmethod
    def _is_known(cls, country: str) -> str:
        check_country(country)
        return country

    @field_validator("config")
    @classmethod
    def _is_as_config_yaml(cls, config: dict[str, Any]) -> dict[str, Any]:
        if "model" in config:
            raise ValueError(unknown_key("model", [field.name for field in fields(Settings) if field.name != "model"]))
        Settings.from_dict(config, "config")
        return config

    @model_validator(mode="after")
    def _names_differ(self) -> FineTuning:
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("two stages have the same name")
        return self

    @classmethod
    def from_file(cls, path: Path, output: Path | None = None) -> FineTuning:
        """Settings of a YAML file; paths in it count from submission/.

        `output`, which counts from the working directory, goes before the file's.

        A key of the file holds for all of `stages`, whose own keys go before; without `stages` the file is one.
        A file of the published training is translated, and logged is what of it has no counterpart.
        Raises ValueError with the file and all that is wrong in it, OSError.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            if published.is_published(values):
                translation = published.translate(values, Path.cwd())
                values = translation.values
                for note in translation.notes:
                    log.warning("%s: %s", path, note)
            if not isinstance(values, Mapping):
                raise ValueError(f"the file is {show(values)}; it must be keys and values")
            allowed = list(dict.fromkeys([*Stage.model_fields, *cls.model_fields]))
            found = [unknown_key(key, allowed) for key in values if key not in allowed]
            known = {key: value for key, value in values.items() if key in allowed}
            try:
                run = cls.model_validate(_of_each_stage(known, output))
            except ValidationError as error:
                found += _faults(error, known)
            if found:
                raise ValueError("; ".join(found))
            return run
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: is not YAML in UTF-8: {' '.join(str(error).split())}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _of_each_stage(values: Mapping[str, Any], output: Path | None) -> dict[str, Any]:
    """The values of a file for FineTuning: each stage with what the file says for all. Raises ValueError."""
    stages = values.get("stages", [{}])
    if not isinstance(stages, list) or not stages or not all(isinstance(own, dict) for own in stages):
        raise ValueError(f"stages is {show(stages)}; it must be a list of settings")
    to = str(output.resolve()) if output is not None else values.get("output")
    if not isinstance(to, str) or not to:
        raise ValueError(f"output is {show(to)}; it must be the path of a folder")
    codes = values.get("codes") or f"{to}/codes"
    if not isinstance(codes, str):
        raise ValueError(f"codes is {show(codes)}; it must be null, or the path of a folder")
    run = {key: values[key] for key in ("country", "device", "config") if values.get(key) is not None}
    run |= {"output": (SUBMISSION / to).resolve(), "codes": (SUBMISSION / codes).resolve()}
    common = {key: value for key, value in values.items() if key not in FineTuning.model_fields}
    made: list[dict[str, Any]] = []
    for own in stages:
        before = {"model": f"{to}/{made[-1].get('name', 'finetune')}/{MODEL}"} if made else {}
        made.append(common | before | own)
    return run | {"stages": made}


def _faults(error: ValidationError, values: Mapping[str, Any]) -> list[str]:
    """A line for each; what the file says for all stages is named once, without the number of a stage."""
    found = {}
    for place, line in faults(error, FineTuning).items():
        if place[:1] == ("stages",):
            own = values["stages"][place[1]] if "stages" in values else {}
            if not own or (len(place) > 2 and place[2] not in own):
                place, line = place[2:], line.removeprefix(f"stages[{place[1]}]: ")
        found[place] = line
    return list(found.values())
