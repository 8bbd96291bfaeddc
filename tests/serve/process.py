"""`tpo serve` as a process of its own, for tests that kill it: `python -m tests.serve.process`.

It is the command with one change: the reward model "local:length" is a fake, the length of the
response.
"""

import sys

from tpo_graph.cli import main
from tpo_graph.rewards import load
from tpo_graph.rewards.function import FunctionReward
from tpo_graph.testing import prefer_longer

if __name__ == "__main__":
    load.load_reward_model = lambda name: FunctionReward(prefer_longer)
    sys.argv = ["tpo", "serve", *sys.argv[1:]]
    main()
