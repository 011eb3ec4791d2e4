"""Two rounds of manual inspection (paper 3.1): who looks at what, what they decide, and what that comes to.

Everything lies in the build's ledger, beside the tables of the pipeline, which never touches it: a decision is people's
work. No decision is ever deleted; undo marks it as withdrawn.

A decision belongs to what was seen, its *subject*. In round 1 that is a span of a source video, in round 2 the motion
found in it. A sequence that is rebuilt with another result keeps its decision of round 1 and is asked for again in
round 2; one that is rebuilt with the same result, even in another folder, keeps both.

| file | what |
|---|---|
| ``store.py`` | the tables, people and their tokens, the items of a build |
| ``queue.py`` | handing out, deciding, taking back |
| ``results.py`` | outcome of every sequence, progress, retention |
| ``agreement.py`` | Cohen's and Fleiss' kappa |
| ``exchange.py`` | decisions as CSV, out and in |
"""
