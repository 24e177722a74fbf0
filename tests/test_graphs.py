"Both graphs, their encoders and pretraining: properties across notebooks, and on real grids if they are there."

import numpy as np
import pandas as pd
import pytest
import torch
import torch_geometric.nn as pyg
from conftest import SHARED, needs_data

from stouter.data.pois import read_counts
from stouter.data.stations import read_grid
from stouter.graphs.embeddings import load_or_pretrain
from stouter.graphs.encoders import ENCODERS
from stouter.graphs.graphmae import Subgraph, apply_mask, embed_nodes, pretrain, sample_mask
from stouter.graphs.spatial import (
    STATION_FEATURES,
    CountFeatures,
    LogCountFeatures,
    base_station_graph,
    describe_graph,
    radius_graph,
)
from stouter.graphs.temporal import EDGE_TYPES, TEMPORAL_FEATURES, temporal_graph

PYG_ENCODERS = {"gin": pyg.GIN, "gcn": pyg.GCN, "gat": pyg.GAT, "sage": pyg.GraphSAGE}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def town():
    "Three hundred stations with counts; some are isolated, ten share a mast, forty have no POI."
    rng = np.random.default_rng(0)
    stations = pd.DataFrame(
        {"lon": rng.uniform(9.0, 9.2, 300), "lat": rng.uniform(45.3, 45.45, 300)}, index=rng.permutation(300) + 1000
    )
    stations.iloc[290:] = stations.iloc[0].to_numpy()
    stations.iloc[289] = 11.0, 46.0
    counts = pd.DataFrame(rng.poisson(3, (300, 8)), index=stations.index)
    counts.iloc[:40] = 0
    return stations, counts


@needs_data
@pytest.mark.parametrize(
    "city, nodes, edges, degree", [("milano", 10_000, 577_776, 57.78), ("trentino", 6_575, 25_640, 3.90)]
)
def test_real_grids_have_their_known_edges(city, nodes, edges, degree):
    figures = describe_graph(base_station_graph(read_grid(SHARED / f"grids/{city}-grid.geojson")))
    assert (figures["nodes"], figures["directed_edges"], round(figures["mean_degree"], 2)) == (nodes, edges, degree)


@needs_data
def test_empty_squares_of_milan_are_counted_and_give_finite_losses():
    grid = read_grid(SHARED / "grids/milano-grid.geojson")
    counts = read_counts(SHARED / "milan_context/stcnet_crawled_feature.csv", grid.index)
    for features in (LogCountFeatures.fit(grid, counts), CountFeatures()):
        graph = base_station_graph(grid, counts, feature_scaler=features)
        assert describe_graph(graph)["without_pois"] == int((counts.sum(axis=1) == 0).sum()) > 1000
        model, history = pretrain(graph, ENCODERS["gcn"], n_epochs=3, generator=seeded())
        assert np.isfinite(history).all() and all(p.isfinite().all() for p in model.parameters())


def test_edges_against_all_pairs():
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(9.1, 9.14, 200), rng.uniform(45.4, 45.43, 200)
    north = np.subtract.outer(lat, lat) * 111.13
    east = np.subtract.outer(lon, lon) * 111.32 * np.cos(np.radians(45.415))
    distance = np.hypot(north, east)
    assert (np.abs(distance - 1.005) > 1e-4).sum() > 39_000
    ours = np.zeros((200, 200), bool)
    ours[tuple(radius_graph(lon, lat).numpy())] = True
    clear = np.abs(distance - 1.005) > 3e-3  # the plane is an approximation
    np.fill_diagonal(clear, False)
    assert (ours == (distance < 1.005))[clear].all() and not ours.diagonal().any()


