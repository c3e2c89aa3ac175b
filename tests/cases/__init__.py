"""Answers and requests of real upstreams and clients, each as a test in every dialect."""

import pytest

pytest.register_assert_rewrite("tests.cases.dialects", "tests.support.folded")
