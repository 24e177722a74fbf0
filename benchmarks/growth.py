"""CPU seconds, peak memory and disk of every stage of a run, for growing numbers of stations and days.

    OMP_NUM_THREADS=1 python benchmarks/growth.py [--stations 100 1000 10000] [--days 28] [--work FOLDER] [--write]

Traffic is that of the simulated city, drawn hour by hour; only the stage `ingest` writes and reads raw records, of one
day. Every stage runs in a process of its own on what the stages before it left in a folder, so that the peak memory is
that of the stage with everything it reads; the stage `imports` is what the modules alone take. A stage does little of
what repeats (3 epochs, 16 updates) and gives seconds of one. The evaluation scores all methods on 7 test days with 4
samples of each; in the place of the diffusion, whose speed is measured by `generation`, the bootstrap draws, and
drawing is not counted. Seconds are CPU seconds of one thread, which other work on the machine changes less than the
clock. `--write` puts the rows into `nbs/results/growth.json`; those of other sizes stay there.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from datetime import date
from functools import partial
from pathlib import Path

FORK = multiprocessing.get_context("fork")
RESULTS = Path(__file__).parent.parent / "nbs" / "results" / "growth.json"
STAGES = ("imports", "ingest", "load", "graph", "pretraining", "training", "generation", "evaluation")
N_EPOCHS, N_UPDATES, N_SAMPLES, GENERATED_DAYS, MAX_GENERATED = 3, 16, 4, 7, 7_000
INGEST_LIMIT = 30_000  # stations whose raw records of a day are written


def city_model(n_stations):
    "Model, levels and first residuals of the simulated city, and its table of stations."
    import numpy as np
    import pandas as pd

    from stouter.data.city_model import draw_city, innovation, make_rng, service_levels, to_lonlat
    from stouter.data.pois import POI_CATEGORIES

    rng = make_rng(0, 0)
    model = draw_city(n_stations, rng)
    levels, state = service_levels(model, rng), innovation(model.shape, rng)[:, :n_stations]
    north, east = np.indices(model.shape).reshape(2, -1)[:, :n_stations]
    columns = dict(zip(("lon", "lat"), to_lonlat(north + 0.5, east + 0.5).T))
    columns |= dict(zip(POI_CATEGORIES, model.poi_counts.T))
    return model, levels, state, pd.DataFrame(columns, index=pd.RangeIndex(1, n_stations + 1, name="station"))


def draw_source(folder, n_stations, n_days):
    "Hourly internet traffic of the simulated city as `source.nc`: rhythm and residuals, without the noise of slots."
    import numpy as np
    import pandas as pd

    from stouter.data.city_model import SERVICE_TABLE, draw_day, make_rng
    from stouter.data.traffic import Traffic, save_traffic

    model, levels, state, stations = city_model(n_stations)
    place = list(SERVICE_TABLE.index).index("internet")
    exponent, gain = (SERVICE_TABLE[name].iloc[place] for name in ("exponent", "residual_gain"))
    midnights = pd.date_range("2013-11-04", periods=n_days, tz="UTC")
    cube = np.empty((n_stations, 24 * n_days, 1), np.float32)
    for number, midnight in enumerate(midnights):
        day, state = draw_day(model, state, midnight, make_rng(0, 2, number))
        rhythm = (model.land_use @ day.activity[:, ::6]) ** exponent
        cube[:, 24 * number : 24 * number + 24, 0] = 6 * levels[:, place, None] * rhythm * np.exp(gain * day.residual.T)
    hours = pd.date_range(midnights[0], periods=24 * n_days, freq="h")
    save_traffic(Traffic.from_array(cube, stations, hours, ("internet",), "UTC", "activity"), folder / "source.nc")
    return {}


def run_config(folder):
    "Defaults, but a few epochs and updates; weekdays are drawn again for every sample, as the share is not asked for."
    from stouter.config import ExperimentConfig

    return ExperimentConfig(
        name="growth",
        data={"source": {"kind": "netcdf", "traffic": folder / "source.nc"}},
        graph={"n_epochs": N_EPOCHS},
        train={"n_updates": N_UPDATES, "weekday_randomization": 1.0},
        evaluation={"n_samples": N_SAMPLES},
    )


def measure_imports(folder, n_stations, n_days):
    "The modules alone, for the peak memory."
    return {"seconds": 0.0}


def measure_ingest(folder, n_stations, n_days):
    "Read the raw records of one day."
    import pandas as pd

    from stouter.data.cdr import ingest_cdr
    from stouter.data.city_model import draw_day, make_rng
    from stouter.data.simulated_city import write_day

    model, levels, state, stations = city_model(n_stations)
    day, _ = draw_day(model, state, pd.Timestamp("2013-11-04", tz="Europe/Rome"), make_rng(0, 2, 0))
    path = folder / "sms-call-internet-sim-2013-11-04.txt"
    write_day(model, levels, day, (0, 3, 0), path)
    size, start_time = path.stat().st_size, time.process_time()
    ingest_cdr([path], stations[["lon", "lat"]], cache_dir=folder / "ingested")
    seconds = time.process_time() - start_time
    kept = sum(file.stat().st_size for file in (folder / "ingested").rglob("*") if file.is_file())
    path.unlink()
    return {"seconds": seconds, "station_days": n_stations, "raw_bytes": size, "bytes": kept}


def measure_load(folder, n_stations, n_days):
    "From the source to the traffic of the run."
    from stouter.pipeline.dataset import load_city

    start_time = time.process_time()
    load_city(run_config(folder).data, folder / "run")
    return {"seconds": time.process_time() - start_time, "bytes": (folder / "run" / "traffic.nc").stat().st_size}


def measure_graph(folder, n_stations, n_days):
    "Edges and features of the base station graph."
    import pandas as pd

    from stouter.pipeline.dataset import build_graphs

    stations, start_time = pd.read_parquet(folder / "run" / "stations.parquet"), time.process_time()
    graph = build_graphs(run_config(folder).graph, stations)["space"].data
    return {"seconds": time.process_time() - start_time, "edges": graph.num_edges}


def measure_pretraining(folder, n_stations, n_days):
    "Epochs of both graphs."
    from stouter.pipeline.dataset import load_city, pretrain_graphs

    config = run_config(folder)
    city, start_time = load_city(config.data, folder / "run"), time.process_time()
    pretrain_graphs(config.graph, city, 0, folder / "run")
    seconds = time.process_time() - start_time
    return {"seconds": seconds, "seconds_per_epoch": seconds / N_EPOCHS}


def load_data(folder):
    "City, embeddings and data sets of the run."
    from stouter.pipeline.dataset import load_city, make_datasets, pretrain_graphs

    config = run_config(folder)
    city = load_city(config.data, folder / "run")
    embeddings = pretrain_graphs(config.graph, city, 0, folder / "run")
    return config, city, embeddings, make_datasets(config.data, city, embeddings, 0)


def measure_training(folder, n_stations, n_days):
    "Updates of the default network, and what a training needs before the first."
    from statistics import median

    from stouter.pipeline.methods import train_method
    from stouter.pipeline.provenance import no_progress

    class Stopwatch(no_progress.func):
        "A progress bar that notes the time of every update."

        def update(self, n=1):
            moments.append(time.process_time())

    moments = [time.process_time()]
    config, _, _, data = load_data(folder)
    train_method(config, data, 0, folder / "run", partial(Stopwatch, disable=True))
    steps = [b - a for a, b in zip(moments[1:], moments[2:])]
    before = moments[1] - moments[0] - median(steps)
    return {"seconds": moments[-1] - moments[0], "seconds_before": before, "seconds_per_update": median(steps)}


def measure_generation(folder, n_stations, n_days):
    "A parquet file of all stations; seven days, or fewer station-days."
    from stouter.pipeline.generate import make_request, write_traffic
    from stouter.pipeline.methods import train_method
    from stouter.pipeline.run import RunResults

    config, city, embeddings, data = load_data(folder)
    method = train_method(config, data, 0, folder / "run")
    model = RunResults(config, 0, folder / "run", city, embeddings, data, method, method).model
    days = max(1, min(GENERATED_DAYS, MAX_GENERATED // n_stations))
    first, out = date(2014, 1, 6), folder / "generated.parquet"
    start_time = time.process_time()
    write_traffic(make_request(model, first.isoformat(), date(2014, 1, 5 + days).isoformat(), 1, 0, None), out, 1)
    seconds, size = time.process_time() - start_time, out.stat().st_size
    out.unlink()
    return {"seconds": seconds, "station_days": n_stations * days, "bytes": size}


def measure_evaluation(folder, n_stations, n_days):
    "Every metric of a method, of all reference methods and of real days."
    from stouter.baselines.reference import Bootstrap
    from stouter.pipeline.evaluate import evaluate_run, generate_samples
    from stouter.pipeline.methods import train_method

    config, city, embeddings, data = load_data(folder)
    method, run = train_method(config, data, 0, folder / "run"), folder / "run"
    stand_in = Bootstrap().fit(data.known.drop_incomplete())
    method.sample = lambda condition, n, generator, on_batch=None: stand_in.sample(condition, n, generator)
    start_time = time.process_time()
    samples = generate_samples(method, config, data, 0, run)
    middle = time.process_time()
    evaluate_run(samples, method, config, city, embeddings, data, 0, run)
    seconds, size = time.process_time() - middle, (run / "samples.safetensors").stat().st_size
    return {"seconds": seconds, "sampling_seconds": middle - start_time, "methods": len(samples), "bytes": size}


CASES = {f"measure_{name}": globals()[f"measure_{name}"] for name in STAGES} | {"draw_source": draw_source}


def run_case(name, folder, n_stations, n_days):
    "A stage in a process of its own, a fork of this one; its numbers and its peak memory."
    receiver, sender = FORK.Pipe(duplex=False)

    def work():
        row = CASES[name](folder, n_stations, n_days)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sender.send({**row, "peak_mb": peak})

    process = FORK.Process(target=work)
    process.start()
    sender.close()
    row = receiver.recv()  # raises EOFError if the process failed, which has printed why
    process.join()
    return row


def measure_size(n_stations, n_days, stages, work):
    "Rows of every stage of one size."
    with tempfile.TemporaryDirectory(dir=work) as folder:
        folder = Path(folder)
        run_case("draw_source", folder, n_stations, n_days)
        for stage in STAGES:
            if stage not in (*stages, "load", "pretraining", "training"):  # these three are read by later ones
                continue
            if stage == "ingest" and n_stations > INGEST_LIMIT:
                continue
            row = run_case(f"measure_{stage}", folder, n_stations, n_days)
            if stage in stages:
                yield {"stage": stage, "stations": n_stations, "days": n_days, **row}
            if all(STAGES.index(stage) >= STAGES.index(other) for other in stages):
                return


def store(row):
    "Put a row into the results, in the place of an older one of the same size."
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    rows = [old for old in rows if any(old[k] != row[k] for k in ("stage", "stations", "days"))] + [row]
    rows.sort(key=lambda r: (STAGES.index(r["stage"]), r["days"], r["stations"]))
    settings = {"epochs": N_EPOCHS, "updates": N_UPDATES, "n_samples": N_SAMPLES, "threads": 1}
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    RESULTS.write_text(json.dumps({**settings, **machine, "rows": rows}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--days", type=int, nargs="+", default=[28])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--work", type=Path, help="folder for temporary files")
    parser.add_argument("--write", action="store_true", help="put the rows into nbs/results/growth.json")
    args = parser.parse_args()
    import stouter.pipeline.run  # noqa: F401, once for all processes

    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    for n_stations in args.stations:
        for n_days in args.days:
            for row in measure_size(n_stations, n_days, args.stages, args.work):
                print(json.dumps(row), flush=True)
                if args.write:
                    store(row)


if __name__ == "__main__":
    main()