@pytest.mark.parametrize(
    "lon, lat, edges",
    [
        ([], [], 0),
        ([9.0], [45.0], 0),
        ([9.0, 9.0, 9.0], [45.0, 45.0, 45.0], 6),  # one mast, three stations
        ([179.9999, -179.9999], [-17.0, -17.0], 2),  # Fiji
        ([0.0, 90.0, 180.0, -90.0], [-89.997] * 4, 12),  # around the south pole
        ([0.0, 180.0], [90.0, 90.0], 2),  # the pole itself, twice
        ([9.0, 9.5], [45.0, 45.0], 0),
    ],
)
def test_edges_of_special_places(lon, lat, edges):
    graph = base_station_graph(pd.DataFrame({"lon": lon, "lat": lat}, dtype=float))
    assert graph.num_edges == edges == describe_graph(graph)["directed_edges"]
    assert graph.x.isfinite().all() and len(graph.x) == len(lon)


@pytest.mark.parametrize("word", STATION_FEATURES)
def test_features_keep_the_scaling_of_training(word, town):
    stations, counts = town
    train = stations.index[::2]
    features = STATION_FEATURES[word].fit(stations.loc[train], counts.loc[train])
    whole, alone = features(stations, counts), features(stations.loc[train[:1]], counts.loc[train[:1]])
    torch.testing.assert_close(whole[[0]], alone, atol=1e-5, rtol=0)
    assert whole.isfinite().all() and len(whole) == 300
    assert list(map(torch.is_tensor, features)) == [True] * len(features), "all that was fitted can be saved"


def test_a_column_that_was_constant_in_training_is_zero(town):
    stations, counts = town
    features = LogCountFeatures.fit(stations, counts.assign(**{"0": 7}).set_axis([*counts, "new"], axis=1))
    later = features(stations, counts.assign(new=np.arange(300)))
    assert later.isfinite().all() and (later[:, 8] == 0).all()


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_equal_those_of_pyg(name, town):
    graph = base_station_graph(*town)
    loops = torch.tensor([[5, 7], [5, 7]])
    edges = torch.cat([graph.edge_index, loops], dim=1)
    torch.manual_seed(0)
    ours, theirs = ENCODERS[name](9, 16, 2, 5).double(), PYG_ENCODERS[name](9, 16, 2, 5).double()
    mine, others = list(ours.parameters()), dict(theirs.named_parameters())
    shapes = sorted(tuple(p.squeeze().shape) for p in mine)
    assert shapes == sorted(tuple(p.squeeze().shape) for p in others.values()), "the same parameters"
    pyg_names = {
        "gcn": ["lin.weight", "bias"],
        "gin": ["nn.lins.0.weight", "nn.lins.0.bias", "nn.lins.1.weight", "nn.lins.1.bias"],
        "sage": ["lin_l.weight", "lin_l.bias", "lin_r.weight"],
        "gat": ["att_src", "att_dst", "bias", "lin.weight"],
    }[name]
    for k, layer in enumerate(ours.layers):
        for value, word in zip(layer.parameters(), pyg_names):
            others[f"convs.{k}.{word}"].data = value.detach().reshape(others[f"convs.{k}.{word}"].shape).clone()
    x = graph.x.double()
    torch.testing.assert_close(ours(x, edges), theirs(x, edges))
    if name in ("gin", "sage"):
        assert not torch.allclose(ours(x, edges), ours(x, graph.edge_index)), "self-loops of the graph are used"


@pytest.mark.parametrize("name", ENCODERS)
def test_permuting_stations_permutes_embeddings(name, town):
    stations, counts = town
    graph = base_station_graph(stations, counts)
    model, _ = pretrain(graph, ENCODERS[name], 16, 8, n_epochs=5, generator=seeded())
    order = np.random.default_rng(2).permutation(300)
    renamed = base_station_graph(stations.iloc[order], counts, feature_scaler=LogCountFeatures.fit(stations, counts))
    torch.testing.assert_close(embed_nodes(model, renamed), embed_nodes(model, graph)[order], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ENCODERS)
