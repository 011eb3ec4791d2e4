"""Models that read music and write dance: one folder a model, each with a configuration, a model and a processor.

Empty for now. What will live here: ``bailando``, ``bailando_pp`` (dancers together), ``fact``, and the estimators the
pipeline uses, ``cliff``, ``smoothnet`` and ``music_genre``. A model imports the core of ``opendance_hf`` and nothing
of the pipeline or the front doors.
"""
