"""Knows the marks that the common tests of transformers carry."""

_MARKS = (
    *("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test"),
    "is_pipeline_test",
)


def pytest_configure(config):
    for mark in _MARKS:
        config.addinivalue_line("markers", f"{mark}: of transformers' own tests")
