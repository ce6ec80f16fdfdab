"""Targets and weights of the diffusion loss, against diffusers and against the formulas."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)

from lorareg.errors import TrainingError
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.image.noise import NoiseSchedule, drawn_noise

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
TIMES = torch.tensor([0, 1, 333, 998, 999])


@pytest.fixture(params=[{}, {"prediction_type": "v_prediction"}, ZERO_SNR])
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(DDIMScheduler(**SD, **request.param).config)


@pytest.fixture
def latents() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 5, 4, 8, 8, generator=generator)
    return clean, noise


def test_noisy_latents_are_those_of_diffusers(
    config: dict[str, Any], latents: tuple[torch.Tensor, torch.Tensor]
) -> None:
    expected = DDPMScheduler.from_config(config).add_noise(*latents, TIMES)

    torch.testing.assert_close(NoiseSchedule.of(config).noisy(*latents, TIMES), expected)


def test_the_target_is_the_noise_or_diffusers_velocity(
    config: dict[str, Any], latents: tuple[torch.Tensor, torch.Tensor]
) -> None:
    schedule = NoiseSchedule.of(config)
    reference = DDPMScheduler.from_config(config)
    is_v = config["prediction_type"] == "v_prediction"
    expected = reference.get_velocity(*latents, TIMES) if is_v else latents[1]

    torch.testing.assert_close(schedule.target(*latents, TIMES), expected)


@pytest.mark.parametrize("kind", [DDIMScheduler, PNDMScheduler, EulerDiscreteScheduler])
def test_the_sampler_of_the_base_does_not_matter(kind: Any) -> None:
    schedule = NoiseSchedule.of(dict(kind(**SD).config))

    torch.testing.assert_close(schedule.alpha_bar, DDPMScheduler(**SD).alphas_cumprod)


def test_without_a_gamma_every_timestep_weighs_one(config: dict[str, Any]) -> None:
    assert NoiseSchedule.of(config).loss_weight(TIMES, None).tolist() == [1.0] * 5


def test_min_snr_for_epsilon_is_min_of_snr_and_gamma_over_snr() -> None:
    schedule = NoiseSchedule.of(dict(DDIMScheduler(**SD).config))
    alpha_bar = schedule.alpha_bar[TIMES]
    snr = alpha_bar / (1 - alpha_bar)

    expected = torch.minimum(snr, torch.tensor(5.0)) / snr

    torch.testing.assert_close(schedule.loss_weight(TIMES, 5.0), expected)
    assert expected[0] < 0.01
    assert expected[-1] == 1


def test_min_snr_for_v_is_min_of_snr_and_gamma_over_snr_plus_one() -> None:
    schedule = NoiseSchedule.of(dict(DDIMScheduler(**SD, prediction_type="v_prediction").config))
    alpha_bar = schedule.alpha_bar[TIMES]
    snr = alpha_bar / (1 - alpha_bar)

    expected = torch.minimum(snr, torch.tensor(5.0)) / (snr + 1)

    torch.testing.assert_close(schedule.loss_weight(TIMES, 5.0), expected)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_weights_are_finite_where_no_signal_is_left(prediction: str) -> None:
    schedule = NoiseSchedule(torch.tensor([0.9, 0.0]), prediction)

    weights = schedule.loss_weight(torch.tensor([0, 1]), 5.0)

    assert weights.isfinite().all()
    assert weights[1] == pytest.approx(1 if prediction == "epsilon" else 0, abs=1e-6)


def test_quantiles_cover_every_timestep_and_none_beyond() -> None:
    schedule = NoiseSchedule.of(dict(DDIMScheduler(**SD).config))

    assert schedule.timestep(0.0, tokens=64) == 0
    assert schedule.timestep(0.5, tokens=64) == 500
    assert schedule.timestep(1 - 2**-53, tokens=64) == 999


@pytest.mark.parametrize(
    "config",
    [
        dict(DDIMScheduler(**SD, prediction_type="sample").config),
        json.loads(FlowMatchEulerDiscreteScheduler().to_json_string()),
        dict(EulerDiscreteScheduler(**SD).config) | {"use_flow_sigmas": True},
    ],
    ids=["sample", "flow matching", "flow sigmas"],
)
def test_a_base_that_predicts_something_else_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="the base predicts"):
        NoiseSchedule.of(config)


def test_a_rescaled_schedule_ends_at_pure_noise_and_begins_where_it_did() -> None:
    config = dict(DDIMScheduler(**SD, prediction_type="v_prediction").config)

    plain, rescaled = NoiseSchedule.of(config), NoiseSchedule.of(config, zero_terminal_snr=True)

    assert plain.alpha_bar[-1] > 0
    assert rescaled.alpha_bar[-1] == 0
    torch.testing.assert_close(rescaled.alpha_bar[0], plain.alpha_bar[0])


def test_rescaling_is_algorithm_1_of_the_paper() -> None:
    config = dict(DDIMScheduler(**SD, prediction_type="v_prediction").config)
    root = NoiseSchedule.of(config).alpha_bar.double().sqrt()

    rescaled = NoiseSchedule.of(config, zero_terminal_snr=True)

    expected = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    torch.testing.assert_close(rescaled.alpha_bar.double(), expected, rtol=0, atol=1e-6)


def test_rescaling_a_base_that_ends_at_pure_noise_changes_nothing() -> None:
    config = dict(DDIMScheduler(**SD, **ZERO_SNR).config)

    plain, rescaled = NoiseSchedule.of(config), NoiseSchedule.of(config, zero_terminal_snr=True)

    assert torch.equal(plain.alpha_bar, rescaled.alpha_bar)
    assert plain.alpha_bar[-1] == 0


def test_noise_offset_shifts_whole_channels_and_nothing_else() -> None:
    draws, shape = Draws(3).at("train", 1), torch.Size((4, 8, 8))

    plain, offset = (drawn_noise(shape, draws, "a.png", amount) for amount in (0.0, 0.5))

    shift = offset - plain
    assert torch.equal(plain, draws.normal(shape, "noise", "a.png"))
    assert shift.std(dim=(1, 2)).max() < 1e-6
    torch.testing.assert_close(
        shift[:, 0, 0], 0.5 * draws.normal((4, 1, 1), "noise_offset", "a.png")[:, 0, 0]
    )


def test_offsets_of_many_pictures_have_the_deviation_that_was_asked_for() -> None:
    draws, shape = Draws(3).at("train", 1), torch.Size((4, 1, 1))

    shifts = [
        drawn_noise(shape, draws, key, 0.2) - drawn_noise(shape, draws, key, 0.0)
        for key in map(str, range(500))
    ]

    assert torch.stack(shifts).std().item() == pytest.approx(0.2, rel=0.1)
