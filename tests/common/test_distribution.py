import pytest

from tests.common import distribution


def test_without_the_distribution_the_tests_are_skipped_but_in_ci(monkeypatch, tmp_path):
    monkeypatch.setattr(distribution, "FOLDER", tmp_path)
    monkeypatch.delenv("RAM_HF_REQUIRE_COMMON_TESTS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="common tests of transformers are not there: `make test` fetches"):
        distribution.find_archive()
    monkeypatch.setenv("RAM_HF_REQUIRE_COMMON_TESTS", "1")
    with pytest.raises(FileNotFoundError, match="are not there"):
        distribution.find_archive()
