"""Flow matching: noise levels, noisy latents and targets, against diffusers and the formulas."""

from __future__ import annotations

import math
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from hypothesis import given, settings
from hypothesis import strategies as st

from lorareg.registry.image_training import Timesteps
from lorareg.trainers.image.flow import FlowMatching, shifted

UNIFORM = Timesteps(sampling="uniform")
QUANTILES = [(k + 0.5) / 2000 for k in range(2000)]
LATENTS = (3, 16, 4, 4)
levels = st.floats(0, 1)
shifts = st.floats(0.01, 100)


def process(sampling: Timesteps = UNIFORM, **config: Any) -> FlowMatching:
    return FlowMatching.of(dict(FlowMatchEulerDiscreteScheduler(**config).config), sampling)


@pytest.fixture
def latents() -> tuple[torch.Tensor, torch.Tensor]:
    clean, noise = torch.randn(2, *LATENTS, generator=torch.Generator().manual_seed(1))
    return clean, noise


def test_noisy_latents_are_those_of_diffusers(latents: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference = FlowMatchEulerDiscreteScheduler(shift=3.0)
    times = reference.timesteps[[0, 400, 999]]

    expected = reference.scale_noise(latents[0], times, latents[1])

    torch.testing.assert_close(process(shift=3.0).noisy(*latents, times), expected)


def test_following_the_target_back_in_one_step_of_diffusers_gives_the_picture(
    latents: tuple[torch.Tensor, torch.Tensor],
) -> None:
    clean, noise = latents
    flow, sampler = process(), FlowMatchEulerDiscreteScheduler()
    sampler.set_timesteps(1)
    time = sampler.timesteps.expand(len(clean))

    noisy, target = flow.noisy(clean, noise, time), flow.target(clean, noise, time)

    torch.testing.assert_close(
        sampler.step(target, sampler.timesteps[0], noisy).prev_sample, clean, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_uniform_levels_are_shifted_as_the_base_s_sampler_shifts_them(shift: float) -> None:
    sampler = FlowMatchEulerDiscreteScheduler(shift=shift)
    flow = process(shift=shift)

    found = [flow.timestep(quantile, tokens=16) for quantile in (1.0, 0.75, 0.5, 0.25)]

    torch.testing.assert_close(torch.tensor(found), sampler.timesteps[[0, 250, 500, 750]])


@pytest.mark.parametrize("kind", ["exponential", "linear"])
@pytest.mark.parametrize("tokens", [100, 256, 4096])
def test_larger_pictures_are_shifted_more_where_the_sampler_does_it(kind: str, tokens: int) -> None:
    config = {"use_dynamic_shifting": True, "time_shift_type": kind}
    sampler = FlowMatchEulerDiscreteScheduler(**config)
    sampler.set_timesteps(sigmas=np.array([1.0, 0.75, 0.5]), mu=calculate_shift(tokens))

    found = [process(**config).timestep(level, tokens) for level in (1.0, 0.75, 0.5)]

    torch.testing.assert_close(torch.tensor(found), sampler.timesteps)


@given(levels, levels, shifts)
@settings(derandomize=True, max_examples=200)
def test_a_shift_keeps_the_order_of_levels_and_both_ends(a: float, b: float, shift: float) -> None:
    low, high = sorted((a, b))

    assert 0 <= shifted(low, shift) <= shifted(high, shift) + 1e-12 <= 1 + 2e-12
    assert shifted(shifted(a, shift), 1 / shift) == pytest.approx(a, abs=1e-9)


def test_logit_normal_levels_have_their_mean_and_deviation_before_the_sigmoid() -> None:
    flow = process(Timesteps(mean=0.5, std=0.8))

    found = [flow.timestep(quantile, tokens=16) / 1000 for quantile in QUANTILES]

    logits = [math.log(level / (1 - level)) for level in found]
    assert fmean(logits) == pytest.approx(0.5, abs=1e-3)
    assert pstdev(logits) == pytest.approx(0.8, rel=1e-2)


def test_a_positive_mean_leans_towards_noise() -> None:
    assert process(Timesteps(mean=1.0)).timestep(0.5, tokens=16) > 700
    assert process(Timesteps(mean=-1.0)).timestep(0.5, tokens=16) < 300


@pytest.mark.parametrize("sampling", [UNIFORM, Timesteps(), Timesteps(mean=-5, std=5, shift=0.1)])
def test_every_quantile_has_a_level_between_picture_and_noise(sampling: Timesteps) -> None:
    flow = process(sampling)

    found = [flow.timestep(quantile, tokens=16) for quantile in (0.0, 2**-53, 0.5, 1 - 2**-53)]

    assert found == sorted(found)
    assert found[0] >= 0
    assert found[-1] <= 1000


def test_the_manifest_s_shift_goes_before_the_base_s() -> None:
    flow = process(Timesteps(sampling="uniform", shift=1.0), shift=3.0)

    assert flow.timestep(0.5, tokens=16) == 500


def test_validation_measures_at_levels_that_no_setting_of_the_run_moves() -> None:
    runs = [process(how, shift=3.0) for how in (UNIFORM, Timesteps(mean=2, shift=7))]

    first, second = ([run.fixed_timestep(q, tokens=16) for q in (0.125, 0.5)] for run in runs)

    assert first == second == [1000 * shifted(0.125, 3.0), 750]


def test_every_level_weighs_one(latents: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert process().loss_weight(torch.tensor([0.0, 500.0, 1000.0]), None).tolist() == [1, 1, 1]


def test_a_flow_says_how_its_levels_are_drawn() -> None:
    assert (
        process(shift=3.0).describe() == "flow matching; noise levels uniform, shift 3 of the base"
    )
    own = process(Timesteps(mean=0.5, shift=2))
    assert own.describe().endswith("logit-normal (mean 0.5, std 1), shift 2")
    assert "by the size" in process(use_dynamic_shifting=True).describe()
