"""Settings of the property tests."""

from hypothesis import settings

# A busy machine is no defect: Hypothesis' own limit of 200 ms an example would say it is one.
settings.register_profile("postrider", deadline=None)
settings.load_profile("postrider")
