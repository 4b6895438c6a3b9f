"""All tests of storage retry after milliseconds."""

import pytest


@pytest.fixture(autouse=True)
def fast_retries(haste: None) -> None:
    pass
