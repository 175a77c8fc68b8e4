"""Who asks which model."""

from collections import Counter
from collections.abc import Callable
from random import Random

from loadtest.workload.choices import Choice, Evenly, picker
from loadtest.workload.errors import WorkloadError
from loadtest.workload.randomness import stream
from loadtest.workload.spec import Model, Workload
from loadtest.workload.trace import Arrival

_Pick = Callable[[Random], int]


class Population:
    """Draws a request's tenant and model. Raises WorkloadError where a tenant may ask none."""

    def __init__(self, workload: Workload) -> None:
        self._models = workload.models
        self._tenants = [tenant.name for tenant in workload.tenants]
        self._model_rng = stream(workload.seed, "models")
        self._tenant_rng = stream(workload.seed, "tenants")
        owned = any(model.tenant is not None for model in self._models)
        self._model_first = not self._tenants or (owned and workload.choice_of_tenants is None)
        self._pick_tenant = _tenant_picker(workload)
        self._pick_model = _model_picker(workload.model_choice, self._models)
        self._of_tenant = {name: self._choices_of(name, workload) for name in self._tenants}
        self._owners = _owners(self._models)
        names = Counter(model.name for model in self._models)
        self._shared_names = {name for name, times in names.items() if times > 1}

    def pick(self, arrival: Arrival) -> tuple[str, str]:
        """The tenant ("" where there are none) and the model; what a trace says stands."""
        self._check(arrival)
        if arrival.model is not None:
            return self._tenant_for(arrival), arrival.model
        if arrival.tenant is None and self._model_first:
            model = self._models[self._pick_model(self._model_rng)]
            return self._owner(model.tenant), model.name
        tenant = arrival.tenant or self._any_tenant()
        models, pick = self._of_tenant.get(tenant, (self._models, self._pick_model))
        return tenant, models[pick(self._model_rng)].name

    def label(self, tenant: str, model: str) -> str:
        """What figures call a model: TENANT/MODEL where several tenants have one of that name,
        since each is another."""
        return f"{tenant}/{model}" if model in self._shared_names else model

    def _choices_of(self, tenant: str, workload: Workload) -> tuple[tuple[Model, ...], _Pick]:
        models = tuple(model for model in self._models if model.tenant in (None, tenant))
        if self._models and not any(model.weight for model in models):
            raise WorkloadError(f"models: all that `{tenant}` may ask have weight 0; raise one's")
        return models, _model_picker(workload.model_choice, models)

    def _tenant_for(self, arrival: Arrival) -> str:
        """Who asks the model that a trace names."""
        if arrival.tenant is not None:
            return arrival.tenant
        return self._owner(self._owners.get(arrival.model or ""))

    def _owner(self, tenant: str | None) -> str:
        return tenant if tenant is not None else self._any_tenant()

    def _any_tenant(self) -> str:
        return self._tenants[self._pick_tenant(self._tenant_rng)] if self._tenants else ""

    def _check(self, arrival: Arrival) -> None:
        if arrival.tenant is not None and arrival.tenant not in self._of_tenant:
            raise WorkloadError(
                f"trace, line {arrival.line}: tenant `{arrival.tenant}` is not among the tenants;"
                ' add it, or leave the column out with `columns: {tenant: ""}`'
            )
        if arrival.model is None:
            if not self._models:
                raise WorkloadError(
                    f"trace, line {arrival.line}: names no model; give `models` to choose from"
                )
        elif self._models and arrival.model not in self._owners:
            raise WorkloadError(
                f"trace, line {arrival.line}: model `{arrival.model}` is not among the models;"
                ' add it, or leave the column out with `columns: {model: ""}`'
            )


def _tenant_picker(workload: Workload) -> _Pick:
    choice = workload.choice_of_tenants or Evenly()
    return picker(choice, [tenant.weight for tenant in workload.tenants] or [1])


def _model_picker(choice: Choice, models: tuple[Model, ...]) -> _Pick:
    return picker(choice, [model.weight for model in models] or [1])


def _owners(models: tuple[Model, ...]) -> dict[str, str | None]:
    """By a model's name whose it is; the first's where several tenants have one of that name."""
    found: dict[str, str | None] = {}
    for model in models:
        found.setdefault(model.name, model.tenant)
    return found