def test_loss_depends_on_masked_nodes_only(name, town):
    graph = base_station_graph(*town)
    model, _ = pretrain(graph, ENCODERS[name], 16, 8, n_epochs=1, generator=seeded())
    whole, mask = Subgraph(torch.arange(300), graph.edge_index, 300), sample_mask(300, 0.5, 0.1, seeded(1))
    masked_graph = apply_mask(graph, mask, whole)
    truth = torch.where(mask.masked[:, None], graph.x, torch.randn(300, 9, generator=seeded(2)))
    loss = model(masked_graph)
    torch.testing.assert_close(model(masked_graph._replace(x=truth)), loss)  # other targets of visible nodes
    assert model(masked_graph._replace(x=-masked_graph.x)) != loss
    hidden = masked_graph.x_replaced.clone()
    hidden[mask.token_nodes] = 1e3
    torch.testing.assert_close(model(masked_graph._replace(x_replaced=hidden)), loss)  # features behind the token


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("features", [LogCountFeatures, CountFeatures])
def test_rows_of_zeros_have_finite_gradients(name, features, town):
    stations, counts = town
    for case in (counts, counts * 0, counts * 0 + 4):
        graph = base_station_graph(stations, case, feature_scaler=features.fit(stations, case))
        model, history = pretrain(graph, ENCODERS[name], 16, 8, n_epochs=3, generator=seeded())
        assert np.isfinite(history).all()
        whole = Subgraph(torch.arange(300), graph.edge_index, 300)
        model(apply_mask(graph, sample_mask(300, 1.0, generator=seeded()), whole)).backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        assert gradients.isfinite().all() and gradients.abs().max() < 1e4
        assert embed_nodes(model, graph).isfinite().all()


@pytest.mark.parametrize("options", [{}, {"replace_rate": 0.2, "patience": 2}, {"max_edges": 500, "fanout": 3}])
def test_one_seed_gives_the_same_bits(options, town):
    graph = base_station_graph(*town)
    first, second, other = (
        pretrain(graph, ENCODERS["gcn"], 16, 8, n_epochs=6, generator=seeded(s), **options) for s in (0, 0, 1)
    )
    assert first[1] == second[1] != other[1]
    assert torch.equal(embed_nodes(first[0], graph), embed_nodes(second[0], graph))


@pytest.mark.parametrize("features", TEMPORAL_FEATURES)
@pytest.mark.parametrize("periodic, bidirectional, edges", [(True, False, 336), (False, False, 311), (True, True, 672)])
def test_temporal_graph(features, periodic, bidirectional, edges):
    graph = temporal_graph(periodic, TEMPORAL_FEATURES[features], bidirectional)
    assert (graph.num_nodes, graph.num_edges) == (168, edges) and len(EDGE_TYPES) == 2
    model, _ = pretrain(graph, ENCODERS["gin"], 16, 8, n_epochs=2, generator=seeded())
    assert embed_nodes(model, graph).shape == (168, 8)


def test_embeddings_are_cached_until_graph_or_settings_change(tmp_path, town):
    stations, counts = town
    trained_seeds = []

    def embed(radius_km=1.0, seed=0):
        graph = base_station_graph(stations, counts, radius_km)

        def train():
            trained_seeds.append(seed)
            return pretrain(graph, ENCODERS["gcn"], 16, 8, n_epochs=2, generator=seeded(seed))

        settings = {"seed": seed, "radius_km": radius_km}
        return load_or_pretrain(tmp_path / "space.safetensors", graph, stations.index.tolist(), settings, train)

    first, second = embed(), embed()
    assert trained_seeds == [0]
    assert torch.equal(first.embedding, second.embedding) and second.ids == stations.index.tolist()
    embed(seed=1)
    embed(radius_km=2.0, seed=1)
    assert trained_seeds == [0, 1, 1]


def test_edges_do_not_depend_on_the_order_of_stations():
    rng = np.random.default_rng(3)
    lon, lat, order = rng.uniform(9, 9.1, 800), rng.uniform(45, 45.1, 800), rng.permutation(800)
    edges = set(map(tuple, radius_graph(lon, lat).T.tolist()))
    again = set(map(tuple, order[radius_graph(lon[order], lat[order]).numpy()].T.tolist()))
    assert edges == again and len(edges) > 1000
