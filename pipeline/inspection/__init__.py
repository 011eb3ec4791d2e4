"""Manual inspection in two rounds (paper 3.1): assignment of items to annotators, their decisions, and the outcome.

The tables are in the build's ledger, and the pipeline never changes them. It reads them once, when a build starts.
Decisions are never deleted; undo marks them as withdrawn.

A decision belongs to its *subject*. In round 1 this is a span of a source video, in round 2 the motion computed from it.
If a sequence is rebuilt with another motion, its decision of round 1 stays valid and round 2 must be repeated. If it is
rebuilt with the same motion, even in another folder, both stay valid.

| file | content |
|---|---|
| ``store.py`` | the tables, annotators and their tokens, the items of a build |
| ``queue.py`` | assign items, record decisions, undo |
| ``repairs.py`` | record the repairs of sequences, and withdraw them |
| ``results.py`` | outcome of every sequence, progress, retention |
| ``agreement.py`` | Cohen's and Fleiss' kappa |
| ``exchange.py`` | export and import of decisions as CSV |
"""
