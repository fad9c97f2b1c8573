"""Self-play: signs of values, what the buffer holds, determinism; players and matches."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl import lookahead, players, positions, symmetries
from jaxft.rl.envs.board import Board
from jaxft.rl.lookahead import Lookahead
from jaxft.rl.selfplay import SelfPlay, Settings
from jaxft.search.policies import Uct

# No game ends in the first iteration: it has 4 moves.
TINY = Settings(
    simulations=8,
    num_games=8,
    moves=4,
    max_moves=9,
    opening=2,
    capacity=256,
    batch_size=32,
    updates=2,
    width=16,
    blocks=1,
)
GAME = Board("tic_tac_toe")
WORDS = jax.random.key_data(jax.random.key(0))


def after(game, *actions):
    """The states [1, ...] after these moves."""
    state = players.openings(game, WORDS, 1, 0)
    for action in actions:
        state = players.step(game, state, jnp.asarray([action]))
    return state


@pytest.fixture(scope="module")
def learner():
    return SelfPlay(GAME, TINY)


@pytest.fixture(scope="module")
def begun(learner):
    return jax.jit(learner.init)(WORDS)


@pytest.fixture(scope="module")
def iterate(learner):
    return jax.jit(learner.iterate)


@pytest.fixture(scope="module")
def played(iterate, begun):
    """[(state, metrics)] after each of five iterations."""
    found = [iterate(begun, WORDS)]
    for _ in range(4):
        found.append(iterate(found[-1][0], WORDS))
    return found


def same(one, two):
    return jax.tree.all(jax.tree.map(np.array_equal, one, two))


# --- an iteration ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_iterations_play_and_learn(begun, played):
    state, metrics = played[-1]
    assert state.iteration == 5 and state.ended > 8
    assert state.ended == sum(int(metrics["ended"]) for _, metrics in played)
    assert all(value.dtype == jnp.float32 and value.shape == () for value in metrics.values())
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert metrics["value_loss"] > 0 and 5 <= metrics["length"] <= 9
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), begun.params, state.params)
    assert jax.tree.all(moved)


@pytest.mark.slow
def test_the_same_words_give_the_same_bits(iterate, begun, played):
    assert same(played[1], iterate(iterate(begun, WORDS)[0], WORDS))
    other = iterate(begun, draws.fold_in(WORDS, 1))[0].episodes
    assert not same(played[0][0].episodes.observations, other.observations)


@pytest.mark.slow
def test_nothing_is_learnt_before_there_is_a_batch(begun, played):
    state, metrics = played[0]
    assert metrics["ended"] == metrics["positions"] == metrics["value_loss"] == 0
    assert same(begun.params, state.params) and same(begun.optimiser, state.optimiser)


# --- what the buffer holds -------------------------------------------------------------------------------------------


def games_of(buffer):
    """The buffer's rows, game by game: (boards [moves, 9], 1 theirs who move and -1 the other's; results [moves])."""
    count = int(buffer.written)
    assert count <= buffer.capacity
    planes = np.asarray(buffer.observations[:count]).reshape(count, 9, 2)
    boards = (planes[..., 0] - planes[..., 1]).astype(int)
    stones = abs(boards).sum(1)
    starts = [at for at in range(count) if at == 0 or stones[at] < stones[at - 1]]
    return [
        (boards[begin:end], np.asarray(buffer.results[begin:end]))
        for begin, end in zip(starts, [*starts[1:], count], strict=True)
    ]


def wins(board):
    """Whether the one who moves can have three in a row at once."""
    return any(sorted(board[list(line)]) == [0, 1, 1] for line in players.LINES)


@pytest.mark.slow
def test_the_buffer_has_finished_games_alone_with_their_results(played):
    games = games_of(played[-1][0].buffer)
    assert len(games) == int(played[-1][0].ended) > 8
    for boards, results in games:
        stones = abs(boards).sum(1)
        assert stones[0] <= TINY.opening and (np.diff(stones) == 1).all()  # every move after the random ones
        assert all((-one != two).sum() == 1 for one, two in zip(boards, boards[1:], strict=False))
        assert (results[1:] == -results[:-1]).all()  # each to who was to move
        if results[-1] == 1:  # the last move wins
            assert wins(boards[-1])
        else:
            assert results[-1] == 0 and stones[-1] == 8
    assert {1, 0} >= {results[-1] for _, results in games} >= {1}
    assert {abs(boards[0]).sum() for boards, _ in games} == {0, 1, 2}


@pytest.mark.slow
def test_random_moves_open_a_game_and_are_not_learnt(begun, played):
    opening = np.asarray(begun.episodes.opening)
    assert set(opening) <= {0, 1, 2} and len(set(opening)) > 1
    learnt = np.asarray(played[0][0].episodes.learnt)[:, : TINY.moves]
    assert (learnt == (np.arange(TINY.moves) >= opening[:, None])).all()


def test_the_ring_forgets_the_oldest_and_drops_what_is_not_chosen():
    ring = positions.empty(4, (1,), 2)
    for first in (0, 3):
        numbers = jnp.arange(first, first + 4, dtype=jnp.float32)
        chosen = jnp.asarray([True, True, False, True])
        ring = positions.write(ring, numbers[:, None], jnp.stack([numbers, numbers], 1), numbers, chosen)
    assert ring.results.tolist() == [4, 6, 3, 3]
    assert ring.observations[:, 0].tolist() == ring.weights[:, 1].tolist() == [4, 6, 3, 3]
    assert int(ring.written) == 6 and int(ring.filled) == 4


# --- search ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(learner, begun):
    """State -> what 64 simulations of an untrained network find."""
    world = Lookahead(GAME, learner.evaluate(begun.params))
    return jax.jit(partial(world.search, WORDS, policy=learner.policy, simulations=64))


@pytest.mark.slow
@pytest.mark.parametrize(("moves", "best"), [((0, 3, 1, 4), 2), ((8, 0, 7, 3, 1), 6)], ids=["first", "second"])
def test_a_win_at_once_is_the_target(found, moves, best):
    result = found(state=after(GAME, *moves))
    assert result.action[0] == best and result.value[0] == 1
    assert result.weights[0, best] > 0.9


@pytest.mark.slow
def test_a_lost_position_is_worth_less_than_nothing(found):
    assert found(state=after(GAME, 0, 1, 4)).value[0] < 0
    assert found(state=after(GAME, 0, 1, 4, 8, 3)).value[0] == -1  # two threats of the other one


@pytest.mark.slow
def test_random_games_tell_the_result_to_who_is_to_move():
    evaluate = jax.jit(lookahead.playouts(GAME, 64))
    words = WORDS[None]
    last = after(GAME, 0, 1, 2, 4, 3, 5, 7, 6)  # cell 8 is left: no line of either
    assert evaluate(last, words)[1].tolist() == [0]
    assert evaluate(after(GAME, 0, 3, 1, 4), words)[1] > 0
    assert evaluate(after(GAME, 0, 3, 1, 4, 8), words)[1] > 0
    assert evaluate(after(GAME, 0, 3, 1, 8), words)[1] > 0 > evaluate(after(GAME, 0, 3, 1), words)[1]


# --- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_targets_are_learnt(begun):
    """What the buffer says of positions becomes what the network says of them, and of the same ones turned."""
    learner = SelfPlay(GAME, Settings(**(vars(TINY) | {"updates": 300, "learning_rate": 1e-2, "batch_size": 64})))
    empty = np.zeros((1, 3, 3, 2), np.float32)
    corner = empty.copy()
    corner[0, 0, 0, 1] = 1
    rows = jnp.asarray(np.concatenate([empty, corner]))
    middle = jax.nn.one_hot(jnp.asarray([4, 4]), 9)
    buffer = positions.write(begun.buffer, rows, middle, jnp.asarray([0.5, -1.0]), jnp.ones(2, bool))
    buffer = buffer._replace(written=jnp.int32(2))
    params, _, _ = jax.jit(learner.learn)(begun.params, begun.optimiser, buffer=buffer, words=WORDS)
    logits, value = learner.network(params, jnp.rot90(rows, axes=(1, 2)))
    assert np.allclose(value, [0.5, -1.0], atol=0.1)
    assert (jax.nn.softmax(logits)[:, 4] > 0.9).all()


# --- symmetries ------------------------------------------------------------------------------------------------------


def test_the_best_moves_turn_with_the_board():
    known, best = symmetries.of("tic_tac_toe", (3, 3, 2), 9), players.best_moves()
    assert len({tuple(one) for one in known.observations}) == len({tuple(one) for one in known.actions}) == 8
    for number in np.flatnonzero(best.any(1)):
        board = number // 3 ** np.arange(9) % 3
        planes = np.stack([board == 1, board == 2], -1).reshape(-1)
        for observation, action in zip(*known, strict=True):
            seen = planes[observation].reshape(9, 2) @ np.array([1, 2])
            assert (best[seen @ 3 ** np.arange(9)] == best[number][action]).all()


def test_connect_four_mirrored_is_played_the_same():
    known = symmetries.of("connect_four", (6, 7, 2), 7)
    assert known.actions.tolist() == [[*range(7)], [*range(6, -1, -1)]]
    game = Board("connect_four")
    one, two = after(game, 0, 1, 1, 5), after(game, 6, 5, 5, 1)
    observations = [np.asarray(game.observe(jax.tree.map(lambda x: x[0], state))).reshape(-1) for state in (one, two)]
    assert (observations[0][known.observations[1]] == observations[1]).all()
    assert (observations[0] != observations[1]).any()


def test_of_other_games_no_symmetry_is_known():
    assert symmetries.of("other", (2, 3, 1), 4).actions.tolist() == [[0, 1, 2, 3]]


# --- players and matches ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_perfect_play_never_loses():
    perfect, drawn = players.perfect_tic_tac_toe(GAME), players.random_player(GAME)
    score = players.match(GAME, perfect, drawn, WORDS, 200)
    assert score.games == 200 and score.lost == 0 and score.won > 150
    assert players.match(GAME, perfect, perfect, WORDS, 200) == players.Score(0, 200, 0)
    mirrored = players.match(GAME, drawn, perfect, WORDS, 200)
    assert mirrored.won == 0 and mirrored.share == mirrored.drawn / 400


@pytest.mark.parametrize(
    ("theirs_who_move", "others", "expected"),
    [
        ([], [], [0, 1, 2, 3, 4, 5, 6, 7, 8]),  # drawn whatever is played
        ([], [4], [0, 2, 6, 8]),  # a corner, or it is lost
        ([3, 4], [0, 1, 6], [5]),  # wins: better than to block
        ([4], [0, 8], [1, 3, 5, 7]),  # an edge: after a corner the other one makes two threats at once
        ([0, 4], [3, 5, 8], [2]),  # blocks, with two threats
        ([4], [0, 1], [2]),  # blocks
    ],
)
def test_the_table_of_best_moves(theirs_who_move, others, expected):
    board = np.zeros(9, int)
    board[theirs_who_move], board[others] = 1, 2
    assert np.flatnonzero(players.best_moves()[board @ 3 ** np.arange(9)]).tolist() == expected


@pytest.mark.slow
def test_each_opening_is_played_from_both_sides():
    """A player that draws nothing gets as much as it gives against itself."""
    first = players.guesser(GAME, lookahead.nothing(GAME))
    score = players.match(GAME, first, first, WORDS, 200, opening=3)
    assert score.won == score.lost and score.games == 200 and score.won > 0


@pytest.mark.slow
def test_search_beats_chance():
    uct = players.searcher(GAME, lookahead.nothing(GAME), Uct(0.5), 32)
    drawn = players.random_player(GAME)
    score = players.match(GAME, uct, drawn, WORDS, 200)
    assert score.share > 0.8
    assert score == players.match(GAME, uct, drawn, WORDS, 200)


def test_openings_are_unfinished_and_valid():
    states = players.openings(GAME, WORDS, 100, 8)
    assert not np.asarray(jax.vmap(GAME.over)(states)).any()
    stones = np.asarray(jax.vmap(GAME.observe)(states)).sum((1, 2, 3))
    assert stones.max() == 8 and stones.min() >= 4


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "where"),
    [({"simulations": 0}, "rl.simulations"), ({"capacity": 71}, "rl.capacity"), ({"opening": 9}, "rl.opening")],
)
def test_settings_that_make_no_sense(wrong, where):
    with pytest.raises(UserError) as caught:
        SelfPlay(GAME, Settings(**(vars(TINY) | wrong)))
    assert where in str(caught.value)
