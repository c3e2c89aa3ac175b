"""Test the table of fields: complete, and true."""

from typing import Any, get_args

import pytest
from openai.types.responses import ResponseIncludable, response_create_params
from openai.types.responses.service_tier import ServiceTier

from gateway.dialects.responses.fields import (
    FIELDS,
    SAME_NAME,
    Use,
    check_fields,
    echo_of,
    in_own_words,
    unknown_fields,
)
from shared.model.errors import InvalidRequest


class TestTheTable:
    def test_every_parameter_of_the_installed_sdk_has_a_use(self) -> None:
        parameters = {
            *response_create_params.ResponseCreateParamsNonStreaming.__annotations__,
            *response_create_params.ResponseCreateParamsStreaming.__annotations__,
        }

        assert len(parameters) > 30
        assert parameters - FIELDS.keys() == set()

    def test_every_value_of_include_and_service_tier_in_the_sdk_is_accepted(self) -> None:
        includable, tiers = get_args(ResponseIncludable), get_args(get_args(ServiceTier)[0])
        assert len(includable) > 5 and len(tiers) > 5
        check_fields({"include": [*includable]})
        for tier in (*tiers, None):
            check_fields({"service_tier": tier})

    def test_each_refused_field_is_refused_and_no_other(self) -> None:
        for name, use in FIELDS.items():
            if use is Use.REFUSED:
                with pytest.raises(InvalidRequest) as caught:
                    check_fields({name: {"a": "b"}})
                assert caught.value.param == name
            else:
                check_fields({name: None})

    def test_fields_of_the_same_name_are_translated(self) -> None:
        assert {FIELDS[name] for name in SAME_NAME} == {Use.TRANSLATED}

    def test_unknown_names_are_cut_to_the_bounds_of_a_log_line(self) -> None:
        body = {f"{'x' * 100}{number}": 1 for number in range(100)}

        found = unknown_fields({"model": "m", **body})

        assert len(found) == 20
        assert {len(name) for name in found} == {64}


class TestTheEcho:
    @pytest.mark.parametrize(("asked", "shown"), [("auto", "default"), ("fast", "priority"), ("flex", "flex")])
    def test_the_echoed_tier_is_one_that_clients_know(self, asked: str, shown: str) -> None:
        assert echo_of({"service_tier": asked}) == {"service_tier": shown}

    def test_fields_of_the_callers_machine_are_not_echoed(self) -> None:
        body = {"client_metadata": {"a": "b"}, "type": "response.create", "prompt_cache_retention": "24h"}

        assert echo_of(body) == {"prompt_cache_retention": "24h"}


class TestOwnWords:
    @pytest.mark.parametrize(
        ("param", "own"),
        [
            ("max_completion_tokens", "max_output_tokens"),
            ("reasoning_effort", "reasoning.effort"),
            ("response_format.json_schema", "text.format.json_schema"),
            ("messages[3].content", "input"),
            ("temperature", "temperature"),
            (None, None),
            ("", ""),
        ],
    )
    def test_an_error_names_a_chat_field_by_its_name_in_responses(self, param: Any, own: Any) -> None:
        error = in_own_words(InvalidRequest(f"{param} must be right.", param=param))

        assert error.param == own
        assert str(error) == f"{own} must be right."
