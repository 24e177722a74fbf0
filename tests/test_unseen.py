"Places without a past: what may reach their traffic and what may not."

from dataclasses import replace

import numpy as np
import torch

from stouter.config_file import load_config
from stouter.data.traffic import Traffic
from stouter.pipeline.dataset import load_city, make_datasets, pretrain_graphs
from stouter.pipeline.evaluate import predict_scale, sample_baseline
from stouter.training.batches import make_generator


def test_nothing_measured_at_a_held_out_station_reaches_its_samples(tmp_path):
    "Records a thousand times as large there change neither the days of the forest pool nor the predicted scale."
    fields = {"data.protocol": "new_stations", "data.block_size_km": "0.4", "data.test_station_fraction": "0.3"}
    config = load_config("tiny", fields)
    city = load_city(config.data, tmp_path)
    embeddings = pretrain_graphs(config.graph, city, 0, tmp_path)
    test = make_datasets(config.data, city, embeddings, 0).split.test
    values = city.traffic.dataset["volume"].values.copy()
    values[test] *= 1000
    stations, hours = city.traffic.stations, city.traffic.hours
    larger = Traffic.from_array(values, stations, hours, ("internet",), "Europe/Rome", "unit")
    pool, scale = [], []
    for one in (city, replace(city, traffic=larger)):
        data = make_datasets(config.data, one, embeddings, 0)
        pool.append(sample_baseline("forest pool", data, 4, make_generator(1)))
        scaler, _ = predict_scale(config, one, embeddings, data, 0)
        scale.append(np.stack([scaler.min_[test], scaler.range_[test]]))
    assert torch.equal(*pool) and np.array_equal(*scale)
    assert (data.scaler.range_[test] > 100 * scale[0][1]).all()  # and they were changed
