"""The image's own check, run by docker/Dockerfile as the submission's user: each package imports, youtokentome's and
torch's native parts work, eco2AI can write its settings. Writes the versions of all packages to the file named.

    python3 check_image.py UID FILE
"""

import importlib
import importlib.metadata
import os
import shutil
import sys

PACKAGES = (
    "torch", "transformers", "huggingface_hub", "safetensors", "youtokentome", "numpy", "PIL", "yaml", "tqdm", "nltk",
    "pydantic", "pymorphy3", "razdel", "rapidfuzz", "pyarrow", "pynvml", "eco2ai", "pandas",
)  # fmt: skip


def main(uid: int, versions: str) -> None:
    if os.getuid() != uid:
        raise SystemExit(f"runs as uid {os.getuid()}, not {uid}")
    if not shutil.which("top"):
        raise SystemExit("top is missing (package procps): eco2AI reads the CPU's load from it")
    if os.environ.get("HF_HUB_OFFLINE") != "1":
        raise SystemExit("HF_HUB_OFFLINE is not 1: a model by name would wait for a network that is not there")
    # Now, as pkg_resources, which eco2AI imports, later puts copies of others' packages on the path.
    installed = {(found.metadata["Name"].lower(), found.version) for found in importlib.metadata.distributions()}

    for package in PACKAGES:
        importlib.import_module(package)

    import eco2ai
    import torch

    assert (torch.ones(2, 2) @ torch.ones(2, 2)).sum().item() == 8
    eco2ai.set_params(project_name="check")
    assert eco2ai.get_params()["project_name"] == "check"

    with open(versions, "w") as file:
        file.writelines(f"{name}=={version}\n" for name, version in sorted(installed))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
