"""Hardware counters of each operator by Nsight Compute: a pass of its own, in a process of its own.

`tool` finds ncu and says whether it may count; `workload` is the child that ncu looks at; `run` starts both;
`report` reads what ncu wrote, and `profile` makes the record of it.
"""
