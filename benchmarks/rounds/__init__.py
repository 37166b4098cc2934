"""Rounds: runs of so many rounds over a model that takes so long, through the system and bare.

`work` says what is done and every word of it, `agents` do it with three engines, `bare` is each of
these loops with nothing around it, `driver` submits and watches, and `measuring` puts all of it
together.
"""
