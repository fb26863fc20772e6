"""The network's gradients are those of its loss, and its answers do not depend on the batch."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from marquee.models._network import Network

ROWS = 8


def network(hidden, seed=0, dtype=np.float64, n_outputs=6):
    made = Network(3, 4, hidden, n_outputs, dtype=dtype)
    made.start(np.random.default_rng(seed), batch_rows=ROWS, frequency_scales=[0.2, 0.5, 1.0])
    return made


def batch(seed=1, n=ROWS, n_outputs=6):
    rng = np.random.default_rng(seed)
    missing = rng.random((n, 3)) < 0.2
    values = np.where(missing, 0.0, rng.uniform(-1, 1, (n, 3)))
    return np.concatenate([values, missing], axis=1), rng.integers(0, n_outputs, n)


@pytest.mark.parametrize("hidden", [(5,), (7, 5), (6, 4, 5)], ids=str)
def test_gradient_equals_finite_differences(hidden):
    """All parameters: frequencies, weights, scales and shifts through the batch's own mean and variance."""
    net = network(hidden)
    rng = np.random.default_rng(2)
    net.parameters += rng.normal(0, 0.1, net.parameters.shape)  # scales and shifts off 1 and 0
    inputs, labels = batch()
    net.loss_and_gradient(inputs, labels)
    gradient, numeric, h = net.gradient.copy(), np.empty_like(net.gradient), 1e-6
    for i, value in enumerate(net.parameters.tolist()):
        net.parameters[i] = value + h
        above, _ = net.loss_and_gradient(inputs, labels)
        net.parameters[i] = value - h
        below, _ = net.loss_and_gradient(inputs, labels)
        net.parameters[i] = value
        numeric[i] = (above - below) / (2 * h)
    assert np.abs(gradient).max() > 0.05
    np.testing.assert_allclose(gradient, numeric, atol=1e-7)


@pytest.mark.parametrize("dropout", [(0.0, 0.0), (0.3, 0.5)], ids=str)
def test_gradient_with_shortcut_offsets_and_exclusions_equals_finite_differences(dropout):
    """Plain inputs, gains, scale of the offsets; labels that are distributions; one mask for all steps."""
    rng = np.random.default_rng(3)
    net = Network(
        3,
        4,
        (7, 5),
        6,
        n_plain=2,
        basis=rng.normal(size=(4, 6)),
        offsets=rng.normal(size=(3, 6)),
        dropout=dropout,
        dtype=np.float64,
    )
    net.start(np.random.default_rng(0), batch_rows=ROWS, frequency_scales=[0.2, 0.5, 1.0])
    net.start_shortcut(0.7, 0.6)
    net.parameters += rng.normal(0, 0.1, net.parameters.shape)
    inputs = np.concatenate([batch()[0], rng.normal(size=(ROWS, 6))], axis=1)
    shares = rng.random((ROWS, 6)) * (rng.random((ROWS, 6)) < 0.5)
    shares[:, 0] += 0.1
    labels = csr_array(shares / shares.sum(axis=1, keepdims=True))
    excluded = csr_array((shares == 0) * (rng.random((ROWS, 6)) < 0.5) * 1.0)
    when = rng.integers(0, 3, ROWS)

    def loss():
        return net.loss_and_gradient(inputs, labels, when, excluded, np.random.default_rng(4))[0]

    loss()
    gradient, numeric, h = net.gradient.copy(), np.empty_like(net.gradient), 1e-6
    for i, value in enumerate(net.parameters.tolist()):
        net.parameters[i] = value + h
        above = loss()
        net.parameters[i] = value - h
        numeric[i] = (above - loss()) / (2 * h)
        net.parameters[i] = value
    assert np.count_nonzero(np.abs(gradient) > 1e-3) > len(gradient) / 4
    np.testing.assert_allclose(gradient, numeric, atol=1e-7)


def test_excluded_classes_have_no_probability():
    net = network((7,), dtype=np.float32)
    inputs = batch(n=4)[0].astype(np.float32)
    excluded = csr_array(np.eye(4, 6, dtype=np.float32))
    answers = np.exp(net.log_probabilities(inputs, excluded=excluded))
    assert (answers[excluded.toarray() > 0] == 0).all()
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, rtol=1e-5)


