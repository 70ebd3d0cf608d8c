"""Requests of lists and totals."""

from collections.abc import Mapping, Sequence

from mediagate.v1.generation_pb2 import GenerationView
from mediagate.v1.generations_pb2 import ListGenerationsRequest
from mediagate.v1.models_pb2 import ListModelsRequest
from mediagate.v1.usage_pb2 import (
    GetReconciliationRequest,
    GetUsageRequest,
    ListChargesRequest,
)
from mediagate_client.conversion import build, fill


def list_request(
    filters: Mapping[str, object], page_size: int, view: GenerationView.ValueType
) -> ListGenerationsRequest:
    """Return the request for the first page of generations."""
    request = build(ListGenerationsRequest, page_size=page_size, view=view)
    if filters:
        fill(request.filter, filters)
    return request


def models_request(modality: str | int | None, quality: str | int | None) -> ListModelsRequest:
    """Return the request for the first page of the catalog."""
    request = ListModelsRequest(page_size=1000)
    fill(request, {"modality": modality, "quality": quality})
    return request


def usage_request(
    filters: Mapping[str, object], group_by: Sequence[str | int], label_key: str
) -> GetUsageRequest:
    """Return the request for totals."""
    request = build(GetUsageRequest, label_key=label_key)
    fill(request, {"group_by": group_by})
    if filters:
        fill(request.filter, filters)
    return request


def charges_request(filters: Mapping[str, object], page_size: int) -> ListChargesRequest:
    """Return the request for the first page of charges."""
    request = build(ListChargesRequest, page_size=page_size)
    if filters:
        fill(request.filter, filters)
    return request


def reconciliation_request(start_time: object, page_size: int) -> GetReconciliationRequest:
    """Return the request for the discrepancies since `start_time`."""
    request = build(GetReconciliationRequest, page_size=page_size)
    fill(request, {"start_time": start_time})
    return request
