"Training that is interrupted, runs out of disk space, diverges or is distributed."

import multiprocessing
import random
import resource
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from training_jobs import TRAINING_ARGS, train_and_keep, train_distributed, train_interrupted, train_small

from stouter.config_file import load_config
from stouter.files import InputError
from stouter.pipeline.dataset import load_city, make_datasets, pretrain_graphs
from stouter.pipeline.methods import train_method
from stouter.pipeline.provenance import no_progress
from stouter.training.batches import batch_index, sample_timesteps_and_noise
from stouter.training.state import COLUMNS, TrainingArguments, read_checkpoint
from stouter.training.trainer import launch


@pytest.fixture(scope="module")
def uninterrupted():
    "Weights and history of a training without an interruption."
    denoiser, history = train_small()
    return denoiser.state_dict(), history


def assert_same(weights, history, uninterrupted):
    assert all(torch.equal(weights[name], value) for name, value in uninterrupted[0].items())
    pd.testing.assert_frame_equal(
        history.drop(columns="seconds", errors="ignore"), uninterrupted[1].drop(columns="seconds"), check_exact=True
    )


def test_the_history_is_complete(uninterrupted):
    history = uninterrupted[1]
    assert tuple(history.columns) == COLUMNS and history["update"].tolist() == list(range(1, 61))
    assert history["validation_error"].notna().sum() == 10 and history["loss"].notna().all()


