"""The common tests of transformers, run against our classes; see `distribution.py`."""
