"""Configuration of a model's training, from ``conf/`` by Hydra; OmegaConf stops here."""

import re
from pathlib import Path
from typing import Any

from headrace.documents import bind
from headrace.domain.request import TrainingConfig, TrainingRequest
from headrace.errors import UsageError


def models(root: Path) -> tuple[str, ...]:
    """The models of a project, by name: the folders of ``models/`` with a contract."""
    return tuple(sorted(path.parent.name for path in (root / "models").glob("*/contract.yaml")))


def require_model(root: Path, model: str) -> str:
    """The model's name, if there is such a model. Raises UsageError."""
    if model not in models(root):
        raise UsageError(f"there is no model {model!r}; models/ has {', '.join(models(root)) or 'none'}")
    return model


def compose(root: Path, request: TrainingRequest) -> TrainingConfig:
    """Resolve ``conf/<model>.yaml`` with the request's overrides.

    Raises:
        UsageError: no such model or file, an override that is not KEY=VALUE, an unknown key, or a wrong value.
    """
    require_model(root, request.model)
    source = f"conf/{request.model}.yaml"
    if not (root / source).is_file():
        raise UsageError(f"{source} is not there: it configures the training of {request.model}")
    shown = " ".join(request.overrides)
    bound: TrainingConfig = bind(TrainingConfig, _hydra(root, request), f"{source} {shown}".strip())
    return bound


def _hydra(root: Path, request: TrainingRequest) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in request.overrides:
        if not re.match(r"(\+{0,2}|~)[A-Za-z_][\w./@-]*(=|$)", override):
            raise UsageError(f"{override!r} is not an override: write KEY=VALUE, for example train.max_iter=300")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(root / "conf"), version_base="1.3"):
            composed = hydra_compose(config_name=request.model, overrides=list(request.overrides))
            return OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as refused:
        raise UsageError(_sentence(request.model, refused)) from refused


def _sentence(model: str, refused: Exception) -> str:
    # Hydra wraps the cause: its own first line says which override, the cause says which key.
    lines = [line.strip() for line in str(refused).splitlines() if line.strip()]
    cause = str(refused.__cause__).splitlines()[0].strip() if refused.__cause__ else ""
    text = ". ".join(dict.fromkeys(part.rstrip(".") for part in (lines[0] if lines else "", cause) if part))
    return f"configuration of {model}: {text}. conf/{model}.yaml shows the keys"
