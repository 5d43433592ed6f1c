"""Faults under load, and what must hold whatever happens.

An episode runs every role on a new database, sends commands while faults are injected, lets everything settle, and
gathers the evidence, which every checker then looks at. In the order of an episode:

- `servers`: a PostgreSQL, a broker and a proxy before each, all of this run alone
- `system`: the roles, each in a process (group) of its own
- `load`, by `clients`: calls over AMQP and HTTP; `history` has every call and every answer, on disk
- `observers`: a subscriber of each tenant, a reader of the log, the positions of the followers, the memory
- `faults`: the catalogue of what may be done to it
- `episode`: all of the above together
- `evidence`: what remained; `checkers`: a function for each invariant
- `report`, `__main__`: many episodes, and their figures
"""
