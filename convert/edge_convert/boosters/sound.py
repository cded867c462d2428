"""Trees from files that strangers may have written, or that came damaged: checked before any library walks through them."""

from __future__ import annotations

import numpy as np

from edge_agent.errors import InputError
from edge_convert.trees import Tree, renumbered


def sound(title: str, tree: Tree, n_features: int) -> Tree:
    """Return the tree without nodes that nothing leads to, which some libraries leave behind when they prune.

    Raises `InputError` when its branches lead nowhere, to a node that another one leads to, or ask about a feature that is not there.
    """
    count = len(tree.is_leaf)
    inner = np.flatnonzero(~tree.is_leaf)
    children = np.concatenate([tree.left[inner], tree.right[inner]])
    if len(children) and (children.min() < 1 or children.max() >= count):
        raise InputError(f"{title}: a branch of a tree leads to no node; the file is damaged")
    # No node has two parents and the root has none, so what is reached from the root is a tree.
    reached, level = np.zeros(count, np.bool_), np.zeros(1, np.int64)
    while len(level):
        if reached[level].any() or len(np.unique(level)) < len(level):
            raise InputError(f"{title}: two branches of a tree lead to the same node; the file is damaged")
        reached[level] = True
        asking = level[~tree.is_leaf[level]]
        level = np.concatenate([tree.left[asking], tree.right[asking]])
    asked = tree.feature[reached & ~tree.is_leaf]
    if len(asked) and (asked.min() < 0 or asked.max() >= n_features):
        raise InputError(f"{title}: a tree asks about column {asked.max()} of {n_features}; the file is damaged")
    return tree if reached.all() else renumbered(tree, np.flatnonzero(reached))
