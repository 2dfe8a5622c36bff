"""What all tests share."""

import pytest

# Contract suites live in the package, where pytest would leave their assertions bare.
pytest.register_assert_rewrite("monstermq_shared.testing")
