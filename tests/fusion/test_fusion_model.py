"""The fusion model: momentum, hard negatives, pre-training losses against references, heads, training and its cache."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from gaplib.fusion import losses, runs, tasks
from gaplib.fusion.heads import task_model
from gaplib.fusion.model import Architecture, fusion_model, mean_state
from gaplib.fusion.momentum import momentum_copy
from gaplib.fusion.pretraining import BLOCKS, VARIANTS, Pretraining, needs_private, pretraining_batches
from gaplib.fusion.vocabulary import CLS, MASK, PAD, UNK, vocabulary
from gaplib.training import NonFiniteLoss


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def batch():
    return pretraining_batches(24, seed=0)(0)


def small(variant="baseline", **changes):
    size = Architecture(len(vocabulary()), width=16, hidden=16, dim=8, private=needs_private(variant), **changes)
    return fusion_model(size, seed=1)


# --- momentum ---------------------------------------------------------------------------------------------------------


def test_momentum_encoders_follow_the_closed_form():
    encoders = nn.Linear(3, 2)
    copy, decay = momentum_copy(encoders, 0.9), 0.9
    history = [encoders.weight.detach().clone()]
    for step in range(5):
        with torch.no_grad():
            encoders.weight.add_(step + 1.0)
        copy.update_parameters(encoders)
        history.append(encoders.weight.detach().clone())
    # m_k = decay^k w_0 + (1 - decay) sum_j decay^(k - j) w_j
    expected = decay**5 * history[0] + (1 - decay) * sum(decay ** (5 - j) * history[j] for j in range(1, 6))
    torch.testing.assert_close(copy.module.weight, expected)
    assert not copy.module.weight.requires_grad
    with pytest.raises(ValueError, match="decay"):
        momentum_copy(encoders, 1.0)


def test_the_momentum_copy_moves_in_pre_training_and_gets_no_gradient(batch):
    objective = Pretraining(small(), decay=0.5)
    before = {name: value.clone() for name, value in objective.momentum.module.state_dict().items()}
    sum(objective.terms(*batch, generator()).values()).backward()
    assert all(p.grad is None for p in objective.momentum.parameters())
    with torch.no_grad():
        for parameter in objective.model.parameters():
            parameter.add_(0.1)
    objective.after_step()
    for name, value in objective.momentum.module.state_dict().items():
        expected = 0.5 * before[name] + 0.5 * objective.model.encoders.state_dict()[name]
        torch.testing.assert_close(value, expected)


# --- hard negatives ---------------------------------------------------------------------------------------------------


def test_hard_negatives_are_never_the_true_pair_nor_a_duplicate_of_it():
    groups = torch.tensor([0, 1, 1, 2, 0, 3, 3, 3])
    logits = 50 * (groups[:, None] == groups[None, :]).float()  # the forbidden ones are by far the likeliest
    for seed in range(50):
        drawn = losses.hard_negatives(logits, groups, generator(seed))
        assert (groups[drawn] != groups).all()


def test_hard_negatives_are_drawn_from_the_softmax():
    logits = torch.tensor([[9.0, 0.0, 1.0, 2.0]]).repeat(4, 1)
    draws = torch.stack([losses.hard_negatives(logits, torch.arange(4), generator(seed))[0] for seed in range(3000)])
    counts = np.bincount(draws, minlength=4)
    expected = np.exp([0.0, 1.0, 2.0])
    assert counts[0] == 0
    assert chisquare(counts[1:], 3000 * expected / expected.sum()).pvalue > 1e-3


def test_rows_of_zeros_and_rows_that_underflow_do_not_stop_the_draw():
    groups = torch.arange(6)
    logits = torch.zeros(6, 6)
    logits[1] = -1e4  # a softmax of which, with the true pair taken away, has nothing left
    logits[1, 1] = 1e4
    with pytest.raises(RuntimeError):  # the known crash of the usual way
        torch.multinomial(logits[1].softmax(0).masked_fill(groups == 1, 0.0), 1)
    seen = torch.stack([losses.hard_negatives(logits, groups, generator(seed)) for seed in range(60)])
    assert (seen != groups).all()
    assert len(seen[:, 0].unique()) == 5 == len(seen[:, 1].unique())  # evenly from what is left


def test_hard_negatives_refuse_what_has_no_wrong_pair():
    with pytest.raises(ValueError, match=r"groups.*row 0"):
        losses.hard_negatives(torch.zeros(3, 3), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"logits.*finite"):
        losses.hard_negatives(torch.full((3, 3), torch.nan), torch.arange(3))
    with pytest.raises(ValueError, match="groups"):
        losses.hard_negatives(torch.zeros(3, 3), torch.arange(2))


# --- losses against references ----------------------------------------------------------------------------------------


def test_contrastive_loss_against_a_loop():
    unit = [nn.functional.normalize(torch.randn(5, 4, generator=generator(i)).double(), dim=1) for i in range(4)]
    image, text, image_slow, text_slow = (one.numpy() for one in unit)
    groups, scale, soft = [0, 1, 1, 2, 3], 7.0, 0.3
    total = 0.0
    for query, keys, slow in ((image, text_slow, image_slow), (text, image_slow, text_slow)):
        for i in range(5):
            same = np.array([groups[i] == g for g in groups], dtype=float)
            opinion = np.exp(scale * keys @ slow[i])
            target = (1 - soft) * same / same.sum() + soft * opinion / opinion.sum()
            z = scale * keys @ query[i]
            total -= target @ (z - np.log(np.exp(z).sum())) / 10
    got = losses.contrastive_loss(*unit, scale, torch.tensor(groups), soft)
    assert math.isclose(float(got), total, rel_tol=1e-12)


def test_matching_and_masking_losses_against_references():
    logits = torch.randn(6, 2, generator=generator()).double()
    margin = (logits[:, 1] - logits[:, 0]) * torch.tensor([1.0, 1, -1, -1, -1, -1])
    torch.testing.assert_close(losses.matching_loss(logits, positives=2), nn.functional.softplus(-margin).mean())
    logits, words = torch.randn(4, 9, generator=generator()).double(), torch.tensor([3, 0, 8, 5])
    p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(losses.masking_loss(logits, words), -p[range(4), words].log().mean())


def test_masked_words_are_words_evenly_drawn_and_as_many_as_asked():
    tokens = torch.tensor([[CLS, 10, 11, 12, PAD], [CLS, 13, 14, UNK, 15]]).repeat(400, 1)
    count = torch.tensor([1, 2]).repeat(400)
    masked, where = losses.mask_words(tokens, count, generator())
    assert (where.sum(dim=1) == count).all()
    assert (tokens[where] >= 6).all()  # never [CLS], padding or the unknown word
    assert (masked[where] == MASK).all()
    assert (masked[~where] == tokens[~where]).all()
    assert chisquare(where[::2, 1:4].sum(dim=0).numpy()).pvalue > 1e-3
    with pytest.raises(ValueError, match=r"count.*3 words of text 0, got 4"):
        losses.mask_words(tokens, 4)
    with pytest.raises(ValueError, match="count"):
        losses.mask_words(tokens, 0)


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_has_a_gradient_in_pre_training(variant, batch):
    objective = Pretraining(small(variant), variant)
    terms = objective.terms(*batch, generator())
    assert set(terms) == {"contrast", "matching", "masking"} | ({variant} - {"baseline"})
    assert all(value.ndim == 0 and value.isfinite() for value in terms.values())
    sum(terms.values()).backward()
    lacking = [n for n, p in objective.model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert lacking == []


def test_padding_changes_nothing(batch):
    images, tokens, _ = batch
    model = small().eval()
    longer = nn.functional.pad(tokens, (0, 5))
    with torch.no_grad():
        now, padded = model.encoders(images, tokens), model.encoders(images, longer)
        torch.testing.assert_close(padded.text, now.text)
        fused, fused_padded = model.fuse(images, tokens), model.fuse(images, longer)
    torch.testing.assert_close(mean_state(fused_padded, longer), mean_state(fused, tokens), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(now.image.norm(dim=1), torch.ones(len(images)))


def test_bad_input_is_named(batch):
    images, tokens, _ = batch
    model = small()
    with pytest.raises(ValueError, match=r"images.*24, 24"):
        model.fuse(torch.zeros(2, 1, 28, 28), tokens[:2])
    empty = tokens.clone()
    empty[3, 1:] = PAD
    with pytest.raises(ValueError, match=r"empty one \(row 3\)"):
        model.fuse(images, empty)
    with pytest.raises(ValueError, match=r"\[CLS\]"):
        model.fuse(images, tokens[:, 1:])
    with pytest.raises(ValueError, match="at most 32 tokens"):
        model.fuse(images, nn.functional.pad(tokens, (0, 40)))
    with pytest.raises(ValueError, match="heads"):
        Architecture(100, heads=3)
    with pytest.raises(ValueError, match="patch"):
        Architecture(100, patch=5)
    with pytest.raises(ValueError, match="private"):
        Pretraining(small(), "sep")
    with pytest.raises(ValueError, match="variant"):
        runs.FusionConfig(variant="both")


def test_pre_training_sees_training_names_of_the_blocks_alone():
    from gaplib.data import glyphs

    g, draw = glyphs.load(), glyphs.load().draw
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(g), "draw", lambda self, index, *a: seen.append(index) or draw(index, *a))
        for step in range(3):
            pretraining_batches(64, seed=2)(step)
    index = np.concatenate(seen)
    assert len(set(index.tolist())) == len(index)  # one epoch holds a name once
    assert (g.split[index] == "train").all()
    assert all(g.names[i].startswith(BLOCKS) for i in index)


# --- heads ------------------------------------------------------------------------------------------------------------


def test_the_decoder_gives_probabilities_over_all_that_it_can_write():
    batch, table = tasks.task("vqa", "dev", 5), tasks.answer_tokens("vqa")
    model = task_model(small(), 1, table, 27, seed=0).eval()
    with torch.no_grad():
        scores = model.scores(batch.images, batch.tokens)
        states = model.read(batch.images, batch.tokens)[0]
        alone = torch.stack([model.log_likelihood(states, batch.tokens, row.expand(5, -1)) for row in table], dim=1)
        loss = model.loss(batch.images, batch.tokens, batch.answer)
    torch.testing.assert_close(scores, alone)  # ranked together as one at a time
    assert (scores.exp().sum(dim=1) <= 1 + 1e-5).all()  # different strings share one unit of probability
    torch.testing.assert_close(loss, -scores[range(5), batch.answer].mean())


def test_two_images_are_told_apart_and_their_number_is_checked():
    batch = tasks.task("nlvr", "dev", 6)
    model = task_model(small(), 2, None, 2, seed=0).eval()
    with torch.no_grad():
        scores, swapped = (model.scores(x, batch.tokens) for x in (batch.images, batch.images.flip(1)))
    assert scores.shape == (6, 2)
    assert (scores - swapped).abs().max() > 1e-4
    with pytest.raises(ValueError, match=r"images.*\(6, 2, 1"):
        model.scores(batch.images[:, :1], batch.tokens)


# --- training ---------------------------------------------------------------------------------------------------------

TINY = runs.FusionConfig(steps=3, batch_size=8, task_steps=2, task_batch_size=8, test_questions=24)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    from gaplib.data import glyphs

    glyphs.load()
    monkeypatch.setattr(runs, "cache_dir", lambda: tmp_path)
    return tmp_path / "fusion"


def test_runs_are_functions_of_their_configuration_and_kept(cache):
    torch.manual_seed(0)
    first = runs.finetune(TINY, "nlvr")
    files = sorted(cache.glob("*.safetensors"))
    assert len(files) == 2
    assert runs.finetune(TINY, "nlvr").seconds == first.seconds  # read, not trained
    for file in files:
        file.write_bytes(b"damaged")
    torch.manual_seed(1)
    with pytest.warns(UserWarning, match="damaged"):
        again = runs.finetune(TINY, "nlvr")
    assert again.history == first.history
    assert torch.equal(again.chosen, first.chosen)
    assert not runs.pretrain(TINY).model().training
    assert 0 <= first.accuracy <= 1
    assert first.accuracy == float(first.right.double().mean())


def test_of_two_that_want_one_result_one_trains(cache, monkeypatch):
    built, real = [], runs._pretrain
    monkeypatch.setattr(runs, "_pretrain", lambda *args: (built.append(1), real(*args))[1])
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: runs.pretrain(TINY), range(2))
    assert len(built) == 1
    assert first.seconds == second.seconds
    assert all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())


def test_variants_share_all_but_the_term(cache):
    questions = {}
    for variant in ("baseline", "br"):
        result = runs.finetune(runs.replace(TINY, variant=variant), "entailment")
        questions[variant] = (result.kind, result.novel)
    assert all(torch.equal(a, b) for a, b in zip(*questions.values(), strict=True))
    weightless = runs.replace(TINY, variant="gc", weight=0.0)
    baseline = runs.pretrain(TINY)
    assert all(torch.equal(value, baseline.weights[name]) for name, value in runs.pretrain(weightless).weights.items())


def test_a_loss_that_is_not_finite_stops_with_step_and_term_and_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr(losses, "masking_loss", lambda logits, words: logits.sum() * torch.nan)
    with pytest.raises(NonFiniteLoss, match=r"step 0: loss \(masking\)"):
        runs.pretrain(TINY)
    assert {file.suffix for file in cache.iterdir()} <= {".lock"}


def test_unimodal_inputs_hold_one_input_only():
    questions = tasks.task("vqa", "dev", 8)
    assert runs.blank(questions, "text").images.abs().sum() == 0
    assert runs.blank(questions, "image").tokens.tolist() == [[CLS, UNK]] * 8
    with pytest.raises(ValueError, match="inputs"):
        runs.blank(questions, "none")
