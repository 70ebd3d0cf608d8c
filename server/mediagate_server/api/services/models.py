"""gRPC servicer of ModelService."""

from collections.abc import Callable
from typing import Final

from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import modality_pb2, models_pb2, models_pb2_grpc
from mediagate_server.api import page_tokens, text_stream_writer
from mediagate_server.api.billable_call_handler import (
    BillableCallHandler,
    RpcContext,
    record_generation,
)
from mediagate_server.api.convert import responses
from mediagate_server.api.page_tokens import PageTokens
from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.models.model import Model, SchemaSource
from mediagate_server.catalog.models.model_info import (
    ParameterInfo,
    list_capabilities,
    list_parameters,
)
from mediagate_server.catalog.pricing.prices import PriceSchedule, Tier
from mediagate_server.catalog.request import Modality
from mediagate_server.errors import (
    Failure,
    InvalidRequest,
    MediagateError,
    ModelNotFound,
    StoredFailure,
    Violation,
)
from mediagate_server.structs import replace

_MODALITIES: dict[int, Modality] = {
    responses.MODALITIES[modality.value]: modality for modality in Modality
}

_ESTIMATED: Final = {
    "text": ("GenerateText", Modality.TEXT),
    "image": ("GenerateImage", Modality.IMAGE),
    "video": ("GenerateVideo", Modality.VIDEO),
    "audio": ("GenerateAudio", Modality.AUDIO),
    "safety": ("CheckSafety", Modality.SAFETY),
    "run": ("RunModel", Modality.RAW),
}
"""Field of EstimateCostRequest, then the rpc that it estimates, and its modality."""


class ModelService(models_pb2_grpc.ModelServiceServicer):
    """ModelService: the catalog, cost estimates, and runs of any model by its slug."""

    def __init__(
        self, catalog: Callable[[], Catalog], calls: BillableCallHandler, tokens: PageTokens
    ) -> None:
        self._catalog = catalog
        self._tokens = tokens
        self._calls = calls

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, context: RpcContext
    ) -> models_pb2.ListModelsResponse:
        """Lists the catalog, by modality and slug."""
        tokens = self._tokens.for_request("ListModels", request.modality, request.quality)
        after = tokens.read(request.page_token)
        begin = after[0] if after else 0
        end = begin + page_tokens.effective_page_size(request.page_size)
        models = [
            model
            for model in self._catalog().models()
            if _matches(model, request.modality, request.quality)
        ]
        return models_pb2.ListModelsResponse(
            models=[_model(model) for model in models[begin:end]],
            next_page_token=tokens.write([end]) if end < len(models) else "",
        )

    async def GetModel(
        self, request: models_pb2.GetModelRequest, context: RpcContext
    ) -> models_pb2.GetModelResponse:
        """Returns one model of the catalog."""
        model = self._catalog().find_by_name(request.model)
        if model is None:
            nearest = self._catalog().nearest_names(request.model)
            raise ModelNotFound(request.model, nearest=nearest)
        return models_pb2.GetModelResponse(model=_model(model))

    async def EstimateCost(
        self, request: models_pb2.EstimateCostRequest, context: RpcContext
    ) -> models_pb2.EstimateCostResponse:
        """Plans a request without running it; fields at fault are named from here."""
        kind = request.WhichOneof("request")
        if kind is None:
            raise InvalidRequest.of("request", "must have a request")
        method, modality = _ESTIMATED[kind]
        try:
            plan = await self._calls.build_request_plan(
                getattr(request, kind), method=method, modality=modality
            )
        except MediagateError as error:
            raise StoredFailure(_with_field_prefix(error.failure, kind)) from error
        return models_pb2.EstimateCostResponse(plan=responses.encode_request_plan(plan))

    async def RunModel(
        self, request: models_pb2.RunModelRequest, context: RpcContext
    ) -> models_pb2.RunModelResponse:
        """Runs any model by its slug; answers once it has ended, or after `wait`."""
        call = await self._calls.start(
            request, method="RunModel", modality=Modality.RAW, wait_by_default=True
        )
        del request  # It may be large, and is of no use any more.
        answer = await call.answer(context)
        return models_pb2.RunModelResponse(**answer.fields())

    async def StreamModel(  # type: ignore[override]  # gRPC takes one that writes, too
        self, request: models_pb2.StreamModelRequest, context: RpcContext
    ) -> None:
        """Runs any model by its slug and streams its text, where it streams one."""
        attachment = await self._calls.attach(request, method="StreamModel", modality=Modality.RAW)
        async with attachment as attached:
            writer = text_stream_writer.StreamResponseWriter(
                context, models_pb2.StreamModelResponse, request.after_sequence
            )
            del request  # It may be large, and is of no use any more.
            record_generation(attached.record)
            await writer.write(started=text_stream_writer.started_event(attached))
            await attached.stream(writer)
            record_generation(attached.record)
            links = await self._calls.links.links_for(attached.record)
            completed = models_pb2.ModelCompleted(
                generation=responses.encode_generation(attached.record, links)
            )
            await writer.write(completed=completed)


