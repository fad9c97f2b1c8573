"""Monte Carlo tree search as one would write it on paper: one tree, Python objects, recursion."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.search.worlds import Hashed, mixed

F = np.float32


@dataclass
class Node:
    state: np.ndarray
    raw: np.float32
    logits: np.ndarray
    valid: np.ndarray
    done: bool = False
    reward: np.float32 = F(0)
    discount: np.float32 = F(0)
    parent: Node | None = None
    action: int = -1
    visits: int = 1
    solved: bool = False
    children: dict[int, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.value, self.solved = self.raw, self.done

    def q(self, action: int) -> np.float32:
        child = self.children[action]
        return F(child.reward + child.discount * child.value)


class Search:
    """Nodes in the order in which they were made."""

    def __init__(self, world: Hashed, state: int, policy: str, max_depth: int | None = None) -> None:
        self.world, self.policy, self.max_depth = world, policy, max_depth or 10**6
        one = np.asarray([state], np.uint32)
        _, _, logits, value, _, valid = world.facts(one, np)
        self.root = Node(one, value[0], logits[0], valid[0])
        self.nodes = [self.root]

    def simulate(self) -> None:
        if not self.root.solved:
            self.visit(self.root, 0)

    def visit(self, node: Node, depth: int) -> np.float32:
        """The return seen from a node."""
        if node.solved or depth == self.max_depth:
            node.visits += 1
            return node.value if node.solved else node.raw
        action = self.select(node)
        if action in node.children:
            child = node.children[action]
            seen = self.visit(child, depth + 1)
        else:
            child = self.make(node, action)
            seen = child.raw
        seen = F(child.reward + child.discount * seen)
        node.value = F(F(node.value * F(node.visits)) + seen) / F(node.visits + 1)
        node.visits += 1
        if child.solved:
            self.solve(node)
        return seen

    def make(self, node: Node, action: int) -> Node:
        state = mixed(node.state, np.asarray([action]))
        reward, discount, logits, value, done, valid = (x[0] for x in self.world.facts(state, np))
        player = getattr(self.world, "player", None)
        sign = F(1) if player is None or player(state)[0] == player(node.state)[0] else F(-1)
        raw = F(0) if done else value
        child = Node(state, raw, logits, valid, bool(done), reward, F(discount * sign), node, action)
        node.children[action] = child
        self.nodes.append(child)
        return child

    def solve(self, node: Node) -> None:
        allowed = np.flatnonzero(node.valid).tolist()
        if all(action in node.children and node.children[action].solved for action in allowed):
            node.solved, node.value = True, max(node.q(action) for action in allowed)

    def select(self, node: Node) -> int:
        scores = getattr(self, self.policy)(node)
        return int(np.argmax(np.where(node.valid, scores, -np.inf)))

    def statistics(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        actions = range(len(node.logits))
        visits = np.asarray([node.children[a].visits if a in node.children else 0 for a in actions], F)
        return visits, np.asarray([node.q(a) if a in node.children else 0 for a in actions], F)

    def solved(self, node: Node) -> np.ndarray:
        return np.asarray([a in node.children and node.children[a].solved for a in range(len(node.logits))])

    def puct(self, node: Node) -> np.ndarray:
        visits, q = self.statistics(node)
        prior = softmax(np.where(node.valid, node.logits, -np.inf))
        known = np.where(visits > 0, q, node.value)
        low, high = min(node.value, known.min()), max(node.value, known.max())
        score = (np.where(visits > 0, q, low) - low) / max(high - low, 1e-8)
        c = 1.25 + np.log((node.visits + 19653.0) / 19652.0)
        return score + np.where(self.solved(node), 0, np.sqrt(node.visits) * c * prior / (visits + 1))

    def uct(self, node: Node) -> np.ndarray:
        visits, q = self.statistics(node)
        bonus = np.where(self.solved(node), 0, np.sqrt(2) * np.sqrt(np.log(node.visits) / np.maximum(visits, 1)))
        prior = softmax(np.where(node.valid, node.logits, -np.inf))
        return np.where(visits > 0, q + bonus, 1e6 * (1 + prior))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()
