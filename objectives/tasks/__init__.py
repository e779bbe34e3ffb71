"""One file for each task; each names its objective's class ``OBJECTIVE``.

A new task is one file here and one test. The file holds, at its top and as plain literals, what the spec has to know
without importing it (:mod:`sweep.spec.tasks` reads them):

- ``METRICS``: what an evaluation reports, each with ``maximize`` or ``minimize``; the first is the usual metric.
- ``COLUMNS``: the parts that columns of the data play, such as ``text`` and ``label``, each with the name it usually
  has; None for a part that is left out unless the spec names its column.
- ``SETTINGS``, if need be: training settings that this task alone has, such as
  ``{"beams": {"default": 1, "low": 1, "high": 64, "help": "1 is greedy"}}``; ``choices`` are the words that it may be.
  They can be searched.
- ``EXTENSIONS``, if need be: data files that the task reads besides csv, tsv, jsonl, json and parquet.
- ``UNUSED``, if need be: common training settings that do nothing for the task; the spec refuses them.
- ``EXAMPLE``: a row of the data, shown to whoever has none yet.
- ``FOLDER``, if need be: a pattern of what a folder holds that the task reads in the place of a file.
- ``MODEL``, if need be: what ``sweep init`` begins with, where the bundled model does not do.

Below, a class derived from :class:`objectives.finetune.task.Task` says how rows are cleaned, encoded, trained and
judged, and ``OBJECTIVE`` is a :class:`objectives.finetune.objective.FineTuning` of it. Data on disk, splits, batches,
the loop, precision, checkpoints, resuming and reports are not its concern.
"""
