"""Generation with real transformers models: the law of the text, caches, seeds, and what is refused."""

import itertools
import pathlib

import numpy as np
import pytest
from conftest import LEVEL, chi_square, softmax

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", minversion="5", reason="transformers 5 is not installed")

import draftpick.transformers as dt  # noqa: E402

PAIR = pathlib.Path(__file__).parents[2] / "assets" / "tiny-pair"
PROMPT = "The `Vec` type is"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pair():
    load = transformers.AutoModelForCausalLM.from_pretrained
    return tuple(load(PAIR / name, dtype=torch.float32).eval() for name in ("target", "draft"))


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(PAIR / "tokenizer.json"))


@pytest.fixture(scope="module")
def prompt(tokenizer):
    return tokenizer(PROMPT, return_tensors="pt")["input_ids"]


def generate(pair, prompt, *args, **keywords):
    return dt.generate(*pair, prompt, *args, **{"tokenizers": None, "seeds": 1, **keywords})


SAMPLING = dict(temperature=0.9, top_k=5)


@pytest.fixture(scope="module")
def exact(pair, prompt):
    """The law of the first two tokens by the target model alone, with its own top 5: at most 25 texts."""

    def law(text):
        with torch.inference_mode():
            logits = pair[0](torch.tensor([text])).logits[0, -1].numpy() / SAMPLING["temperature"]
        least = np.sort(logits)[-SAMPLING["top_k"]]
        return softmax(np.where(logits >= least, logits, -np.inf))

    text, total = prompt[0].tolist(), {}
    first = law(text)
    for one in np.flatnonzero(first):
        second = law(text + [int(one)])
        total |= {(int(one), int(two)): first[one] * second[two] for two in np.flatnonzero(second)}
    return total


def p_value(exact, texts):
    """How well two-token texts fit the law."""
    counts = dict.fromkeys(exact, 0)
    for text in texts:
        if text not in counts:
            return 0.0
        counts[text] += 1
    return chi_square(list(counts.values()), list(exact.values()))


ROUNDS = 800


def texts(pair, prompt, **keywords):
    """Two tokens of many texts; a third is asked for so that a round can hold them."""
    batch = prompt.expand(ROUNDS, -1)
    out = generate(pair, batch, 2, 2, seeds=range(ROUNDS), max_new_tokens=3, eos_token_id=(), **{**SAMPLING, **keywords})
    return [tuple(new[:2]) for new in out.new_tokens]


@pytest.mark.parametrize("verifier, tree, draft", [("path", True, 1.3), ("traversal", False, 0.9), ("token:kseq", True, 0.9)])
def test_the_text_has_the_law_of_plain_sampling(pair, prompt, exact, verifier, tree, draft):
    found = texts(pair, prompt, verifier=verifier, tree=tree, draft_temperature=draft)
    assert p_value(exact, found) > LEVEL


def test_plain_sampling_by_transformers_passes_the_same_test(pair, prompt, exact):
    torch.manual_seed(1)
    out = pair[0].generate(
        prompt, do_sample=True, max_new_tokens=2, min_new_tokens=2, num_return_sequences=2000, top_p=1.0, **SAMPLING
    )
    assert p_value(exact, [tuple(row) for row in out[:, prompt.shape[1] :].tolist()]) > LEVEL


def test_drafts_of_another_temperature_than_stated_fail_it(pair, prompt, exact, monkeypatch):
    honest = dt.draw
    monkeypatch.setattr(dt, "draw", lambda logits, luck, **s: honest(logits, luck, **{**s, "temperature": 0.3}))
    assert p_value(exact, texts(pair, prompt, verifier="path")) < LEVEL


@pytest.mark.parametrize("K, L, verifier", [(1, 4, "block"), (3, 5, "path"), (3, 2, "traversal"), (2, 3, "token:optimal-linear")])
def test_greedy_text_is_the_targets(pair, prompt, K, L, verifier):
    plain = pair[0].generate(prompt, do_sample=False, max_new_tokens=40)[0].tolist()
    for tree in (False, True):
        out = generate(
            pair, prompt, K, L, verifier, max_new_tokens=40, temperature=0, draft_temperature=0.7, tree=tree
        )
        assert out.sequences[0].tolist() == plain
        assert out.target_calls < 40


def test_a_tree_and_rows_say_the_same(pair, prompt):
    one, other = (generate(pair, prompt, 4, 5, max_new_tokens=50, tree=tree) for tree in (False, True))
    assert one.new_tokens == other.new_tokens and one.target_calls == other.target_calls + 1


