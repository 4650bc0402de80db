"""A promoted model to a registered version with its lineage."""

from pathlib import Path

from headrace.documents import plain, read_json, write_json
from headrace.domain.lineage import Lineage
from headrace.ports import Platform
from headrace.running import progress
from headrace.steps import handover


def register(platform: Platform, plan_in: Path, trained_in: Path, out: Path) -> int:
    """Register the trained model and call it challenger. Idempotent by the plan's run key.

    Args:
        platform: the ports.
        plan_in: folder of `prepare`'s plan.
        trained_in: folder of `train`'s result.
        out: folder for `version.json`.

    Returns:
        The version.

    Raises:
        Unavailable: MLflow does not answer; nothing was registered.
    """
    plan = read_json(handover.Plan, plan_in / handover.PLAN)
    trained = read_json(handover.TrainedModel, trained_in / handover.TRAINED)
    model = plan.request.model
    lineage = Lineage(
        model=model,
        run_key=plan.run_key,
        fingerprint=plan.fingerprint,
        code=plan.code,
        parameters=plain(plan.config),
        feature_service=model,
        learnt_until=trained.learnt_until,
        environment=plan.environment,
        pipeline_run=plan.pipeline_run,
        experiment_run=trained.experiment_run,
        parent=platform.registry.alias(model, "champion"),
        files=trained.files,
    )
    version = platform.registry.register(lineage, trained_in / handover.MODEL_DIRECTORY)
    platform.registry.set_alias(model, "challenger", version.version)
    write_json(out / handover.REGISTERED, version)
    progress("register", f"{model} v{version.version}, challenger")
    return version.version