def test_twenty_kills_at_random_moments(tmp_path, uninterrupted):
    """Each training is a fork of a server process that has imported everything, and is killed at a random moment:
    some while they load the checkpoint, most while they train."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["stouter.training.trainer", "stouter.denoisers.stunet", "torch._dynamo"]
    )  # the optimiser imports the last one
    rng, kills, reached = random.Random(0), 0, []
    while kills < 20:
        before = inode(tmp_path / "training_log.jsonl")
        process = context.Process(target=train_and_keep, args=(tmp_path,))
        process.start()
        while kills % 4 and process.is_alive() and inode(tmp_path / "training_log.jsonl") == before:
            time.sleep(0.002)  # until this process has begun to train
        process.join(rng.uniform(0.0, 0.6))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        assert process.exitcode in (0, -9)
        if (tmp_path / "done.pt").exists():  # finished: compare, and start again
            check_done(tmp_path, uninterrupted)
            reached.append(60)
        elif (tmp_path / "checkpoint.pt").exists():
            reached.append(len(read_checkpoint(tmp_path / "checkpoint.pt")["history"]))
    process = context.Process(target=train_and_keep, args=(tmp_path,))
    process.start()
    process.join(60)
    check_done(tmp_path, uninterrupted)
    assert len(set(reached)) >= 3  # the kills came at different updates


def test_tensorboard_shows_every_update_once_after_kills(tmp_path, uninterrupted):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    context, training_args = multiprocessing.get_context("forkserver"), replace(TRAINING_ARGS, tensorboard=True)
    context.set_forkserver_preload(
        ["stouter.training.trainer", "stouter.denoisers.stunet", "torch._dynamo", "torch.utils.tensorboard"]
    )
    for moment in (3, 18, 41, None):  # before the first checkpoint, between two, late
        before = inode(tmp_path / "training_log.jsonl")
        process = context.Process(target=train_and_keep, args=(tmp_path, training_args))
        process.start()
        while (
            moment
            and process.is_alive()
            and (
                inode(tmp_path / "training_log.jsonl") == before
                or (tmp_path / "training_log.jsonl").read_bytes().count(b"\n") < moment
            )
        ):
            time.sleep(0.002)
        if moment:
            process.kill()
        process.join(60)
        assert process.exitcode == (-9 if moment else 0)
    (file,) = (tmp_path / "tensorboard").iterdir()
    scalars, history = reader.EventAccumulator(str(file)).Reload(), uninterrupted[1]
    for name, rows in {"loss": 60, "lr": 60, "grad_norm": 60, "validation_error": 10}.items():
        expected = history.dropna(subset=name)
        shown = scalars.Scalars(name)
        assert [point.step for point in shown] == expected["update"].tolist() and len(shown) == rows
        assert [point.value for point in shown] == pytest.approx(expected[name].tolist(), rel=1e-6)
    assert_same(torch.load(tmp_path / "done.pt", weights_only=True)["weights"], history, uninterrupted)


def inode(path):
    "Number of the file at a path: each process of a training writes a new one."
    return path.stat().st_ino if path.exists() else None


def check_done(folder, uninterrupted):
    "The finished training in `folder` equals the uninterrupted one bit by bit; the folder is emptied."
    done = torch.load(folder / "done.pt", weights_only=True)
    assert_same(
        done["weights"], pd.DataFrame(done["history"], columns=COLUMNS[:-1]).astype({"update": int}), uninterrupted
    )
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("moment", [1, 4, 5, 6, 7, 24, 59])
def test_interrupted_next_to_checkpoints_and_validations(tmp_path, uninterrupted, moment):
    def stop(update, loss):
        if update == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_small(tmp_path / "checkpoint.pt", stop)
    denoiser, history = train_small(tmp_path / "checkpoint.pt")
    assert_same(denoiser.state_dict(), history, uninterrupted)
    assert len((tmp_path / "training_log.jsonl").read_text().splitlines()) == 60


def test_a_finished_training_is_not_repeated(tmp_path, uninterrupted):
    train_small(tmp_path / "checkpoint.pt")
    seen = []
    denoiser, history = train_small(tmp_path / "checkpoint.pt", lambda *row: seen.append(row))
    assert not seen
    assert_same(denoiser.state_dict(), history, uninterrupted)


def test_a_full_disk_loses_no_checkpoint(tmp_path, uninterrupted):
    """After update 10 the operating system limits every file to 30 kB; the checkpoint of update 8 stays,
    and training resumes from it."""
    limits, stored = resource.getrlimit(resource.RLIMIT_FSIZE), []

    def fill(update, loss):
        if update == 10:
            stored.append((tmp_path / "checkpoint.pt").read_bytes())
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))

    try:
        with pytest.raises(InputError, match="checkpoint.pt: could not be written .*free some space and run again"):
            train_small(tmp_path / "checkpoint.pt", fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "checkpoint.pt").read_bytes() == stored[0] and len(stored[0]) > 30_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "training_log.jsonl"]
    assert len(read_checkpoint(tmp_path / "checkpoint.pt")["history"]) == 8
    denoiser, history = train_small(tmp_path / "checkpoint.pt")
    assert_same(denoiser.state_dict(), history, uninterrupted)


def test_the_error_of_a_nan_loss_names_update_rate_and_checkpoint(tmp_path, monkeypatch):
    real = sample_timesteps_and_noise

    def poisoned(shape, n_steps, seed, update, antithetic):
        t, eps = real(shape, n_steps, seed, update, antithetic)
        return t, eps * float("nan") if update == 9 else eps

    monkeypatch.setattr("stouter.training.trainer.sample_timesteps_and_noise", poisoned)
    with pytest.raises(
        FloatingPointError,
        match=r"loss is nan at update 9, learning rate 0\.00\d+; .*last good checkpoint: .*checkpoint.pt",
    ):
        train_small(tmp_path / "checkpoint.pt")
    stored = read_checkpoint(tmp_path / "checkpoint.pt")
    assert len(stored["history"]) == 8 and all(v.isfinite().all() for v in stored["denoiser"].values())


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    training_args = TrainingArguments(**{**TRAINING_ARGS.__dict__, "n_updates": 4})
    train_small(tmp_path / "checkpoint.pt", training_args=training_args)
    with pytest.raises(InputError, match="another run .*seed"):
        train_small(tmp_path / "checkpoint.pt", training_args=training_args, seed=1)
    with pytest.raises(InputError, match="another run .*n_updates"):
        train_small(tmp_path / "checkpoint.pt")


def test_a_batch_holds_every_sample_equally_often_and_steps_in_pairs():
    seen = torch.cat([batch_index(10, 4, 0, u) for u in range(25)]).bincount(minlength=10)
    assert seen.tolist() == [10] * 10
    for size in (1, 2, 7, 16):
        t, eps = sample_timesteps_and_noise((size, 1, 24), 1000, 0, 3)
        half = (size + 1) // 2
        assert len(t) == size and (t[: size - half] + t[half:] == 999).all() and eps.shape == (size, 1, 24)


def test_two_processes_train_as_one(tmp_path, uninterrupted):
    pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
    loss, error, weights = launch(2, train_distributed, tmp_path)
    history = uninterrupted[1]
    assert loss == pytest.approx(history["loss"].tolist(), rel=1e-5)
    assert error == pytest.approx(history["validation_error"].dropna().tolist(), rel=1e-5)
    assert all(abs(weights[name] - value.numpy()).max() < 1e-4 for name, value in uninterrupted[0].items())
    stored = read_checkpoint(tmp_path / "checkpoint.pt")  # the checkpoint does not depend on the number of processes
    assert set(stored["denoiser"]) == set(uninterrupted[0]) and len(stored["history"]) == 60
    assert len((tmp_path / "training_log.jsonl").read_text().splitlines()) == 60


def test_a_training_is_resumed_with_another_number_of_processes(tmp_path, uninterrupted):
    """One process after two and two after one, both interrupted between checkpoints: the history is that of an
    undisturbed training up to single precision. The error of a process is raised with its own words."""
    pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")

    def stop(update, loss):
        if update == 22:
            raise KeyboardInterrupt

    folders = tmp_path / "two_one", tmp_path / "one_two"
    for folder in folders:
        folder.mkdir()
    with pytest.raises(InputError, match="^stopped at 22: the reason$"):
        launch(2, train_interrupted, folders[0], 22)
    with pytest.raises(KeyboardInterrupt):
        train_small(folders[1] / "checkpoint.pt", stop)
    assert [len(read_checkpoint(folder / "checkpoint.pt")["history"]) for folder in folders] == [20, 20]
    denoiser, history = train_small(folders[0] / "checkpoint.pt")
    loss, _, weights = launch(2, train_distributed, folders[1])
    expected = uninterrupted[1]["loss"].tolist()
    assert history["loss"].tolist() == pytest.approx(expected, rel=1e-5)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert all((denoiser.state_dict()[name] - value).abs().max() < 1e-4 for name, value in uninterrupted[0].items())
    assert all(abs(weights[name] - value.numpy()).max() < 1e-4 for name, value in uninterrupted[0].items())


def test_a_run_trains_in_processes_as_in_one(tmp_path):
    "The same fields of a run and the same samples within float error; progress, logs and weights are those of the run."
    pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
    seen = []

    class Bar(no_progress.func):
        def update(self, n=1):
            self.n += n
            seen.append(n)

    config = load_config("tiny", {"train.n_updates": 12, "data.n_validation_periods": 1, "train.validate_every": 4})
    data = make_datasets(config.data, *load_parts(config, tmp_path), 0)
    histories, samples = [], []
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        train = config.train.model_copy(update={"n_processes": n})
        method = train_method(config.model_copy(update={"train": train}), data, 0, tmp_path / str(n), Bar)
        histories.append(pd.read_parquet(tmp_path / str(n) / "history.parquet").drop(columns="seconds"))
        samples.append(method.sample(data.test.condition[:6], 2, torch.Generator().manual_seed(0)))
        assert sum(seen) == 12 * n and len((tmp_path / str(n) / "training_log.jsonl").read_text().splitlines()) == 12
    pd.testing.assert_frame_equal(*histories, rtol=1e-4)
    torch.testing.assert_close(*samples, atol=1e-3, rtol=0)


def load_parts(config, folder):
    "City and embeddings of a run."
    city = load_city(config.data, folder)
    return city, pretrain_graphs(config.graph, city, 0, folder)