def test_caches_hold_what_a_fresh_model_would(pair, prompt):
    """After some rounds the logits from both caches are those of reading the whole text anew."""
    for tree in (False, True):
        text = dt._Text(*pair, prompt[0].tolist(), 7, tree)
        with torch.inference_mode():
            for _ in range(6):
                text.round(3, 4, "path", {"temperature": 1.0}, 1.0)
            whole = torch.tensor([text.tokens])
            for cached, model in ((text.target, pair[0]), (text.draft, pair[1])):
                rest = text.tokens[cached.length :]
                assert 1 <= len(rest) <= 2
                logits = cached.read(torch.tensor([rest]), last=True)[0, -1]
                np.testing.assert_allclose(logits, model(whole).logits[0, -1], atol=2e-4)


def test_a_text_depends_on_its_seed_alone(pair, tokenizer):
    tokenizer.pad_token, tokenizer.padding_side = "<|endoftext|>", "left"
    batch = tokenizer([PROMPT, "Returns", "let x = "], return_tensors="pt", padding=True)
    assert not batch["attention_mask"].all()
    out = generate(pair, batch, 3, 4, seeds=[5, 6, 7], max_new_tokens=12)
    for row, text in enumerate([PROMPT, "Returns", "let x = "]):
        alone = generate(pair, tokenizer(text, return_tensors="pt"), 3, 4, seeds=5 + row, max_new_tokens=12)
        assert alone.new_tokens[0] == out.new_tokens[row]
        ids = alone.sequences[0].tolist()
        assert out.sequences[row, : len(ids)].tolist() == ids and not out.sequences[row, len(ids) :].any()
    other = generate(pair, batch, 3, 4, seeds=[8, 9, 10], max_new_tokens=12)
    assert other.new_tokens != out.new_tokens
    torch.manual_seed(3)
    one = generate(pair, batch, 3, 4, seeds=None, max_new_tokens=4)
    torch.manual_seed(3)
    assert one.new_tokens == generate(pair, batch, 3, 4, seeds=None, max_new_tokens=4).new_tokens


def test_limits_and_ends(pair, prompt):
    for limit in (1, 2, 7):
        out = generate(pair, prompt, 2, 5, max_new_tokens=limit, eos_token_id=())
        assert len(out.new_tokens[0]) == limit
    long = generate(pair, prompt, 2, 5, max_new_tokens=30, eos_token_id=()).new_tokens[0]
    end = long[9]
    cut = generate(pair, prompt, 2, 5, max_new_tokens=30, eos_token_id=end).new_tokens[0]
    assert cut == long[: long.index(end) + 1]
    plain = generate(pair, prompt, 2, 0, max_new_tokens=5)
    assert plain.draft_calls == 0 and plain.target_calls == 5 and plain.block_efficiency == 1


