"""From a request to a plan: what exactly would be done, and under which key."""

from dataclasses import replace

from headrace import configuration
from headrace.documents import plain, read_contract
from headrace.domain.contract import Contract
from headrace.domain.lineage import run_key
from headrace.domain.request import TrainingRequest
from headrace.learning import model_code
from headrace.ports import Platform
from headrace.steps.handover import Plan


def contract_of(platform: Platform, model: str) -> Contract:
    """The contract of a model as it is written now."""
    configuration.require_model(platform.root, model)
    return read_contract(platform.root / "models" / model / "contract.yaml")


def make_plan(platform: Platform, request: TrainingRequest, pipeline_run: str = "") -> Plan:
    """Resolve configuration, data and code; brings the data in if it is not there.

    Raises:
        UsageError: the configuration is wrong; nothing was done.
        DataError: the data can't be made.
    """
    config = configuration.compose(platform.root, request)
    code = model_code.load(platform.root, request.model)
    config = replace(config, train=code.resolved(config.train))
    contract = contract_of(platform, request.model)
    fingerprint = config.fingerprint(platform.data.bring(contract.rows.stage))
    version = platform.code_version(request.model)
    return Plan(
        request=request,
        config=config,
        fingerprint=fingerprint,
        code=version,
        run_key=run_key(request.model, fingerprint, plain(config), version),
        pipeline_run=pipeline_run,
        environment=platform.environment,
    )