def test_decay_shrinks_weights_only():
    net = network((7, 5))
    before = [layer.copy() for layer in net._layers]
    net.decay(0.25)
    for position, (layer, old) in enumerate(zip(net._layers, before, strict=True)):
        np.testing.assert_allclose(layer, old * (0.75 if position % 3 == 0 else 1.0))


def test_gradient_is_written_anew_by_each_step():
    net = network((7, 5))
    net.loss_and_gradient(*batch())
    first = net.gradient.copy()
    net.loss_and_gradient(*batch(seed=5))
    net.loss_and_gradient(*batch())
    np.testing.assert_allclose(net.gradient, first, atol=1e-12)


def test_loss_of_a_step_is_cross_entropy_by_batch_statistics():
    """Known answer: the same forward pass written plainly."""
    net = network((7,))
    inputs, labels = batch()
    loss, correct = net.loss_and_gradient(inputs, labels)
    weights, scale, shift, top, bias = net._layers
    angles = (inputs[:, :3, None] * net._frequencies).reshape(ROWS, -1)
    z = np.concatenate([np.sin(angles), np.cos(angles), inputs[:, 3:]], axis=1) @ weights
    hidden = np.maximum(scale * (z - z.mean(0)) / np.sqrt(z.var(0) + net.bn_epsilon) + shift, 0)
    logits = hidden @ top + bias
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert loss == pytest.approx(-log_softmax[np.arange(ROWS), labels].mean(), abs=1e-12)
    assert correct == (log_softmax.argmax(1) == labels).sum()
    # Running statistics moved a tenth of the way to the mean and the unbiased variance.
    np.testing.assert_allclose(net.running[:7], 0.1 * z.mean(0))
    np.testing.assert_allclose(net.running[7:], 0.9 + 0.1 * z.var(0, ddof=1))


def test_running_statistics_converge_to_those_of_the_data():
    net = network((7,))
    inputs, labels = batch()
    for _ in range(200):
        net.loss_and_gradient(inputs, labels)
    # With the statistics of the batch, inference is training's forward pass up to the variance's n / (n - 1).
    net.running[7:] *= (ROWS - 1) / ROWS
    loss, _ = net.loss_and_gradient(inputs, labels)
    answers = net.log_probabilities(inputs)
    assert -answers[np.arange(ROWS), labels].mean() == pytest.approx(loss, rel=1e-3)


def test_answers_are_probabilities():
    answers = network((7, 5), dtype=np.float32).log_probabilities(batch(n=100)[0].astype(np.float32))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(np.exp(answers).sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("n_outputs", [1, 33, 200, 1003])
def test_one_row_gets_bit_for_bit_the_answer_it_gets_in_a_batch(n_outputs):
    net = network((256, 256), dtype=np.float32, n_outputs=n_outputs)
    inputs = batch(n=77)[0].astype(np.float32)
    together = net.log_probabilities(inputs)
    for row in range(77):
        np.testing.assert_array_equal(net.log_probabilities(inputs[row : row + 1])[0], together[row])
    order = np.random.default_rng(3).permutation(77)
    np.testing.assert_array_equal(net.log_probabilities(inputs[order]), together[order])


def test_no_rows_get_no_answers():
    assert network((4,)).log_probabilities(np.zeros((0, 6))).shape == (0, 6)


def test_restored_vectors_answer_the_same_without_a_copy():
    net = network((7, 5), dtype=np.float32)
    net.parameters.flags.writeable = net.running.flags.writeable = False
    other = Network(3, 4, (7, 5), 6).restore(net.parameters, net.running)
    assert np.shares_memory(other.parameters, net.parameters)
    inputs = batch()[0].astype(np.float32)
    np.testing.assert_array_equal(other.log_probabilities(inputs), net.log_probabilities(inputs))


def test_vectors_of_another_size_are_refused():
    with pytest.raises(ValueError, match="reshape"):
        Network(3, 4, (7, 5), 6).restore(np.zeros(10, np.float32), np.zeros(24, np.float32))
