"""The six steps of the algorithm, one module each; they know the state and the handles only."""

from tpo_graph.nodes.gradient import gradient
from tpo_graph.nodes.loss import loss
from tpo_graph.nodes.reward_score import reward_score
from tpo_graph.nodes.sample import sample
from tpo_graph.nodes.select import select
from tpo_graph.nodes.update import update

__all__ = ["gradient", "loss", "reward_score", "sample", "select", "update"]
