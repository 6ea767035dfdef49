"""Runs a method in a process of its own, which can read the models, Python's code and the system, and nothing else.

* ``executor``: the harness's side. It prepares each run and turns the method's message into an outcome.
* ``copies``: the copies of the model files that a method reads.
* ``channel``: the connections between the harness, the guard process and the method's process.
* ``guard``: the guard process. It starts the method's processes, watches their time and memory, and kills them.
* ``sandbox``: the lock that the method's process puts on itself before it imports the method's code.

The sandbox is Landlock, a part of the Linux kernel since version 5.13. It needs no rights and no configuration. A
locked process can open the files that were allowed beforehand. The kernel refuses all others, also to the processes
that the locked one starts. The lock cannot be removed. What Landlock locks depends on its version:

========================================================  =======================
locked                                                    since Linux
========================================================  =======================
opening, listing, making and removing files               5.13 (Landlock 1)
moving files between folders, ``truncate``                5.19, 6.2 (2, 3)
TCP: listening and connecting                             6.7 (4)
``ioctl`` on devices                                      6.10 (5)
signals and abstract sockets to processes outside         6.12 (6)
========================================================  =======================

Not locked: UDP, the times, modes and attributes of files that can be seen, and the processor. On other systems, or
where Landlock is switched off, nothing is locked: the method still has a process of its own with limits, and the
record says ``process`` instead of ``sandbox``.
"""

from mothr.benchmark.run.isolation.executor import Isolated as Isolated
from mothr.benchmark.run.isolation.executor import Limits as Limits