def _with_field_prefix(failure: Failure, kind: str) -> Failure:
    """The same failure, its fields as paths from the EstimateCost request."""
    return replace(
        failure,
        violations=tuple(
            Violation(f"{kind}.{violation.field}", violation.description)
            for violation in failure.violations
        ),
        metadata={
            name: f"{kind}.{value}" if name == "field" else value
            for name, value in failure.metadata.items()
        },
    )


def _matches(model: Model, modality: int, quality: int) -> bool:
    if modality and _MODALITIES.get(modality) is not model.modality:
        return False
    return not quality or modality_pb2.Quality.Value(f"QUALITY_{model.quality.name}") == quality


def _model(model: Model) -> models_pb2.Model:
    return models_pb2.Model(
        slug=model.slug,
        aliases=model.aliases,
        modality=responses.MODALITIES[model.modality.value],
        kind=models_pb2.Model.Kind.Value(f"KIND_{model.kind.name}"),
        vendor=model.vendor,
        quality=modality_pb2.Quality.Value(f"QUALITY_{model.quality.name}"),
        status=models_pb2.Model.Status.Value(f"STATUS_{model.status.name}"),
        successor=model.successor,
        streams=model.streams,
        capabilities=list_capabilities(model),
        parameters=[_parameter(offer) for offer in list_parameters(model)],
        price=_price(model.price),
        max_run=Duration(seconds=model.max_run),
        max_output_tokens=model.max_output_tokens,
        version=model.version,
        fallback_models=model.fallbacks,
        stands_in_for=[
            models_pb2.StandIn(name=name, reason=reason)
            for name, reason in model.stands_in_for.items()
        ],
        safety_class=models_pb2.Model.SafetyClass.Value(f"SAFETY_CLASS_{model.safety.name}"),
        inputs_verified=model.inputs_from is SchemaSource.VERIFIED,
        usual_run=Duration(seconds=model.usual_run),
    )


def _parameter(offer: ParameterInfo) -> models_pb2.ModelParameter:
    return models_pb2.ModelParameter(
        parameter=offer.parameter,
        input_name=offer.input_name,
        minimum=offer.minimum,
        maximum=offer.maximum,
        allowed_values=offer.allowed_values,
        default_value=offer.default_value,
        required=offer.required,
    )


def _price(schedule: PriceSchedule) -> models_pb2.PriceSchedule:
    return models_pb2.PriceSchedule(
        tiers=[_tier(tier) for tier in schedule.tiers],
        price_date=schedule.as_of,
        source=schedule.source,
        assumed=schedule.assumed,
    )


def _tier(tier: Tier) -> models_pb2.PriceTier:
    return models_pb2.PriceTier(
        criteria=[
            models_pb2.PriceCriterion(
                metric=criterion.metric,
                equals=criterion.equals,
                over=None if criterion.over is None else str(criterion.over),
                up_to=None if criterion.up_to is None else str(criterion.up_to),
            )
            for criterion in tier.criteria
        ],
        rates=[
            models_pb2.PriceRate(metric=rate.metrics[0], usd=str(rate.usd), per=rate.per)
            for rate in tier.rates
        ],
    )
