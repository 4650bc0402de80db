"""The training pipeline: prepare, train, evaluate, and for a promoted model register and deploy."""

from kfp import dsl

from components import training as steps
from pipelines.cluster import in_cluster


@dsl.pipeline(
    name="training",
    description="Train a model, judge it against the champion on a later holdout, and roll it out if it is better.",
)
def training(
    model: str = "flight_delay",
    overrides: list = [],  # noqa: B006 - kfp reads the default and copies it
    reason: str = "asked for by hand",
):
    """Train, judge, roll out.

    Args:
        model: The model to train: a folder of models/.
        overrides: Hydra overrides of conf/<model>.yaml, for example ["as_of=2013-07-01", "train.max_iter=300"].
        reason: Who or what asks for this run, for the record.
    """
    prepared = steps.prepare(
        model=model, overrides=overrides, reason=reason, pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER
    )
    prepared.set_caching_options(False)  # the data behind equal arguments can change
    in_cluster(prepared, "1Gi", "4Gi", hours=2)
    plan, dataset = prepared.outputs["plan"], prepared.outputs["dataset"]
    trained = steps.train(plan=plan, dataset=dataset)
    in_cluster(trained, "1Gi", "4Gi", hours=12, retries=1)
    judged = steps.evaluate(plan=plan, dataset=dataset, trained=trained.outputs["trained"])
    judged.set_caching_options(False)  # the champion can change
    in_cluster(judged, "1Gi", "4Gi", hours=2)
    # An int of our own code: conditions on strings are evaluated as code by the local runner.
    with dsl.If(judged.outputs["Output"] == 1, name="promoted"):
        registered = steps.register(plan=plan, trained=trained.outputs["trained"])
        registered.set_caching_options(False)
        in_cluster(registered, "512Mi", "2Gi", hours=1)
        deployed = steps.deploy(plan=plan, version=registered.outputs["Output"])
        deployed.set_caching_options(False)
        # The rollout's own deadlines end it; one whose pod is lost goes on where it was.
        in_cluster(deployed, "512Mi", "2Gi", retries=1)
