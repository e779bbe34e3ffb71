"""What a process of a team does on rank 0's orders."""

from __future__ import annotations

import contextlib

from objectives.finetune.loop import Loop
from objectives.finetune.peers import Order, Peers
from objectives.finetune.session import Course
from objectives.finetune.state import optimizer_state
from sweep.ports import LeftEarly


def obey(peers: Peers, course: Course, loop: Loop) -> None:
    """Do what rank 0 orders, until it orders the end.

    Raises:
        PeerLostError: If another process is gone or does not answer.
    """
    for order in peers.orders():
        if order is Order.STEP:
            loop.take_ordered_step()
        elif order is Order.EVALUATE:
            with peers.expecting(), contextlib.suppress(LeftEarly):
                course.evaluate(loop.keep_alive)
        elif order is Order.TELL_WEIGHTS:
            peers.whole(course.model.state_dict())
        elif order is Order.TELL_OPTIMIZER:
            peers.whole(optimizer_state(loop.optimizer, course.model))
