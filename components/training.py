"""The steps of the training pipeline as components.

The compiler ships a function's source alone: bodies import what they use and no name from outside reaches them.
"""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    model: str,
    overrides: list,
    reason: str,
    pipeline_run: str,
    plan: dsl.Output[dsl.Artifact],
    dataset: dsl.Output[dsl.Dataset],
):
    """Bring the data in, join the features as of each decision, check both against the contract.

    Args:
        model: The model to train: a folder of models/.
        overrides: Hydra overrides of conf/<model>.yaml, for example ["as_of=2013-07-01", "train.max_iter=300"].
        reason: Who or what asks for this run, for the record.
        pipeline_run: The pipeline's own id of this run.
        plan: What exactly is done, with its run key.
        dataset: Training rows, and holdout rows that are later than all of them.
    """
    from headrace.bootstrap import run_step

    run_step(
        "prepare", model=model, overrides=overrides, reason=reason, pipeline_run=pipeline_run,
        plan_out=plan.path, dataset_out=dataset.path,
    )  # fmt: skip


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(plan: dsl.Input[dsl.Artifact], dataset: dsl.Input[dsl.Dataset], trained: dsl.Output[dsl.Model]):
    """Fit the model, export it to ONNX and prove that both decide alike.

    Args:
        plan: What prepare resolved.
        dataset: What prepare made.
        trained: The model directory and what is known of it.
    """
    from headrace.bootstrap import run_step

    run_step("train", plan_in=plan.path, dataset_in=dataset.path, out=trained.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    plan: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Dataset],
    trained: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
) -> int:
    """Score challenger and champion on the same holdout and let the gate decide: 1 promotes, 0 keeps the champion.

    Args:
        plan: What prepare resolved.
        dataset: What prepare made.
        trained: The challenger.
        evaluation: The numbers, the verdict and the report.
    """
    from headrace.bootstrap import run_step

    return run_step(
        "evaluate", plan_in=plan.path, dataset_in=dataset.path, trained_in=trained.path, out=evaluation.path
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(plan: dsl.Input[dsl.Artifact], trained: dsl.Input[dsl.Model], registered: dsl.Output[dsl.Artifact]) -> int:
    """Register the challenger with its lineage and return its version.

    Args:
        plan: What prepare resolved.
        trained: The challenger.
        registered: The version's record.
    """
    from headrace.bootstrap import run_step

    return run_step("register", plan_in=plan.path, trained_in=trained.path, out=registered.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(plan: dsl.Input[dsl.Artifact], version: int, rollout: dsl.Output[dsl.Artifact]) -> int:
    """Roll the version out step by step: 1 when it has all traffic, 0 when it was taken back.

    Args:
        plan: What prepare resolved; it has the rollout policy.
        version: The registered version.
        rollout: How it ended.
    """
    from headrace.bootstrap import run_step

    return run_step("deploy", plan_in=plan.path, version=version, out=rollout.path)
