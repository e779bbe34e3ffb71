"""Which finalists are averaged, and that the score of a soup has no part in the choice of it."""

from __future__ import annotations

from sweep.selection.soup import Recipe, greedy_recipes, uniform_recipes

ALONE = {3: (0.90, 0.91, 0.92), 7: (0.94, 0.95, 0.93), 9: (0.80, 0.81, 0.82)}
"""Scores of three trials on three seeds; 3 and 7 are good together, and 9 spoils what it is put into."""


def score(recipe: Recipe, index: int) -> float:
    if len(recipe) == 1:
        return ALONE[recipe[0]][index]
    return 0.85 if 9 in recipe else 0.96


def test_a_uniform_soup_averages_all_of_them_on_each_seed() -> None:
    assert uniform_recipes([7, 3], 2) == {0: (7, 3), 1: (7, 3)}


def test_a_greedy_soup_begins_with_the_best_and_adds_who_does_not_make_it_worse() -> None:
    assert greedy_recipes([3, 7, 9], 3, score) == dict.fromkeys(range(3), (3, 7))


def test_a_greedy_soup_is_the_best_alone_where_every_other_makes_it_worse() -> None:
    assert greedy_recipes([3, 9, 7], 2, lambda recipe, index: score(recipe, index) if len(recipe) == 1 else 0.1) == {
        0: (7,),
        1: (7,),
    }


def test_equals_are_added() -> None:
    assert greedy_recipes([3, 7], 2, lambda recipe, index: 0.5) == {0: (3, 7), 1: (3, 7)}


def test_the_scores_on_a_seed_have_no_part_in_the_choice_of_its_recipe() -> None:
    wanted = greedy_recipes([3, 7, 9], 3, score)

    def other_on_the_first(recipe: Recipe, index: int) -> float:
        return -score(recipe, index) if index == 0 else score(recipe, index)

    found = greedy_recipes([3, 7, 9], 3, other_on_the_first)
    assert found[0] == wanted[0]
    assert found[1] != wanted[1]
