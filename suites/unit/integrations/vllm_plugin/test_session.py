"""The session inside an engine process, without an engine: rows, keys, levels and counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engines.vllm.audit import Asked, check_engine_audit, merge_reports
from harness.exceptions import EvidenceError
from harness.integrations.vllm_plugin.payload import Payload, site_number
from harness.integrations.vllm_plugin.rows import Bases, Request, Scheduled, build_step, request_of
from harness.integrations.vllm_plugin.session import EngineSession, Product, Slice, Work
from harness.noise import NoiseSession, build_plan
from harness.noise.custom_ops import SESSIONS, perturb
from harness.runs.evidence import Fed
from harness.spec import RelativeGaussian, parse_noise
from harness.spec.tokens import in_spans
from harness.testing import make_result, tiny_model

pytestmark = pytest.mark.unit
Q, K, HEAD = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "lm_head"


@pytest.fixture
def model(toy):
    return toy()


@pytest.fixture
def plan(model):
    return build_plan(model, parse_noise("relative_gaussian @ op:linear"))


@pytest.fixture
def session(model, plan):
    """A session of a fused layer of q and k and of the head; closed afterwards."""
    made = EngineSession(Payload.of(model, plan, ()))
    sites = {site.name: site for site in plan.sites}
    made.register(Product("qk", (Slice(sites[Q], 0, 32), Slice(sites[K], 32, 48))))
    made.register(Product("lm_head", (Slice(sites[HEAD], 0, 64),), head=True))
    made.open()
    yield made
    made.close()


def request(item="a", seed=0, level=0.1, error=None):
    return Request(item, seed, level, error)


def reference(model, plan, site, rows):
    """What the session of a loaded model makes of the result ``rows`` (tokens, columns) of ``site`` for item a."""
    chosen = next(each for each in plan.sites if each.name == site)
    with NoiseSession(model, plan) as noisy, noisy.batch(["a"], [0], 0.1):
        noisy.begin((1, len(rows)), None, 0, torch.device("cpu"))
        return noisy.inject(chosen, "", rows[None], noisy.frame(chosen))[0]


def test_a_fused_layer_gets_the_draws_of_its_products(model, plan, session):
    y = torch.randn(5, 48)
    session.begin([("r1", request(), 0, 5, 5)], "cpu")
    after = session.inject(session.products["qk"], "", y, session.frame_of(0))
    assert torch.equal(after[:, :32], reference(model, plan, Q, y[:, :32]))
    assert torch.equal(after[:, 32:], reference(model, plan, K, y[:, 32:]))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.lists(st.sampled_from([0.0, 0.05, 0.1]), min_size=4, max_size=4),
)
def test_rows_do_not_depend_on_their_neighbours(lengths, levels):
    """Each request in a mixed batch gets what it gets alone, whatever the levels of the others."""
    specs = [Scheduled(request(f"i{n}", n, levels[n]), 3 * n, size, 4, 0) for n, size in enumerate(lengths)]
    bases = Bases("item")
    together = build_step(specs, RelativeGaussian(), bases)
    keys = torch.zeros(sum(lengths), dtype=torch.int64)
    for group in together.body:
        rows = torch.arange(together.tokens) if group.indices is None else group.indices
        keys[rows] = group.frame.rows.keys[0]
        assert group.frame.level == group.level
    start = 0
    for spec in specs:
        alone = build_step([spec], RelativeGaussian(), bases)
        assert torch.equal(alone.body[0].frame.rows.keys[0], keys[start : start + spec.tokens])
        start += spec.tokens


def test_levels_and_seeds_of_one_batch_are_counted_apart(session):
    y = torch.randn(6, 48)
    work = [
        ("r1", request("a", 0, 0.0), 0, 2, 2),
        ("r2", request("b", 1, 0.1), 0, 3, 3),
        ("r3", request("c", 0, 0.1), 0, 1, 1),
    ]
    session.begin(work, "cpu")
    after = session.inject(session.products["qk"], "", y, session.frame_of(0))
    assert torch.equal(after[:2], y[:2])
    assert not torch.equal(after[2:], y[2:])
    counts = {(count.site, count.level): count for count in session.drain([0.0, 0.1])}
    assert counts[Q, 0.0].rows == 2 and counts[Q, 0.0].changed == 0
    assert counts[Q, 0.1].rows == 4 and counts[Q, 0.1].elements == 4 * 32 and counts[K, 0.1].elements == 4 * 16
    assert session.drain([0.0, 0.1]) == [] or all(count.rows == 0 for count in session.drain([0.1]))


def test_preempted_rows_and_unfinished_prompts_do_not_count(session):
    y, logits = torch.randn(4, 48), torch.randn(1, 64)
    qk, head = session.products["qk"], session.products["lm_head"]
    first = {}
    for computed, tokens in (
        (0, 4),
        (4, 2),
        (0, 4),
        (4, 2),
        (6, 1),
    ):  # two chunks, taken from the cache, again, decoding
        session.begin([("r1", request(), computed, tokens, 6)], "cpu")
        noisy = session.inject(qk, "", y[:tokens], session.frame_of(0))
        session.inject(head, "", logits, session.frame_of(0))
        assert torch.equal(first.setdefault(computed, noisy), noisy)  # perturbed alike, counted once
    counts = {count.site: count for count in session.drain([0.1])}
    assert counts[Q].rows == 7
    assert counts[HEAD].rows == 2  # the end of the prompt and the token after it
    assert session.take_work() == Work(5, 6, 3)
    session.forget(["r1"])
    session.begin([("r1", request(), 0, 2, 6)], "cpu")
    assert session.frame_of(0).uncounted[0] == 2
    session.forget([])
    session.begin([("r1", request(), 0, 2, 6)], "cpu")
    assert session.frame_of(0).uncounted[0] == 0


def test_the_operator_reaches_the_session_by_its_handle(session):
    y = torch.randn(2, 48)
    token = torch.zeros((), dtype=torch.int64)
    number = site_number("qk")
    assert torch.equal(perturb(y, token, session.handle, number, ""), y)  # no forward has begun: a warm-up
    session.begin([("r1", request(), 0, 2, 2)], "cpu")
    assert not torch.equal(perturb(y, token, session.handle, number, ""), y)
    assert session not in SESSIONS.open()  # that is for sessions on models
    session.close()
    assert torch.equal(perturb(y, token, session.handle, number, ""), y)


def test_compiled_code_of_another_build_is_named(session):
    y = torch.randn(2, 48)
    session.begin([("r1", request(), 0, 2, 2)], "cpu")
    assert torch.equal(perturb(y, torch.zeros((), dtype=torch.int64), session.handle, 12345, ""), y)
    assert ["stale compile cache" in problem for problem in session.troubles()] == [True]
    assert session.troubles() == []


@pytest.mark.parametrize("left_out", [Q, K])
def test_columns_of_products_that_are_left_alone_stay_as_they_are(model, plan, left_out):
    kept = [
        Slice(site, *bounds)
        for site in plan.sites
        for name, bounds in ((Q, (0, 32)), (K, (32, 48)))
        if site.name == name != left_out
    ]
    made = EngineSession(Payload.of(model, plan, (), run=left_out))
    made.register(Product("qk", tuple(kept)))
    made.open()
    y = torch.randn(3, 48)
    made.begin([("r1", request(), 0, 3, 3)], "cpu")
    after = made.inject(made.products["qk"], "", y, made.frame_of(0))
    noisy = torch.zeros(48, dtype=torch.bool)
    noisy[kept[0].start : kept[0].stop] = True
    assert torch.equal(after[:, ~noisy], y[:, ~noisy])
    assert (after[:, noisy] != y[:, noisy]).float().mean() > 0.9
    (piece,) = made.pieces(site_number("qk"))
    assert (piece.start, piece.stop, piece.head) == (kept[0].start, kept[0].stop, False)
    made.close()


def test_a_layer_that_sees_its_heads_apart_has_a_row_for_each_token(session):
    y = torch.randn(2, 3, 16)
    session.begin([("r1", request(), 0, 2, 2)], "cpu")
    after = session.inject(session.products["qk"], "", y, session.frame_of(0))
    session.begin([("r1", request(), 2, 2, 2)], "cpu")
    session.forget([])
    session.begin([("r2", request(), 0, 2, 2)], "cpu")
    assert torch.equal(
        after.reshape(2, 48), session.inject(session.products["qk"], "", y.reshape(2, 48), session.frame_of(0))
    )
    assert session.troubles() == []


def test_layers_without_a_name_take_those_of_the_model_in_order(model, plan):
    made = EngineSession(Payload.of(model, plan, ()))
    names = [made.next_name("rms_norm") for _ in range(6)]
    assert names[:3] == [
        f"model.layers.{n}" for n in ("0.input_layernorm", "0.post_attention_layernorm", "1.input_layernorm")
    ]
    assert names[4:] == ["model.norm", None]


def test_rows_that_cannot_be_told_apart_are_named(session):
    session.begin([("r1", request(), 0, 2, 2)], "cpu")
    y = torch.randn(3, 48)
    assert torch.equal(session.inject(session.products["qk"], "", y, session.frame_of(0)), y)
    assert "computed 3 rows in a forward of 2" in session.troubles()[0]


def test_another_error_model_for_one_request(session):
    y = torch.randn(2, 48)
    session.begin([("r1", request(error="systematic_bias"), 0, 2, 2)], "cpu")
    after = session.inject(session.products["qk"], "", y, session.frame_of(0))
    assert torch.allclose((after - y).abs(), torch.full_like(y, 0.1))


def test_requests_without_a_name_are_refused():
    with pytest.raises(EvidenceError, match="request r1; it names no item"):
        request_of(None, "key", "r1")
    assert request_of({"key": request().to_json()}, "key", "r1") == request()


def test_requests_without_a_name_take_what_was_set_for_all():
    found = [request_of(None, "key", "r", tokens, request("", 3, 0.2)) for tokens in ([1, 2], [12], [1, 2])]
    assert [(each.seed, each.level) for each in found] == [(3, 0.2)] * 3
    assert found[0].item == found[2].item != found[1].item
    assert request_of({"key": request().to_json()}, "key", "r", [1], request("", 3, 0.2)) == request()


def test_two_engines_in_one_process_are_refused(plan, session):
    with pytest.raises(EvidenceError, match="two engines"):
        EngineSession(session.payload).open()
    EngineSession(replace(session.payload, run="another")).open()


def test_sites_without_a_layer_are_missing(session, plan):
    assert len(session.missing()) == len(plan.sites) - 3
    assert Q not in session.missing()


def test_a_payload_survives_json(model, plan):
    payload = Payload.of(
        model, plan, (build_plan(toy_again(), parse_noise("fake_quant(mxfp4) @ op:linear at:weight")),)
    )
    assert Payload.from_json(payload.to_json()) == payload
    assert payload.handle == Payload.from_json(payload.to_json()).handle
    assert payload.handle != replace(payload, noise=parse_noise("relative_gaussian @ op:linear key:shared")).handle


def toy_again():
    return tiny_model(num_hidden_layers=1, num_attention_heads=2)


SEEN = {"forwards": 1, "products": 3, "matched": 2, "rows": 10, "squared": 1000 * 0.01, "nonzero": 1000}
SEEN |= {"changed": 999, "strays": 0, "draws": []}
REPORTS = [{"adapters": False, "layers": 3, "linears": ["a"], "heads": ["b"]}]


def audited(level=0.1, relative=0.1, phase="decode", **change):
    from harness.record import SiteCount
    from harness.runs.choice import Choice, Trail

    counts = [SiteCount("a", "linear", 0.1, rows=12), SiteCount("b", "linear", 0.1, rows=5)]
    work = {"forwards": 2, "body": 2, "head": 1}
    seen = {"prefill": SEEN, "decode": SEEN} | {phase: SEEN | change}
    audits = check_engine_audit(seen, REPORTS, counts, work, Asked(Choice(level, 0, 1, Trail(0, "")), relative))
    assert [(audit.phase, audit.forwards, audit.level) for audit in audits] == [
        ("prefill", 1, level),
        ("decode", 1, level),
    ]
    return [problem for audit in audits for problem in audit.problems]


def test_an_audit_that_agrees_has_no_problem():
    assert audited() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"products": 2}, "2 products ran, expected 3"),
        ({"matched": 1}, "1 products went through the operator, expected 2"),
        ({"squared": 1.0}, "relative error of 0.0316, 0.1 was asked for"),
        ({"strays": 2}, "2 elements differ in columns or tokens that the plan leaves alone, expected 0"),
        ({"nonzero": 0}, "relative error of 0, 0.1 was asked for"),
        ({"draws": ["a has draws like b"]}, "a has draws like b"),
    ],
)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_an_audit_that_disagrees_says_where(change, words, phase):
    """Each phase is judged by itself."""
    (problem,) = audited(phase=phase, **change)
    assert problem.startswith(f"audit: {phase}: ") and words in problem


def test_rows_are_those_of_all_forwards():
    assert audited(rows=9) == ["audit: 19 rows of products went through the operator, expected 20"]


def test_no_element_differs_in_the_clean_arm():
    for phase, problem in zip(("prefill", "decode"), audited(level=0.0, relative=None), strict=True):
        assert problem == f"audit: {phase}: 999 elements differ from their product in the clean arm"


def test_reports_of_several_processes_add_up():
    reports = [{"decode": {"products": 2, "draws": ["a"]}}, {"decode": {"products": 3, "draws": ["b"]}}]
    assert merge_reports(reports) == {"decode": {"products": 5, "draws": ["a", "b"]}}


@pytest.mark.parametrize("words", ["prefill", "first", "decode", "decode:2-", "first,decode:2"])
@pytest.mark.parametrize("chunks", [(7, 1, 1, 1), (3, 4, 1, 1, 1), (7, 1, 7, 2, 1)])
def test_a_selection_of_tokens_depends_neither_on_chunks_nor_on_neighbours(model, words, chunks):
    """A prompt of 7 and three decode steps, fed in chunks (the last case is preempted and fed again)."""
    plan = build_plan(model, parse_noise(f"relative_gaussian @ op:linear tokens:{words}"))
    made = EngineSession(Payload.of(model, plan, ()))
    sites = {site.name: site for site in plan.sites}
    made.register(Product("qk", (Slice(sites[Q], 0, 32), Slice(sites[K], 32, 48))))
    made.register(Product("lm_head", (Slice(sites[HEAD], 0, 64),), head=True))
    made.open()
    y, logits = torch.randn(10, 48), torch.randn(10, 64)
    other = torch.randn(2, 48)
    computed = 0
    for tokens in chunks:
        computed = 0 if computed + tokens > 10 or tokens == 7 else computed
        rows = slice(computed, computed + tokens)
        made.begin([("b", request("b"), 0, 2, 2), ("r", request(), computed, tokens, 7)], "cpu")
        step = made.frame_of(0)
        after = made.inject(made.products["qk"], "", torch.cat([other, y[rows]]), step)[2:]
        ends = made.inject(made.products["lm_head"], "", torch.cat([logits[:1], logits[rows][-1:]]), step)[1:]
        wanted = [in_spans(position - 6, plan.spec.spans) for position in range(10)]
        for number, position in enumerate(range(computed, computed + tokens)):
            assert torch.equal(after[number], y[position]) is not wanted[position]
        last = computed + tokens - 1
        assert torch.equal(ends[0], logits[last]) is not wanted[last]
        computed += tokens
    result = make_result(prompt_tokens=7, tokens=(5, 5, 5, 5), truncated=True)
    counts = {count.site: count for count in made.drain([0.1])}
    own = Fed.of([result], plan.spec.tokens)
    neighbour = Fed.of([make_result(prompt_tokens=2, tokens=(5,), truncated=True)], plan.spec.tokens)
    assert counts[Q].rows == own.tokens + neighbour.tokens
    assert counts[HEAD].rows == own.steps + neighbour.steps
    made.close()
