"""The table of messages against the descriptors inside a stock client: names, numbers and types are the protocol's."""

from __future__ import annotations

from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from producer_api.grpc import schema
from shared.wire import outcomes


def theirs(name: str) -> Any:
    first, *rest = name.split(".")
    by_name = service_pb2.DESCRIPTOR.message_types_by_name
    found = by_name.get(first) or model_config_pb2.DESCRIPTOR.message_types_by_name[first]
    for one in rest:
        found = found.nested_types_by_name[one]
    return found


def shape(field: Any) -> tuple[object, ...]:
    """What of a field can be seen on the wire, and in its name."""
    kind = field.message_type or field.enum_type
    return field.number, field.type, field.is_repeated, kind and kind.full_name


@pytest.mark.parametrize("name", schema.MESSAGES)
def test_every_message_is_the_protocols(name: str) -> None:
    own, other = schema.message_class(name).DESCRIPTOR, theirs(name).fields_by_name
    assert own.fields
    for field in own.fields:
        assert shape(field) == shape(other[field.name]), field.full_name


def test_enumerations_are_the_protocols() -> None:
    data_types = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"]
    kinds = theirs("ModelInstanceGroup").enum_types_by_name["Kind"]
    for name, other in (("DataType", data_types), ("ModelInstanceGroup.Kind", kinds)):
        assert list(enumerate(schema.ENUMS[name])) == [(value.number, value.name) for value in other.values]


def test_every_method_of_the_protocol_is_known() -> None:
    from producer_api.grpc.service import NOT_HERE

    methods = set(service_pb2.DESCRIPTOR.services_by_name[schema.SERVICE].methods_by_name)
    assert set(NOT_HERE) < methods


@pytest.mark.parametrize("outcome", outcomes.ALL, ids=lambda one: one.code)
def test_every_outcome_has_a_code(outcome: outcomes.Outcome) -> None:
    import grpc

    from producer_api.grpc.status import code_of

    assert code_of(outcome) in grpc.StatusCode.__members__
    assert (code_of(outcome) == "OK") == (outcome is outcomes.OK)
    if code_of(outcome) == "UNAVAILABLE":  # clients send these again by themselves
        assert outcome.retry