def test_a_draft_model_of_a_smaller_vocabulary_is_padded(pair, prompt):
    config = transformers.LlamaConfig(
        vocab_size=4000, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    torch.manual_seed(0)
    small = transformers.LlamaForCausalLM(config).eval()
    out = generate((pair[0], small), prompt, 2, 3, max_new_tokens=12)
    assert 1 <= len(out.new_tokens[0]) <= 12


def test_more_tokens_for_each_call_than_one_chain_token_by_token(pair, prompt, tokenizer):
    """Not a timing: the same prompts, the same L, and every forward call of the target counted."""
    prompts = (PAIR / "prompts.txt").read_text().splitlines()[:12]
    ids = [tokenizer(text, return_tensors="pt")["input_ids"] for text in prompts]
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    hook = pair[0].register_forward_hook(count)
    try:
        ours = [generate(pair, one, 4, 5, seeds=2, max_new_tokens=32, eos_token_id=()) for one in ids]
        assert calls == sum(out.target_calls for out in ours)
    finally:
        hook.remove()
    chain = [generate(pair, one, 1, 5, "token:maximal", seeds=2, max_new_tokens=32, eos_token_id=()) for one in ids]
    assert sum(o.block_efficiency for o in ours) > 1.1 * sum(o.block_efficiency for o in chain)


class Vocabulary:
    def __init__(self, *tokens):
        self.tokens = tokens

    def get_vocab(self):
        return {token: number for number, token in enumerate(self.tokens)}


@pytest.mark.parametrize(
    "keywords, message",
    [
        (dict(tokenizers="local"), "no tokenizer of the target model is at"),
        (dict(tokenizers=(Vocabulary("a", "b"), Vocabulary("a", "c"))), "token 1 is 'b' to the target and 'c' to the draft"),
        (dict(tokenizers=(Vocabulary(), Vocabulary("a"))), "no token in common"),
        (dict(max_new_tokens=0), "max_new_tokens is 0"),
        (dict(max_new_tokens=2000), "more than the 1024"),
        (dict(K=0), "K is 0"),
        (dict(L=64), "L is 64"),
        (dict(K=2, verifier="block"), "block takes one path, not 2"),
        (dict(verifier="best"), "no path verifier is called 'best'"),
        (dict(temperature=-1.0), "temperature is -1"),
    ],
)
def test_refuses(pair, prompt, keywords, message):
    with pytest.raises(ValueError, match=message):
        generate(pair, prompt, **keywords)


@pytest.mark.parametrize("inputs", [torch.zeros(1, 0, dtype=torch.long), torch.zeros(0, 3, dtype=torch.long), torch.zeros(1, 3)])
def test_refuses_what_is_no_prompt(pair, inputs):
    with pytest.raises(ValueError, match="prompt|integers"):
        generate(pair, inputs)


def test_refuses_caches_that_forget(pair, prompt):
    config = transformers.MistralConfig(
        vocab_size=4096, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=8,
    )
    with pytest.raises(ValueError, match="the draft model has a cache of DynamicSlidingWindowLayer"):
        generate((pair[0], transformers.MistralForCausalLM(config).eval()), prompt)


def test_tokenizers_that_agree_are_taken(pair, prompt, tokenizer):
    out = generate(pair, prompt, tokenizers=(tokenizer, tokenizer), max_new_tokens=2)
    assert len(out.new_tokens[0]) == 2
    shared = list(itertools.islice(tokenizer.get_vocab(), 3))
    assert dt._check_tokenizers(Vocabulary(*shared), Vocabulary(*shared, "more")) is None


def by_transformers(pair, inputs, **keywords):
    keywords = {"seeds": 1, "tokenizers": None, "pad_token_id": 0, **keywords}
    inputs = inputs if isinstance(inputs, dict) else {"input_ids": inputs}
    return pair[0].generate(**inputs, custom_generate=dt.custom_generate, draft_model=pair[1], **keywords)


def test_generate_takes_the_loop_as_its_own(pair, prompt):
    plain = pair[0].generate(prompt, do_sample=False, max_new_tokens=30)
    ours = by_transformers(pair, prompt, do_sample=False, max_new_tokens=30, draft_temperature=0.7)
    assert torch.equal(ours, plain)
    settings = dict(do_sample=True, max_new_tokens=20, temperature=0.8, top_k=20, top_p=0.95)
    one = by_transformers(pair, prompt, K=3, L=4, verifier="traversal", return_dict_in_generate=True, **settings)
    own = generate(pair, prompt, 3, 4, "traversal", max_new_tokens=20, temperature=0.8, top_k=20, top_p=0.95)
    assert one.sequences[0].tolist() == own.sequences[0].tolist()


def test_its_text_has_the_law_of_generates_own(pair, prompt, exact):
    batch = prompt.expand(ROUNDS, -1)
    out = by_transformers(
        pair, batch, K=2, L=2, seeds=range(ROUNDS), do_sample=True, max_new_tokens=3, top_p=1.0, eos_token_id=None, **SAMPLING
    )
    assert p_value(exact, [tuple(row[:2]) for row in out[:, prompt.shape[1] :].tolist()]) > LEVEL


def test_padded_prompts_and_ends_of_text(pair, tokenizer):
    tokenizer.pad_token, tokenizer.padding_side = "<|endoftext|>", "left"
    batch = dict(tokenizer([PROMPT, "Returns"], return_tensors="pt", padding=True))
    out = by_transformers(pair, batch, do_sample=True, seeds=[5, 6], max_new_tokens=12, num_return_sequences=1)
    assert torch.equal(out[:, : batch["input_ids"].shape[1]], batch["input_ids"])
    for row, text in enumerate([PROMPT, "Returns"]):
        alone = by_transformers(
            pair, tokenizer(text, return_tensors="pt")["input_ids"], do_sample=True, seeds=5 + row, max_new_tokens=12
        )
        new = alone[0, len(tokenizer(text)["input_ids"]) :].tolist()
        assert out[row, batch["input_ids"].shape[1] :].tolist()[: len(new)] == new
    three = by_transformers(pair, batch, do_sample=True, seeds=range(6), max_new_tokens=4, num_return_sequences=3)
    assert three.shape[0] == 6


@pytest.mark.parametrize(
    "keywords, message",
    [
        (dict(draft_model=None), "give draft_model"),
        (dict(num_beams=2), "num_beams is 2"),
        (dict(repetition_penalty=1.2), "logits processor RepetitionPenaltyLogitsProcessor is not applied"),
        (dict(max_time=3.0), "stopping criterion MaxTimeCriteria is not applied"),
        (dict(K=0), "K is 0"),
    ],
)
def test_what_it_cannot_keep_it_refuses(pair, prompt, keywords, message):
    keywords = {"draft_model": pair[1], "max_new_tokens": 4, "tokenizers": None, "seeds": 1, **keywords}
    with pytest.raises(ValueError, match=message):
        pair[0].generate(prompt, custom_generate=dt.custom_generate, **keywords)
