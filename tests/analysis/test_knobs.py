"""Where exploration ends, and which measured settings are suggested against it."""

from helpers.synthetic_runs import write_run

from memexp.analysis.answer import answer
from memexp.analysis.answer_json import answer_json
from memexp.analysis.knobs.suggest import stage, suggest
from memexp.analysis.knobs.table import as_overrides, measured, turned
from memexp.analysis.sentences import suggestion_text
from memexp.envs.config import ENVIRONMENTS
from memexp.runs import find_runs


def defaults(env):
    return ENVIRONMENTS[env]().model_dump(exclude={"name"})


def test_the_table_knows_the_knobs_as_they_are_now():
    for env, rows in measured().rows.items():
        for row in rows:
            world = ENVIRONMENTS[env].parse({"name": env, **row.knobs})
            assert world.model_dump(exclude={"name"}) == row.knobs
        assert measured().defaults[env] == defaults(env) == rows[0].knobs


def test_exploration_ends_at_the_first_milestone_that_hardly_anybody_reaches():
    funnel = {"moved": 1.0, "link_1": 0.5, "first_heart": 0.005, "second_heart": 0.0}
    ended = stage(funnel)
    assert ended is not None
    assert (ended.milestone, ended.before, ended.before_share) == ("first_heart", "link_1", 0.5)


def test_where_all_are_reached_it_ends_at_the_narrowest():
    ended = stage({"moved": 1.0, "link_1": 0.3, "first_heart": 0.29, "second_heart": 0.2})
    assert ended is not None
    assert ended.milestone == "link_1"
    assert stage({"moved": 1.0, "link_1": 0.9, "first_heart": 0.8}) is None
    assert stage({}) is None


def test_a_milestone_is_held_against_what_it_takes_not_against_its_neighbour():
    row = measured().rows["cvc_random_maps"][0]
    ended = stage(row.funnel)
    assert ended is not None
    assert (ended.milestone, ended.before) == ("heart_made", "heart_affordable")


def test_suggestions_are_ordered_by_the_reward_they_bring_nearer_and_say_when_it_was_measured():
    first, *others = suggest("cvc_random_maps", {})
    assert first.settings == {"initial_inventory_buckets": True}
    assert "heart_deposited from 0 % to 7" in suggestion_text(first)
    assert measured().date in suggestion_text(first)
    assert "200 episodes" in suggestion_text(first)
    rewards = [one.predicted.last for one in (first, *others)]
    assert rewards == sorted(rewards, reverse=True)


def test_pay_on_the_way_is_suggested_with_its_danger():
    (paid,) = [one for one in suggest("cvc_random_maps", {}) if "resource_buckets" in one.settings]
    assert "does not reach later milestones more often" in suggestion_text(paid)


def test_of_two_settings_that_do_as_well_the_smaller_is_suggested():
    settings = [one.settings for one in suggest("assembly_lines", {})]
    assert {"num_vibes": 0} in settings
    assert {"num_vibes": 0, "chain_lengths": [1]} not in settings
    worlds = [tuple(one.predicted.funnel.values()) for one in suggest("assembly_lines", {})]
    assert len(set(worlds)) == len(worlds)


def test_from_other_knobs_the_command_that_measures_it_there_is_given():
    own = {**defaults("cvc_random_maps"), "num_cogs": 8}
    first = suggest("cvc_random_maps", own)[0]
    assert "memexp funnel cvc_random_maps num_cogs=8 initial_inventory_buckets=true" in suggestion_text(first)
    assert all("num_cogs" not in one.settings for one in suggest("cvc_random_maps", own))


def test_nothing_is_suggested_where_nothing_was_measured_or_exploration_ends_nowhere():
    assert suggest("tmaze", {"length": 6}) == []
    assert suggest("assembly_lines", {}, {"moved": 1.0, "link_1": 0.9, "first_heart": 0.9}) == []


def test_settings_are_written_as_one_types_them():
    settings = {"map_width": [30, 30], "initial_hearts": [0, 1], "heart_buckets": True, "num_vibes": 0}
    assert as_overrides(settings) == "map_width=30 initial_hearts=0,1 heart_buckets=true num_vibes=0"
    assert turned({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == {"b": 3, "c": 4}


def write_flat(folder, **columns):
    """Five seeds of cvc_random_maps in which nothing happens."""
    base = measured().rows["cvc_random_maps"][0]
    for seed in range(5):
        run = write_run(
            folder, "S", seed, [0.0] * 20, ceiling_return=5.6, random_funnel=base.funnel, columns=columns, env="cvc"
        )
        run.write_config({"trainer": {"precision": "bf16"}, "env": {"name": "cvc_random_maps", **base.knobs}})
    (environment,) = answer_json(answer(find_runs(folder), "test"))["environments"].values()
    return environment


def test_an_answer_in_which_nothing_learned_names_measured_knobs_with_the_funnel_under_them(tmp_path):
    found = write_flat(tmp_path)
    first = found["knobs"][0]
    assert (first["knob"], first["value"]) == ("initial_inventory_buckets", True)
    assert first["because"].startswith("Exploration ends at heart_made")
    assert first["predicted"]["heart_deposited"] > first["before"]["heart_deposited"] == 0
    assert first["measured"] == {"date": measured().date, "episodes": 200, "player": "random"}
    assert any("launch pilots" in sentence for sentence in found["next"])


def test_an_arm_that_gets_further_than_the_random_policy_moves_the_stage(tmp_path):
    reached = dict.fromkeys(("env/funnel/heart_made", "env/funnel/heart_a_at_assembler"), 0.6)
    found = write_flat(tmp_path, **reached, **{"env/funnel/heart_deposited": 0.001})
    assert found["knobs"][0]["because"].startswith("Exploration ends at heart_deposited")
