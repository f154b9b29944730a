"""Interrupting a task on purpose, at random, in every way there is: whoever compares what it leaves with what an
uninterrupted one leaves knows whether it survives them.

    spells        in which spells a task ran, from its reports
    interrupter   what follows needs: steps to strike at, and processes of our own
    on_machine    signals, damaged files, an older attempt that wakes up, a time limit, cancel, death of the executor
    on_slurm      preemption, requeue, time limit, cancel, kill -9, a machine that goes down

The task must report its progress at every step (slurm.progress) and go on from its own files.
"""
